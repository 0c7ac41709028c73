"""What the tests of the drivers e2b and novita share: the host's calls for them, and envelopes of streams."""

import base64
import json
import struct

from client import Emulator
from emulation import session as shared

KEY = "e2b_0123456789abcdef"


class Session(shared.Session):
    def settings(self):
        return {"apiKey": KEY, **self.e.services, "timeoutMs": 300000}

    def error(self, method, more=None, **config):
        return super().error(method, more, **config)["message"]

    def acquire(self, more=None, **config):
        return super().acquire(more, **config)["providerLeaseId"]

    def execute_error(self, *args, **more):
        return self.w.error(self.send_execute(*args, **more))["message"]

    def routes(self, since=0):
        """What was asked: "POST /v2/sandboxes", "Start", "PUT"."""
        routes = []
        for request in self.e.requests(since=since):
            path = request["path"].removeprefix("/api")
            for sandbox in [part for part in path.split("/") if part.startswith("i") and len(part) > 15]:
                path = path.replace(sandbox, "<id>")
            routes.append(f"{request['method']} {path}")
        return routes


class Novita(Session):
    driver = "novita"


class E2b(Session):
    driver = "e2b"


DRIVERS = {"e2b": E2b, "novita": Novita}


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


def session(*options, driver="e2b", **more):
    return shared.opened(DRIVERS[driver], Emulator, *options, **more)


def result(code=0, stdout="", stderr="", timed_out=False):
    return {"exitCode": code, "timedOut": timed_out, "stdout": stdout, "stderr": stderr}
