"""What tests and the demo ask of the cloud: cloud.py ADDRESS OPERATION [ARGUMENT...]; JSON on stdout."""

import json
import subprocess
import sys

from api import PORTS, Api, ApiError, wait_until
from config import PASSWORD, transport_url

# 2.37 allows networks "none"; 2.53 gives services by uuid and host.
COMPUTE = {"OpenStack-API-Version": "compute 2.53"}


class Cloud:
    def __init__(self, host):
        self.host = host
        self.api = Api(host, PASSWORD)

    def access(self):
        """What a compute node has to know to join this cloud."""
        return {"address": self.host, "transport_url": transport_url(self.host), "password": PASSWORD,
                "auth_url": self.api.url("identity", "/v3"), "region": "regionOne"}

    def wait_ready(self, seconds):
        """All APIs answer, and conductor and scheduler have reported since the boot."""
        seconds = float(seconds)
        for name in PORTS:
            wait_until(seconds, name, lambda: self.api.answers(name))

        def reported():
            up = {s["binary"] for s in self.services() if s["state"] == "up"}
            return {"nova-conductor", "nova-scheduler"} <= up

        wait_until(seconds, "nova-conductor and nova-scheduler", reported)
        return self.services()

    def services(self):
        return self.api.get("compute", "/v2.1/os-services", headers=COMPUTE)["services"]

    def wait_compute(self, host, seconds):
        def up():
            found = [s for s in self.services() if s["binary"] == "nova-compute" and s["host"] == host]
            return found[0] if found and found[0]["state"] == "up" else None

        return wait_until(float(seconds), f"nova-compute on {host} up", up)

    def wait_report_after(self, host, last, seconds):
        def reported():
            found = [s for s in self.services() if s["binary"] == "nova-compute" and s["host"] == host]
            return found[0] if found and (found[0]["updated_at"] or "") > last else None

        return wait_until(float(seconds), f"a report of nova-compute on {host} after {last}", reported)

    def discover_hosts(self):
        done = subprocess.run(
            ["runuser", "-u", "nova", "--", "nova-manage", "cell_v2", "discover_hosts", "--verbose"],
            capture_output=True, text=True,
        )
        if done.returncode:
            raise ApiError(f"nova-manage discover_hosts: {done.stdout}{done.stderr}")
        return {"output": done.stdout}

    def agent(self, binary, host):
        found = self.api.get("network", f"/v2.0/agents?binary={binary}&host={host}")["agents"]
        return found[0] if found else None

    def wait_agent(self, binary, host, seconds):
        def alive():
            agent = self.agent(binary, host)
            return agent if agent and agent["alive"] else None

        return wait_until(float(seconds), f"{binary} on {host} alive", alive)

    def network_create(self, name, cidr):
        """A network with a subnet, if there is none of that name yet."""
        networks = self.api.get("network", f"/v2.0/networks?name={name}")["networks"]
        if networks:
            return networks[0]
        network = self.api.post("network", "/v2.0/networks", {"network": {"name": name}})["network"]
        subnet = {"name": name, "network_id": network["id"], "ip_version": 4, "cidr": cidr, "enable_dhcp": False}
        self.api.post("network", "/v2.0/subnets", {"subnet": subnet})
        return network

    def server_ports(self, name):
        server = self.server_show(name)["id"]
        return self.api.get("network", f"/v2.0/ports?device_id={server}")["ports"]

    def server_create(self, name):
        images = self.api.get("image", "/v2/images?name=guest")["images"]
        flavors = self.api.get("compute", "/v2.1/flavors")["flavors"]
        flavor = next(item["id"] for item in flavors if item["name"] == "guest")
        server = {"name": name, "imageRef": images[0]["id"], "flavorRef": flavor, "networks": "none"}
        return self.api.post("compute", "/v2.1/servers", {"server": server}, headers=COMPUTE)["server"]

    def servers(self):
        return self.api.get("compute", "/v2.1/servers/detail", headers=COMPUTE)["servers"]

    def server_show(self, name):
        found = self.api.get("compute", f"/v2.1/servers/detail?name=%5E{name}%24", headers=COMPUTE)
        if not found["servers"]:
            raise ApiError(f"no server named {name}")
        return found["servers"][0]

    def wait_active(self, name, seconds):
        def settled():
            server = self.server_show(name)
            return server if server["status"] in ("ACTIVE", "ERROR") else None

        server = wait_until(float(seconds), f"server {name} active", settled)
        if server["status"] == "ERROR":
            raise ApiError(f"server {name} is in ERROR: {server.get('fault', {}).get('message')}")
        return server

    def console(self, name, lines="20"):
        path = f"/v2.1/servers/{self.server_show(name)['id']}/action"
        body = {"os-getConsoleOutput": {"length": int(lines)}}
        return self.api.post("compute", path, body, headers=COMPUTE)

    def wait_heartbeat(self, name, boot, after, seconds):
        """The last heartbeat, once it is later than `after`, or of another boot than `boot`."""

        def beat():
            last = None
            for line in self.console(name)["output"].splitlines():
                words = line.split()
                if len(words) == 6 and words[0] == "heartbeat" and words[1].isdigit():
                    last = {"beat": int(words[1]), "uptime": words[3], "boot": words[5]}
            return last if last and (last["boot"] != boot or last["beat"] > int(after)) else None

        return wait_until(float(seconds), f"a heartbeat of {name} after {after}", beat)

    def server_delete(self, name, seconds="60"):
        server = self.server_show(name)["id"]
        self.api.request("DELETE", "compute", f"/v2.1/servers/{server}", headers=COMPUTE)

        def gone():
            try:
                self.api.get("compute", f"/v2.1/servers/{server}", headers=COMPUTE)
            except ApiError as error:
                if error.status == 404:
                    return True
                raise
            return False

        wait_until(float(seconds), f"server {name} gone", gone)
        return {}


def main():
    host, operation, *arguments = sys.argv[1:]
    try:
        answer = getattr(Cloud(host), operation.replace("-", "_"))(*arguments)
    except ApiError as error:
        sys.exit(str(error))
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
