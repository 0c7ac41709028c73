"""What the tests of the cloudflare driver share: a worker, an emulated bridge beside it, and the host's calls for this driver."""

import base64
import contextlib
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "worker"))

from client import Emulator  # noqa: E402
from harness import COMPANY, Worker, check_equal  # noqa: E402

TOKEN = "test-token"
ROOT = "/api/paperclip-sandbox/v1"


class Session:
    """w: the worker, b: the bridge."""

    def __init__(self, worker, bridge):
        self.w = worker
        self.b = bridge

    def config(self, **more):
        config = {"bridgeBaseUrl": self.b.url, "bridgeAuthToken": TOKEN, "timeoutMs": 30000, "bridgeRequestTimeoutMs": 30000, **more}
        return {key: value for key, value in config.items() if value is not ...}

    def base(self, environment="env-1", company=COMPANY, **config):
        return {"driverKey": "cloudflare", "companyId": company, "environmentId": environment, "config": self.config(**config)}

    def send(self, method, more=None, **config):
        return self.w.send(f"environment{method}", {**self.base(**config), **(more or {})})

    def call(self, method, more=None, **config):
        return self.w.result(self.send(method, more, **config))

    def error(self, method, more=None, **config):
        return self.w.error(self.send(method, more, **config))

    def acquire(self, run="run-1", more=None, **config):
        return self.call("AcquireLease", {"runId": run, **(more or {})}, **config)["providerLeaseId"]

    def send_execute(self, lease, command, args=(), more=None, **config):
        return self.send("Execute", {"lease": {"providerLeaseId": lease, "metadata": {}}, "command": command, "args": list(args),
                                     **(more or {})}, **config)

    def send_plain(self, lease, command, args=(), more=None, **config):
        """On the host's own channel, which is not streamed."""
        return self.send_execute(lease, command, args, {"env": {"PAPERCLIP_SANDBOX_EXEC_CHANNEL": "bridge"}, **(more or {})}, **config)

    def execute(self, *args, **more):
        return self.w.result(self.send_execute(*args, **more))

    def plain(self, *args, **more):
        return self.w.result(self.send_plain(*args, **more))

    def lease_call(self, method, lease, more=None, **config):
        return self.call(method, {"providerLeaseId": lease, **(more or {})}, **config)

    def stream(self, text, lease="pc-x", **more):
        """The answer to a command whose event stream is this text (or bytes)."""
        data = text.encode() if isinstance(text, str) else text
        self.b.fault(path="/exec$", status=200, reply="base64:" + base64.b64encode(data).decode(),
                     headers={"Content-Type": "text/event-stream"}, **more)
        return self.w.answer(self.send_execute(lease, "true"))

    def body(self, path="", method="POST"):
        """Of the last request."""
        return json.loads(self.b.requests(method, path)[-1]["body"])

    def routes(self, since=0):
        return [f"{request['method']} {request['path'].removeprefix(ROOT)}" for request in self.b.requests(since=since)]

    def no_live(self):
        check_equal(self.b.live(), [], "live sandboxes")


@contextlib.contextmanager
def session(*options, **more):
    """The emulator ends first: the worker's own end shows that no process is left."""
    with Worker(**more) as worker:
        with Emulator(*options) as bridge:
            yield Session(worker, bridge)


def result(code=0, stdout="", stderr="", timed_out=False):
    return {"exitCode": code, "signal": None, "timedOut": timed_out, "stdout": stdout, "stderr": stderr}
