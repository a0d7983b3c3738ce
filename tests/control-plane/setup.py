"""Turns a root with the packages into a control plane: setup.py ADDRESS GUEST_DIRECTORY.

Every step is named, timed and may be repeated.
"""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import config
from api import PORTS, Api, ApiError, wait_until

CATALOG = {
    "placement": ("placement", ""),
    "glance": ("image", ""),
    "nova": ("compute", "/v2.1"),
    "neutron": ("network", ""),
}
DATABASE = ["mariadb"]
MESSAGES = ["mariadb", "rabbitmq-server"]
# What each needs to start; the APIs talk to RabbitMQ only when they are asked something.
OPENSTACK_UNITS = {
    "keystone": DATABASE,
    "placement-api": DATABASE,
    "glance-api": DATABASE,
    "nova-api": DATABASE,
    "neutron-api": DATABASE,
    "nova-conductor": MESSAGES,
    "nova-scheduler": MESSAGES,
    "neutron-rpc-server": MESSAGES,
}
UNUSED_UNITS = [
    "nova-api-metadata.service", "open-iscsi.service", "iscsid.socket", "apt-daily.timer",
    "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer",
    "logrotate.timer", "dpkg-db-backup.timer", "getty.target", "console-getty.service",
]


class Failed(Exception):
    """A program that did not succeed, with the end of what it said."""


def run(*argv, user=None):
    argv = ["runuser", "-u", user, "--", *argv] if user else list(argv)
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout[-4000:]}")
    return done.stdout


def start(*units):
    run("systemctl", "start", *units)


class Setup:
    def __init__(self, host, guest):
        self.host = host
        self.guest = Path(guest)
        self.api = Api(host, config.PASSWORD)

    def step_config(self):
        config.write_all(self.host)
        run("systemctl", "mask", "--now", *UNUSED_UNITS)
        run("systemctl", "daemon-reload")

    def step_databases(self):
        run("systemctl", "restart", "mariadb")
        statements = []
        for name in ("keystone", "placement", "glance", "nova", "nova_api", "nova_cell0", "neutron"):
            user = name.split("_")[0]
            statements += [
                f"CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8",
                f"GRANT ALL ON {name}.* TO '{user}'@'127.0.0.1' IDENTIFIED BY '{config.PASSWORD}'",
            ]
        run("mysql", "-e", "; ".join(statements))

    def step_messages(self):
        run("systemctl", "restart", "rabbitmq-server")
        users = run("rabbitmqctl", "-q", "list_users")
        if config.RABBIT_USER not in users:
            run("rabbitmqctl", "add_user", config.RABBIT_USER, config.PASSWORD)
        run("rabbitmqctl", "set_permissions", config.RABBIT_USER, ".*", ".*", ".*")

    def step_schemas(self):
        """All databases, in two lanes of about the same length."""
        with ThreadPoolExecutor(2) as lanes:
            for lane in [lanes.submit(self._nova_schemas), lanes.submit(self._other_schemas)]:
                lane.result()

    def _nova_schemas(self):
        run("nova-manage", "api_db", "sync", user="nova")
        cell0 = config.database("nova", "nova_cell0")["connection"]
        run("nova-manage", "cell_v2", "map_cell0", "--database_connection", cell0, user="nova")
        if "cell1" not in run("nova-manage", "cell_v2", "list_cells", user="nova"):
            run("nova-manage", "cell_v2", "create_cell", "--name=cell1", user="nova")
        run("nova-manage", "db", "sync", user="nova")

    def _other_schemas(self):
        run("keystone-manage", "db_sync", user="keystone")
        run("placement-manage", "db", "sync", user="placement")
        run("glance-manage", "db_sync", user="glance")
        run(
            "neutron-db-manage", "--config-file", "/etc/neutron/neutron.conf",
            "--config-file", "/etc/neutron/plugins/ml2/ml2_conf.ini", "upgrade", "head",
            user="neutron",
        )

    def step_keystone(self):
        for kind in ("fernet_setup", "credential_setup"):
            run("keystone-manage", kind, "--keystone-user", "keystone", "--keystone-group", "keystone")
        url = f"http://{self.host}:5000/v3"
        run(
            "keystone-manage", "bootstrap", "--bootstrap-password", config.PASSWORD,
            "--bootstrap-region-id", config.REGION, "--bootstrap-public-url", url,
            "--bootstrap-internal-url", url, "--bootstrap-admin-url", url, user="keystone",
        )
        start("keystone")
        wait_until(60, "keystone", lambda: self.api.answers("identity"))

    def step_catalog(self):
        identity = lambda path, body: self.api.post("identity", path, body)
        names = {item["name"] for item in self.api.get("identity", "/v3/projects")["projects"]}
        if "service" not in names:
            identity("/v3/projects", {"project": {"name": "service", "domain_id": "default"}})
        projects = self.api.get("identity", "/v3/projects?name=service")["projects"]
        roles = self.api.get("identity", "/v3/roles")["roles"]
        wanted = [item["id"] for item in roles if item["name"] in ("admin", "service")]
        users = {item["name"]: item["id"] for item in self.api.get("identity", "/v3/users")["users"]}
        services = {item["name"] for item in self.api.get("identity", "/v3/services")["services"]}
        for name, (kind, path) in CATALOG.items():
            if name not in users:
                user = {"name": name, "domain_id": "default", "password": config.PASSWORD}
                users[name] = identity("/v3/users", {"user": user})["user"]["id"]
            for role in wanted:
                grant = f"/v3/projects/{projects[0]['id']}/users/{users[name]}/roles/{role}"
                self.api.request("PUT", "identity", grant)
            if name not in services:
                service = identity("/v3/services", {"service": {"name": name, "type": kind}})
                for interface in ("public", "internal", "admin"):
                    endpoint = {
                        "service_id": service["service"]["id"],
                        "interface": interface,
                        "region_id": config.REGION,
                        "url": self.api.url(kind, path),
                    }
                    identity("/v3/endpoints", {"endpoint": endpoint})

    def step_services(self):
        start("--no-block", *OPENSTACK_UNITS)
        for service in PORTS:
            wait_until(120, service, lambda: self.api.answers(service))

    def step_guest(self):
        present = {item["name"]: item["id"] for item in self.api.get("image", "/v2/images")["images"]}
        kernel = self._image(present, "guest-kernel", "aki", "vmlinuz", {})
        ramdisk = self._image(present, "guest-initramfs", "ari", "initramfs.gz", {})
        self._image(
            present, "guest", "raw", "disk.raw",
            {"kernel_id": kernel, "ramdisk_id": ramdisk, "os_command_line": "console=ttyS0 quiet"},
        )
        flavors = self.api.get("compute", "/v2.1/flavors")["flavors"]
        if "guest" not in {item["name"] for item in flavors}:
            flavor = {"name": "guest", "ram": 128, "vcpus": 1, "disk": 1}
            self.api.post("compute", "/v2.1/flavors", {"flavor": flavor})

    def _image(self, present, name, kind, file, properties):
        if name in present:
            return present[name]
        container = "bare" if kind == "raw" else kind
        body = {"name": name, "disk_format": kind, "container_format": container,
                "visibility": "public", **properties}
        image = self.api.post("image", "/v2/images", body)["id"]
        self.api.request(
            "PUT", "image", f"/v2/images/{image}/file", data=(self.guest / file).read_bytes(),
            headers={"Content-Type": "application/octet-stream"},
        )
        return image

    def step_boot_order(self):
        for unit, needs in OPENSTACK_UNITS.items():
            config.write(f"/etc/systemd/system/{unit}.service.d/10-order.conf", config.order(needs))
        run("systemctl", "enable", "mariadb", "rabbitmq-server", *OPENSTACK_UNITS)


def main():
    setup = Setup(sys.argv[1], sys.argv[2])
    for name, step in [(n, getattr(setup, n)) for n in vars(Setup) if n.startswith("step_")]:
        title = name.removeprefix("step_").replace("_", " ")
        print(f"setup {title}", flush=True)
        began = time.monotonic()
        try:
            step()
        except (ApiError, Failed) as error:
            sys.exit(f"step {title}: {error}")
        print(f"took {title} {time.monotonic() - began:.1f}", flush=True)


if __name__ == "__main__":
    main()
