"""Every configuration file of the control plane, as data.

The shipped files are hundreds of kilobytes of comments, so they are replaced, not edited.
"""

import re
from pathlib import Path

REGION = "regionOne"
PASSWORD = "lab-only"
RABBIT_USER = "openstack"


def auth(host, user):
    return {
        "auth_url": f"http://{host}:5000/v3",
        "auth_type": "password",
        "project_name": "service",
        "project_domain_name": "Default",
        "user_domain_name": "Default",
        "username": user,
        "password": PASSWORD,
        "region_name": REGION,
    }


def token(host, user):
    return {"www_authenticate_uri": f"http://{host}:5000", **auth(host, user)}


def database(user, name=None):
    # TCP to the loopback address: the sockets of MariaDB live in a directory that not every user may enter.
    return {
        "connection": f"mysql+pymysql://{user}:{PASSWORD}@127.0.0.1/{name or user}?charset=utf8",
        "max_pool_size": 5,
    }


def transport_url(host):
    return f"rabbit://{RABBIT_USER}:{PASSWORD}@{host}:5672/"


def keystone():
    return {"DEFAULT": {"log_dir": "/var/log/keystone"}, "database": database("keystone"),
            "token": {"provider": "fernet"},
            # Each service logs in: at the default of 12 rounds that is half a second of CPU every time.
            "identity": {"password_hash_rounds": 4}}


def placement(host):
    return {
        "api": {"auth_strategy": "keystone"},
        "keystone_authtoken": token(host, "placement"),
        "placement_database": database("placement"),
    }


def glance(host):
    return {
        "DEFAULT": {"enabled_backends": "file:file", "log_dir": "/var/log/glance"},
        "glance_store": {"default_backend": "file"},
        "file": {"filesystem_store_datadir": "/var/lib/glance/images"},
        "database": database("glance"),
        "keystone_authtoken": token(host, "glance"),
        "paste_deploy": {"flavor": "keystone"},
        "oslo_concurrency": {"lock_path": "/var/lock/glance"},
    }


def nova(host):
    return {
        "DEFAULT": {
            "my_ip": host,
            "transport_url": transport_url(host),
            "state_path": "/var/lib/nova",
            "log_dir": "/var/log/nova",
        },
        "api_database": database("nova", "nova_api"),
        "database": database("nova"),
        "api": {"auth_strategy": "keystone"},
        "keystone_authtoken": token(host, "nova"),
        "placement": auth(host, "placement"),
        "glance": {"api_servers": f"http://{host}:9292"},
        "neutron": auth(host, "neutron"),
        "oslo_concurrency": {"lock_path": "/var/lock/nova"},
        "conductor": {"workers": 1},
        "scheduler": {"workers": 1},
    }


def neutron(host):
    return {
        "DEFAULT": {
            "core_plugin": "ml2",
            "service_plugins": "",
            "transport_url": transport_url(host),
            "auth_strategy": "keystone",
            "api_workers": 1,
            "rpc_workers": 1,
            "notify_nova_on_port_status_changes": "true",
            "notify_nova_on_port_data_changes": "true",
            "state_path": "/var/lib/neutron",
            "log_dir": "/var/log/neutron",
        },
        "database": database("neutron"),
        "keystone_authtoken": token(host, "neutron"),
        "nova": auth(host, "nova"),
        "placement": auth(host, "placement"),
        "oslo_concurrency": {"lock_path": "/var/lock/neutron"},
    }


ML2 = {
    "ml2": {
        "type_drivers": "flat,vxlan",
        "tenant_network_types": "vxlan",
        "mechanism_drivers": "openvswitch",
    },
    "ml2_type_vxlan": {"vni_ranges": "1:1000"},
}

# Two cores at best: one worker each, and no sync that a throw-away database does not need.
MARIADB = """[mysqld]
bind-address=127.0.0.1
max_connections=512
innodb_flush_log_at_trx_commit=0
innodb_buffer_pool_size=128M
innodb_log_file_size=16M
performance_schema=OFF
skip-name-resolve
"""

RABBIT_ENV = """NODENAME=rabbit@ctl
RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
"""

# A namespace without CAP_SYS_RESOURCE refuses what the packages ask for (65535 files, OOM score -500).
LIMITS = """[Service]
LimitNOFILE=16384
OOMScoreAdjust=0
"""



def order(needs):
    """At boot all units start at once; without an order they crash into a closed database first."""
    units = " ".join(f"{unit}.service" for unit in needs)
    return f"[Unit]\nRequires={units}\nAfter={units}\n"


def ini(sections):
    blocks = []
    for section, values in sections.items():
        lines = [f"{key} = {value}" for key, value in values.items()]
        blocks.append("\n".join([f"[{section}]", *lines]) + "\n")
    return "\n".join(blocks)


def write(path, text, group=None):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if group:
        import shutil

        shutil.chown(path, "root", group)
        path.chmod(0o640)


def tune_uwsgi(path, processes, threads):
    """Few processes and threads, no AppArmor, and a Connection header.

    Debian's ini drops Content-Length and closes the connection; keystone and nova do not announce it, so a
    client that reuses the connection after a 204 is reset.
    """
    path = Path(path)
    text = path.read_text()
    text = re.sub(r"(?m)^processes *=.*$", f"processes = {processes}", text)
    text = re.sub(r"(?m)^threads *=.*$", f"threads = {threads}", text)
    text = re.sub(r"(?m)^plugins *=.*$", "plugins = python3", text)
    text = re.sub(r"(?m)^apparmor-profile *=.*\n", "", text)
    if "add-header = Connection: close" not in text:
        text = text.rstrip("\n") + "\nadd-header = Connection: close\n"
    path.write_text(text)


def write_all(host):
    write("/etc/systemd/system/service.d/10-limits.conf", LIMITS)
    write("/etc/mysql/mariadb.conf.d/99-lab.cnf", MARIADB)
    write("/etc/rabbitmq/rabbitmq-env.conf", RABBIT_ENV)
    write("/etc/rabbitmq/rabbitmq.conf", f"listeners.tcp.1 = {host}:5672\n")
    write("/etc/hosts", f"127.0.0.1 localhost\n{host} ctl\n")
    write("/etc/keystone/keystone.conf", ini(keystone()), "keystone")
    write("/etc/placement/placement.conf", ini(placement(host)), "placement")
    write("/etc/glance/glance-api.conf", ini(glance(host)), "glance")
    write("/etc/nova/nova.conf", ini(nova(host)), "nova")
    write("/etc/neutron/neutron.conf", ini(neutron(host)), "neutron")
    write("/etc/neutron/plugins/ml2/ml2_conf.ini", ini(ML2), "neutron")
    for service, file in (
        ("keystone", "keystone"),
        ("placement", "placement-api"),
        ("glance", "glance-api"),
        ("neutron", "neutron-api"),
    ):
        tune_uwsgi(f"/etc/{service}/{file}-uwsgi.ini", processes=1, threads=6)
    # One thread each: the greenlet that reads RPC replies belongs to the thread that asked first, and sleeps while
    # another thread waits for its own reply, which then never comes.
    tune_uwsgi("/etc/nova/nova-api-uwsgi.ini", processes=2, threads=1)
