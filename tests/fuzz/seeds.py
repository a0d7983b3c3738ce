#!/usr/bin/python3
"""Writes what the fuzzer begins with: one directory for each target below the given one.

Valid inputs that reach deep: the fuzzer has to spoil them, not to invent them. Inputs of several texts have the byte
0xff between them; see fuzz_targets/fields.rs and the head of each target.
"""

import io
import json
import sys
import tarfile
import tomllib
from pathlib import Path

SUM = "sha256:" + "ab" * 32
REPOSITORY = Path(__file__).resolve().parents[2]
OUT = Path(sys.argv[1])


def write(target, name, data):
    directory = OUT / target
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def fields(target, name, *texts):
    write(target, name, b"\xff".join(text.encode() for text in texts))


def tar(*members, kind=tarfile.PAX_FORMAT):
    """An archive without the zero blocks at its end. A member: name, type, content or target, and attributes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as archive:
        for name, what, content, attributes in members:
            info = tarfile.TarInfo(name)
            info.type = what
            info.mtime = attributes.pop("mtime", 1600000000)
            for key, value in attributes.items():
                setattr(info, key, value)
            if what == tarfile.REGTYPE:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.linkname = content
                archive.addfile(info)
        end = archive.offset
    return out.getvalue()[:end]


def layers():
    file, directory, link, hard = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
    plain = tar(
        ("etc", directory, "", {"mode": 0o755}),
        ("etc/passwd", file, b"root:x:0:0::/:/bin/sh\n", {}),
        ("bin", link, "usr/bin", {}),
        ("bin/su", file, b"x", {"mode": 0o4755}),
        ("bin/again", hard, "bin/su", {}),
        ("run/pipe", tarfile.FIFOTYPE, "", {}),
        ("dev/null", tarfile.CHRTYPE, "", {"devmajor": 1, "devminor": 3}),
    )
    write("layer_tar", "plain", plain)
    extended = {"SCHILY.xattr.user.x": "1", "SCHILY.xattr.security.capability": "a\nb", "mtime": "-1.5"}
    write("layer_tar", "extended", tar(("a" * 120 + "/ü", file, b"12345", {"pax_headers": extended})))
    write("layer_tar", "gnu", tar(("b" * 130, link, "c" * 130, {}), kind=tarfile.GNU_FORMAT))
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s", "GNU.sparse.realsize": "4096"}
    body = b"1\n1024\n4\n".ljust(512, b"\0") + b"data"
    write("layer_tar", "sparse", tar(("GNUSparseFile.0/s", file, body, {"pax_headers": sparse})))
    older = {"GNU.sparse.size": "4096", "GNU.sparse.map": "0,2,4090,2"}
    write("layer_tar", "sparse-0.1", tar(("s", file, b"data", {"pax_headers": older})))
    upper = tar(
        (".wh.bin", file, b"", {}),
        ("etc/.wh..wh.opq", file, b"", {}),
        ("sbin", link, "/../etc/./", {}),
        ("sbin/new", hard, "etc/passwd", {}),
    )
    write("layer_tar", "layers", plain + b"NEXT-LAYER" + upper + b"NEXT-LAYER" + tar(("sbin/new/x", file, b"1", {})))


def units():
    fields("unit_rendering", "plain", "Nlibvirtd", "DThe daemon", "aovs.service", "wmulti-user.target", "C0+/a")
    fields(
        "unit_rendering", "values", 'Da 100% "daemon" $HOME', 'EA=b "c" $D %n\n\\', "Lkey:/etc/a b%c", "x/bin/sh",
        "x-c", "xecho '$1' \\; ; %h\n", "P/a b", "Pu2028\u2028", "Q/usr/bin/nodectl", "Q;", "Q", "r/srv/a b", "Ebc=\t",
    )
    fields(
        "unit_rendering", "names", "agetty@tty1.service", "bdev-disk-by\\x2dlabel.device", "RA.socket", "WB.timer",
        "BC.mount", "pD.path", "cE.swap", "lF.service", "sa\\x2db.socket", "Ssystem.slice", "e", "C0!/etc/x", "C5+quiet",
        "C6!container", "kSIGINT", "t500ms", "T2h", "M25%", "i100", "d0123456789abcdef", "u/run/x", "n/usr/bin/node-run",
    )


def signatures():
    policy = """revoked = ["c.pub"]
[retired]
"b2.pub" = "2036-01-31T00:00:00Z"
[[repository]]
name = "r.example/a"
keys = ["a.pub", "b.pub", "a2.pub"]
signatures = 2
identity = "b.example/a"
max_age_days = 36500
[[repository]]
name = "r.example/b"
keys = ["c.pub"]
[[repository]]
name = "127.0.0.1:5000"
insecure = "accept-unsigned"
[[repository]]
name = "*"
keys = ["a.pub"]
"""
    simple = '[[repository]]\nname = "r.example"\nkeys = ["a.pub","c.pub"]\n'
    payload = (
        '{"critical":{"identity":{"docker-reference":"%s"},"image":{"docker-manifest-digest":"{D}"},'
        '"type":"cosign container image signature"},"optional":%s}'
    )
    good = payload % ("r.example/b", "null")
    late = payload % ("b.example/a:1", '{"timestamp":1764000000}')
    fields("signatures", "good", simple, "r.example/b", "a" + good)
    fields("signatures", "ecdsa", simple, "r.example/b", "c" + good)
    fields("signatures", "file", simple, "", "a" + good)
    fields("signatures", "two", policy, "r.example/a/x", "a" + late.replace("a:1", "a/x:1"), "b" + late.replace("a:1", "a/x"))
    fields("signatures", "revoked", policy, "r.example/b", "c" + good, "z" + good)
    fields("signatures", "other", simple, "r.example/b", "A" + good + "@" + good.replace("{D}", "sha256:00"))
    fields("signatures", "elsewhere", simple, "r.example/b", "a" + good.replace("{D}", SUM), "a" + late)
    fields("signatures", "unchecked", policy, "127.0.0.1:5000/x", "+AAAA@" + good)
    statement = (
        '{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"{H}"},"annotations":{%s}}],'
        '"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}'
    )
    unnamed, named = statement % "", statement % '"docker-reference":"r.example/b","timestamp":"1764000000"'
    lax = simple + "unnamed = true\n"
    fields("signatures", "bundle", simple, "r.example/b", "=a" + named)
    fields("signatures", "bundle-file", simple, "", "=c" + named)
    fields("signatures", "bundle-unnamed", lax, "r.example/b", "=c" + unnamed)
    fields("signatures", "bundle-refused", simple, "r.example/b", "=a" + unnamed, "=z" + named)
    fields("signatures", "bundle-attests", lax, "r.example/b", "=a" + named.replace("cosign/sign", "x"), "=+AA@" + named)
    fields("signatures", "bundle-other", lax, "r.example/b", "=A" + unnamed + "@" + unnamed.replace("{H}", "00"))
    fields("signatures", "star", policy, "elsewhere.example/x", "a" + payload % ("elsewhere.example/x", "{}"))


def files():
    fields(
        "rendered_files", "ini", "fini", "va=1", "slibvirt", "vpath=/etc/x", "ntimeout=5",
        "phost=192.0.2.1", "pdebug=true", "llist=a", "llist=b, c", "opath=/etc/y", "snew", "oz=1",
    )
    fields("rendered_files", "toml", "ftoml", "sa", "vb=c\n[d]", "pe=1", "lf=x", "og='h'")
    fields("rendered_files", "json", "fjson", "sa", 'vb="c', "pe=false", "nf=1")


def documents():
    descriptor = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": SUM, "size": 2}
    platform = {"architecture": "amd64", "os": "linux", "variant": "v8"}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}
    manifest |= {"config": descriptor, "layers": [descriptor], "annotations": {"a": "b"}, "subject": descriptor}
    index = {"schemaVersion": 2, "manifests": [descriptor | {"platform": platform, "artifactType": "x"}]}
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [SUM]}}
    attributes = {"mode": 493, "uid": 0, "gid": 0, "mtime": [-1, 5], "xattrs": {"user.x": "%00"}}
    entries = {
        "a": {"directory": attributes},
        "a/b": {"file": {"object": SUM, "size": 5}},
        "a/%FF": {"symlink": {"target": "../b", "attributes": attributes}},
        "c": {"link": {"target": "a/b"}},
        "d": {"fifo": attributes},
    }
    layer = {"version": 1, "diff_id": SUM, "entries": entries, "whiteouts": ["x/y"], "opaque": ["z"]}
    record = {"version": 1, "manifest": SUM, "reference": "r", "manifest_json": "{}", "config_json": "{}"}
    record |= {"layers": [], "unpacked_size": 1, "files": 1, "pulled": "2026-01-01T00:00:00Z"}
    record |= {"verification": {"by": "release", "release": SUM}}
    for name, document in {
        "manifest": manifest, "index": index, "config": config, "layer": layer, "record": record,
        "registries": {"mirrors": {"a": ["b/c"]}, "ca_files": {"a": "/b"}, "parallel": 3},
    }.items():
        write("image_documents", name, json.dumps(document))
    for number, text in enumerate([
        SUM, "q.example:5000/a/b:1", "localhost/a@" + SUM, "oci:/srv/l:h:5000/r:1", "./x.tar", "oci-archive:x.tar:1",
        "docker://q.example/a_b.c__d-e",
    ]):
        write("image_documents", f"text-{number}", text)


def releases():
    services = REPOSITORY / "images/services"
    release = tomllib.loads((REPOSITORY / "images/releases/compute.toml").read_text())
    # Few and small ones are changed more often than many large ones.
    for path in [services / f"{name}.toml" for name in ("libvirtd", "ovsdb-server", "virtlogd")]:
        text = path.read_text()
        write("release_document", path.name, text)
        definition = tomllib.loads(text)
        if len(json.dumps(definition)) > 6000:
            continue
        image = {"repository": "a", "digest": SUM, "size": 5, "labels": {"a": "b"}}
        document = {
            "format": 1, "name": "x", "version": "1", "services": {definition["name"]: definition},
            "images": {definition["image"]: image}, "parameters": {}, "probation": {"tries": 2},
        }
        used = [name for name in release["parameters"] if f'"{name}"' in text]
        document["parameters"] = {name: release["parameters"][name] for name in used}
        if path.stem == "ovsdb-server":
            document["choices"] = {"c": {"default": "a", "options": {"a": [definition["name"]], "b": []}}}
            document["requires"] = {"agent": "0.1.0"}
        definition.get("container", {}).pop("seccomp", None)
        write("release_document", path.stem + ".json", json.dumps(document))
    small = {"format": 1, "name": "s", "description": "", "image": "i"}
    binding = {"repository": "q.example/x", "digest": SUM, "size": 1}
    document = {"format": 1, "name": "x", "version": "1", "services": {"s": small}, "images": {"i": binding}}
    write("release_document", "small.json", json.dumps(document))
    write("release_document", "small.toml", """format = 1
name = "s"
description = "d"
image = "i"
[[files]]
target = "/etc/a.conf"
format = "ini"
content = { DEFAULT = { a = { parameter = "p" }, b = ["x"], c = { fact = "hostname" } } }
[[secret_files]]
target = "/etc/b.conf"
content = { a = { b = { secret = "s" } } }
[[gates]]
name = "g"
kind = "exec"
command = ["/bin/true"]
when = ["probation"]
[[state]]
path = "/var/lib/a"
""")
    document["images"]["i"]["repository"] = "oci:./x"
    write("release_document", "file.json", json.dumps(document))


def containers():
    accounts = "root:x:0:0::/root:/bin/sh\nnova:x:64060:64060::/var/lib/nova:/bin/sh\nopenvswitch:x:100:100::/:/bin/sh\n"
    groups = "root:x:0:\nkvm:x:106:nova\nlibvirt:x:64055:nova\nnova:x:64060:\nopenvswitch:x:100:\n"
    config = {"Entrypoint": ["/a"], "Cmd": ["b"], "Env": ["A=1"], "User": "nova:kvm", "WorkingDir": "/srv"}
    image = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}, "config": config})
    for path in sorted((REPOSITORY / "images/services").glob("*.toml")):
        definition = tomllib.loads(path.read_text())
        written = {key: definition[key] for key in ("container", "readiness") if key in definition}
        fields("oci_configuration", path.name, json.dumps({"container": {}} | written), image, accounts, groups)
    every = {
        "process": {"args": ["/a"], "env": {"B": "2"}, "cwd": "/", "user": "0:kvm", "groups": ["7"], "ambient": ["KILL"],
                    "umask": "0077", "no_new_privileges": True},
        "share": ["uts"], "mounts": [{"target": "/t", "size": "1M", "mode": "0700", "user": "nova", "group": "kvm"},
                                     {"source": "/s", "target": "/s", "recursive": True, "propagation": "shared"}],
        "devices": [{"path": "/dev/kvm", "major": 10, "minor": 232, "user": "root", "group": "kvm"}],
        "capabilities": {"KILL": "why"}, "sysctl": {"net.ipv4.ip_forward": "1", "kernel.sem": "1"},
        "directories": [{"path": "/d", "user": "nova", "mode": "0700"}],
        "limits": {"nofile": "1:2", "oom_score_adj": -5},
    }
    ready = {"kind": "exec", "command": ["/a", "b"]}
    text = json.dumps({"container": every, "readiness": ready})
    fields("oci_configuration", "every", text, image, accounts, groups)
    ready = {"kind": "unix-socket", "path": "/run/a"}
    fields("oci_configuration", "socket", json.dumps({"container": {}, "readiness": ready}), image, "", "")


def configuration():
    node = """services = ["a"]
[release]
reference = "r.example/a:1"
[registries]
mirrors = { "r.example" = ["m.example/x"] }
retries = 3
[choices]
networking = "none"
[parameters]
a = 1
b = ["x"]
[secrets]
s = "/etc/s"
[overrides.a.files."/etc/a.conf"]
DEFAULT = { x = 1.5, y = true }
[retention]
keep = 2
[probation]
tries = 2
[policy]
setuid = "strip"
limits = { entries = 5 }
[check]
days = 7
[drain]
nova = true
"""
    fields("node_toml", "whole", node, "[parameters]\na = 2\nc = 'z'", "[secrets]\ns = '/x'", 'a=["y"]', "b")
    fields("node_toml", "small", "parameters.a.b = 1", "[parameters.a]\nc = 2", "[parameters]\na = 1", "a=null")
    fields("node_toml", "changes", "", "", "", 'p="x"', "q=5", "r=true", "s")


def state():
    release = {"reference": "r.example/a:1", "digest": SUM, "name": "x", "version": "1"}
    signed = {"repository": "r.example/a", "keys": ["a.pub"], "time": "2026-01-01T00:00:00Z"}
    release["signed"] = signed
    transaction = {
        "format": 1, "id": "20260101T000000-abc", "phase": "reverting", "release": release, "window_sec": 60,
        "movement": {"kind": "upgrade", "from": 1, "to": 2, "tries_left": 2}, "hold_sec": 5, "force": True,
        "setback": {"reason": "x", "blame": True}, "claim": {"boot_id": "b", "by": "engine"},
        "deadline": {"boot_id": "b", "uptime_sec": 5, "time": "2026-01-01T00:00:00Z"},
        "parameters": {"a": 1, "b": None}, "started": "2026-01-01T00:00:00Z",
    }
    entry = {
        "id": "a", "kind": "set", "from": 1, "to": 2, "release": release, "started": "2026-01-01T00:00:00Z",
        "ended": None, "result": "rolled-back", "reason": "x", "journal": ["y"],
    }
    service = {"image": "i", "manifest": SUM, "digest": "ab" * 32, "unit": "s.service"}
    deployment = {
        "format": 1, "seq": 1, "release": release, "created": "2026-01-01T00:00:00Z", "previous": None,
        "reason": "upgrade", "services": {"s": service}, "parameters": {"a": 1}, "operator": {},
    }
    small = {"format": 1, "name": "s", "description": "", "image": "i"}
    document = {"format": 1, "name": "x", "version": "1", "services": {"s": small}}
    document["images"] = {"i": {"repository": "a", "digest": SUM, "size": 1}}
    newest = {"format": 1, "repositories": {"r.example/a": {"signed": signed["time"], "digest": SUM, "release": "x"}}}
    rejected = {"release": release, "reason": "x", "time": "2026-01-01T00:00:00Z"}
    checked = {"format": 1, "next": 3, "result": {"time": "2026-01-01T00:00:00Z", "light": True, "objects": 1}}
    checked["result"] |= {"bytes": 1, "findings": ["x"]}
    text = json.dumps
    fields("journal", "transaction", "T" + text(transaction))
    fields("journal", "history", "H" + text(entry) + "\n{\n" + text(entry | {"id": "b", "to": None}) + "\n")
    fields("journal", "deployment", "D" + text(deployment), "L" + text(document), "U[Unit]\n", "N" + text(newest))
    outside = deployment | {"services": {"s": service | {"unit": "../release.json"}}}
    fields("journal", "outside", "D" + text(outside), "L" + text(document))
    fields("journal", "last", "H" + text(entry | {"to": 2**64 - 1}) + "\n")
    fields("journal", "records", "R" + text(rejected), "C" + text(checked), "Pwhy")


def requests():
    upgrade = {"operation": "upgrade", "reference": "r.example/a:1", "mode": "check", "force": True}
    for name, request in {
        "upgrade": upgrade | {"allow_downgrade": True}, "plan": {"operation": "plan", "reference": None},
        "rollback": {"operation": "rollback", "deployment": 3, "force": False}, "doctor": {"operation": "doctor"},
        "set": {"operation": "set", "values": {"a": "x,y", "b": "192.0.2.1", "c": "http://x/y", "d": "-5"}},
        "unset": {"operation": "unset", "names": ["a"]}, "stop": {"operation": "stop", "services": ["a"]},
        "pin": {"operation": "pin", "deployment": None, "reason": "x"}, "gc": {"operation": "gc", "dry_run": True},
        "fsck": {"operation": "fsck", "repair": True}, "recover": {"operation": "recover", "boot": True},
        "failure": {"code": 70, "message": "x", "hint": "y", "details": ["z"]},
        "acknowledged": {"kind": "acknowledgement", "document": {"message": "x"}},
        "history": {"kind": "history", "document": {"entries": []}},
    }.items():
        write("bus_arguments", name, json.dumps(request))


def foreign():
    realm = 'CBearer realm="https://auth.example.com/t",service="s",scope="repository:a/b:pull"'
    fields("foreign_text", "challenge", realm, "CBasic realm=x, Bearer realm=http://127.0.0.1:5000/t")
    fields("foreign_text", "retry", "R120", "RWed, 15 Nov 2023 00:00:00 GMT")
    record = """G<domstatus state='running' pid='142'><monitor path='/a/monitor.sock' type='unix'/><libDir path='/a'/>
<job type='none' async='backup'/><blockjobs active='yes'><blockjob type='copy'><disk dst='vda'/></blockjob></blockjobs>
<domain type='qemu'><name>g&amp;1</name><uuid>45d5</uuid></domain></domstatus>"""
    fields("foreign_text", "guest", record)
    line = "Q/usr/bin/qemu\0-name\0guest=a,,b,debug=on\0-uuid\0u\0-machine\0pc-7.2,usb=off\0"
    fields("foreign_text", "process", line, "Q0::/system.slice/a.scope/x.service\n")
    bridges = 'B{"data":[["br-int",["set",["OpenFlow10","OpenFlow14"]]],["a\'b","OpenFlow13"]]}'
    output = """O\x1e0 tunnel-fields
  0x102  0x80       4  tun_metadata0
\x1e0 meters
meter=1 kbps burst stats bands=
type=drop rate=1000 burst_size=100
\x1e1 groups
 group_id=1,type=select,bucket=bucket_id:0,actions=output:1
\x1e1 flows
 cookie=0xabc, table=60, priority=3,igmp,in_port=1 actions=resubmit(,0)
\x1e0 ports
 3(tap(1)): addr:fe:00:00:00:00:01
"""
    fields("foreign_text", "bridges", bridges, output)


for group in (layers, units, signatures, files, documents, releases, containers, configuration, state, requests, foreign):
    group()
