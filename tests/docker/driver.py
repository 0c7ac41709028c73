"""What the tests of the docker driver share: a worker, the engine beside it (engine.py), and the host's calls for this driver."""

import contextlib
import http.client
import json
import os
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "worker"))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from emulation import session as shared  # noqa: E402
from harness import LIMIT_S, Failure, Worker, check, check_equal  # noqa: E402

FOLDER = os.environ.get("PSW_DOCKER", "")
IMAGE = "localhost/sandbox:latest"


# An engine of an ordinary user's: its containers have one user id.
ROOTLESS = os.path.exists(f"{FOLDER}/rootless")


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=LIMIT_S)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(LIMIT_S)
        self.sock.connect(self.path)


class Engine:
    """The real one, asked behind the worker's back."""

    def __init__(self):
        self.socket = f"{FOLDER}/api.sock"

    def api(self, method, path, body=None):
        """(status, the answer's JSON or None)"""
        connection = Connection(self.socket)
        with contextlib.closing(connection):
            connection.request(method, f"/v1.41{path}", None if body is None else json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, None

    def containers(self):
        """name -> state, of the driver's own."""
        _, listed = self.api("GET", "/containers/json?all=true")
        return {container["Names"][0].removeprefix("/"): container["State"] for container in listed or []
                if "io.paperclip.sandbox" in (container["Labels"] or {})}

    def inspect(self, name):
        status, container = self.api("GET", f"/containers/{name}/json")
        check_equal(status, 200, f"inspect of {name}: {container}")
        return container

    def labels(self, name):
        return self.inspect(name)["Config"]["Labels"]

    def processes(self, name, marker):
        """Those of the container whose command line holds the marker."""
        _, listed = self.api("GET", f"/containers/{name}/top?ps_args=-eo%20pid,args")
        return [row for row in (listed or {}).get("Processes") or [] if marker in " ".join(row)]

    def volumes(self):
        return [volume["Name"] for volume in (self.api("GET", "/volumes")[1] or {}).get("Volumes") or []]

    def images(self):
        return sorted(tag for image in self.api("GET", "/images/json")[1] for tag in image["RepoTags"] or [])

    def control(self, order):
        """ "kill" or "start": of the service; containers know nothing of it."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(LIMIT_S)
            client.connect(f"{FOLDER}/control")
            client.sendall(order.encode() + b"\n")
            check_equal(client.recv(10), b"ok\n", f"the service's {order}")


class Session(shared.Session):
    """w: the worker, e: the engine."""

    driver = "docker"

    def __init__(self, worker, engine=None, **config):
        super().__init__(worker, engine or Engine())
        self.own = config

    def settings(self):
        return {"socketPath": self.e.socket, "image": IMAGE, "pullPolicy": "never", "timeoutMs": 60000, "reuseLease": False,
                "network": "none" if ROOTLESS else None, **self.own}

    def config(self, **more):
        """A value of None takes the key away."""
        return {key: value for key, value in super().config(**more).items() if value is not None}

    def send_execute(self, lease, command, args=(), more=None, **config):
        return self.send("Execute", {"lease": self.reference(lease), "command": command, "args": list(args), **(more or {})}, **config)

    def sh(self, lease, script, more=None, **config):
        return self.execute(lease, "sh", ["-c", script], more, **config)

    def send_sh(self, lease, script, more=None, **config):
        return self.send_execute(lease, "sh", ["-c", script], more, **config)

    def reference(self, lease):
        if isinstance(lease, str):
            return {"providerLeaseId": lease, "metadata": {}}
        return {"providerLeaseId": lease["providerLeaseId"], "metadata": lease.get("metadata") or {}}

    def lease_error(self, method, lease, more=None, **config):
        lease_id = lease["providerLeaseId"] if isinstance(lease, dict) else lease
        return self.error(method, {"providerLeaseId": lease_id, **(more or {})}, **config)

    def destroy(self, lease, **config):
        return self.lease_call("DestroyLease", lease, **config)

    def wait_for_output(self, key, text, stream="stdout"):
        self.w.until(lambda: text in self.w.live_text(key, stream), f"live output {text!r}")

    def logs(self):
        return [note["params"]["message"] for note in self.w.notes]

    @contextlib.contextmanager
    def leaving_nothing(self):
        """… and if it fails, what it leaves is no failure of the next test."""
        try:
            yield self
            check_equal(self.e.containers(), {}, "containers that are left")
        finally:
            for name in self.e.containers():
                self.e.api("DELETE", f"/containers/{name}?force=true&v=true")


def wait_until(condition, what):
    """As the harness's, but the engine, which is asked, has other things to do."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > end:
            raise Failure(f"never came true: {what}")
        time.sleep(0.1)


@contextlib.contextmanager
def session(stderr_ok=False, worker_user=None, engine=None, **config):
    """A worker's session, which leaves no container behind."""
    with Worker(stderr_ok=stderr_ok, user=worker_user) as worker:
        with Session(worker, engine, **config).leaving_nothing() as s:
            yield s


@contextlib.contextmanager
def lease(s, **config):
    made = s.acquire(**config)
    yield made
    check_equal(s.destroy(made, **config), {"providerLeaseId": made["providerLeaseId"], "state": "destroyed"})


def check_includes(got, want, what=""):
    """Every member of want is in got, at any level."""
    for key, value in want.items():
        check(key in got, f"{what}.{key} is missing in {got}")
        if isinstance(value, dict):
            check_includes(got[key], value, f"{what}.{key}")
        else:
            check_equal(got[key], value, f"{what}.{key}")
