"""What the tests of the drivers e2b and novita share: a worker, an emulator beside it, and the host's calls."""

import base64
import contextlib
import json
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "worker"))

from client import Emulator  # noqa: E402
from harness import COMPANY, Worker, check_equal  # noqa: E402

KEY = "e2b_0123456789abcdef"


class Session:
    """w: the worker, e: the emulator."""

    def __init__(self, worker, emulator, driver):
        self.w = worker
        self.e = emulator
        self.driver = driver

    def config(self, **more):
        config = {"apiKey": KEY, "apiUrl": self.e.urls["apiUrl"], "sandboxUrl": self.e.urls["sandboxUrl"], "timeoutMs": 300000, **more}
        return {key: value for key, value in config.items() if value is not ...}

    def base(self, environment="env-1", company=COMPANY, **config):
        return {"driverKey": self.driver, "companyId": company, "environmentId": environment, "config": self.config(**config)}

    def send(self, method, more=None, **config):
        return self.w.send(f"environment{method}", {**self.base(**config), **(more or {})})

    def call(self, method, more=None, **config):
        return self.w.result(self.send(method, more, **config))

    def error(self, method, more=None, **config):
        return self.w.error(self.send(method, more, **config))["message"]

    def acquire(self, more=None, **config):
        return self.call("AcquireLease", {"runId": "run-1", **(more or {})}, **config)["providerLeaseId"]

    def send_execute(self, lease, command, args=(), more=None, **config):
        return self.send("Execute", {"lease": {"providerLeaseId": lease, "metadata": {}}, "command": command, "args": list(args),
                                     **(more or {})}, **config)

    def execute(self, *args, **more):
        return self.w.result(self.send_execute(*args, **more))

    def execute_error(self, *args, **more):
        return self.w.error(self.send_execute(*args, **more))["message"]

    def lease_call(self, method, lease, more=None, **config):
        return self.call(method, {"providerLeaseId": lease, **(more or {})}, **config)

    def routes(self, since=0):
        """What was asked: "POST /v2/sandboxes", "Start", "PUT"."""
        routes = []
        for request in self.e.requests(since=since):
            path = request["path"].removeprefix("/api")
            for sandbox in [part for part in path.split("/") if part.startswith("i") and len(part) > 15]:
                path = path.replace(sandbox, "<id>")
            routes.append(f"{request['method']} {path}")
        return routes

    def no_live(self):
        check_equal(self.e.live(), [], "live sandboxes")


def envelope_of(request):
    """The message of a stream's request."""
    body = request["body"]
    body = base64.b64decode(body["base64"]) if isinstance(body, dict) else body.encode()
    return json.loads(body[5:])


def started(script_part):
    """A condition for wait_for: such a command runs."""
    return lambda e: any(script_part in script for script in e.state()["running"])


def frame(value, flags=0):
    text = json.dumps(value).encode()
    return struct.pack("!BI", flags, len(text)) + text


def data(stdout=b"", stderr=b""):
    return frame({"event": {"data": {key: base64.b64encode(value).decode() for key, value in (("stdout", stdout), ("stderr", stderr)) if value}}})


START = frame({"event": {"start": {"pid": 999_999_999}}})
FINISH = frame({}, 2)
CONNECT_TYPE = {"Content-Type": "application/connect+json"}


def end(**members):
    return frame({"event": {"end": {"exited": True, "status": "exit status 0", **members}}})


def stream(*frames):
    """The way of a fault that answers with these frames."""
    return {"status": 200, "reply": "base64:" + base64.b64encode(b"".join(frames)).decode(), "headers": CONNECT_TYPE}


@contextlib.contextmanager
def session(*options, driver="e2b", env=None, **more):
    """The emulator ends first: the worker's own end shows that no process is left."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), **env} if env is not None else None
    with Worker(env=environment, **more) as worker:
        with Emulator(*options) as emulator:
            yield Session(worker, emulator, driver)


def result(code=0, stdout="", stderr="", timed_out=False):
    return {"exitCode": code, "timedOut": timed_out, "stdout": stdout, "stderr": stderr}
