"""A keystone session over plain urllib: importing keystoneauth alone costs two seconds of CPU."""

import json
import time
import urllib.error
import urllib.request

PORTS = {
    "identity": 5000,
    "placement": 8778,
    "image": 9292,
    "compute": 8774,
    "network": 9696,
}


class ApiError(Exception):
    """An HTTP answer that is not a success, or no answer at all."""

    def __init__(self, text, status=None):
        super().__init__(text)
        self.status = status


class Api:
    """Requests against one control plane, as the administrator of the project `admin`."""

    def __init__(self, host, password):
        self.host = host
        self.password = password
        self._token = None

    def url(self, service, path):
        return f"http://{self.host}:{PORTS[service]}{path}"

    def request(self, method, service, path, body=None, headers=None, data=None):
        """The decoded JSON body (None when empty). `data` sends bytes instead of JSON."""
        sent = {"Accept": "application/json", **(headers or {})}
        if service != "identity" or path != "/v3/auth/tokens":
            sent["X-Auth-Token"] = self.token()
        if body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        answer, _ = self._send(method, self.url(service, path), data, sent)
        return json.loads(answer) if answer else None

    def get(self, service, path, **kwargs):
        return self.request("GET", service, path, **kwargs)

    def post(self, service, path, body, **kwargs):
        return self.request("POST", service, path, body, **kwargs)

    def token(self):
        if self._token is None:
            user = {"name": "admin", "domain": {"id": "default"}, "password": self.password}
            body = {
                "auth": {
                    "identity": {"methods": ["password"], "password": {"user": user}},
                    "scope": {"project": {"name": "admin", "domain": {"id": "default"}}},
                }
            }
            headers = {"Content-Type": "application/json"}
            _, answered = self._send(
                "POST", self.url("identity", "/v3/auth/tokens"), json.dumps(body).encode(), headers
            )
            self._token = answered["X-Subject-Token"]
        return self._token

    def _send(self, method, url, data, headers):
        request = urllib.request.Request(url, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")[:500]
            raise ApiError(f"{method} {url}: {error.code} {text}", error.code) from error
        except OSError as error:
            raise ApiError(f"{method} {url}: {error}") from error

    def answers(self, service):
        """Whether the service gives any HTTP answer to an unauthenticated request."""
        try:
            self._send("GET", self.url(service, "/"), None, {})
            return True
        except ApiError as error:
            return error.status is not None and error.status < 500


def wait_until(seconds, what, check):
    """Polls `check` (the services offer no event) until it returns something true."""
    deadline = time.monotonic() + seconds
    last = None
    while time.monotonic() < deadline:
        try:
            value = check()
            if value:
                return value
        except ApiError as error:
            last = error
        time.sleep(0.25)
    raise ApiError(f"{what}: not within {seconds} s" + (f"; last answer: {last}" if last else ""))
