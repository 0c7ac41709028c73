"""What the tests of the cloudflare driver share: the host's calls for it, and what it answers."""

import base64
import json

from client import Emulator
from emulation import session as shared

TOKEN = "test-token"
ROOT = "/api/paperclip-sandbox/v1"


class Session(shared.Session):
    driver = "cloudflare"

    def settings(self):
        return {"bridgeBaseUrl": self.e.urls.get("tlsUrl", self.e.url), "bridgeAuthToken": TOKEN, "timeoutMs": 30000, "bridgeRequestTimeoutMs": 30000}

    def acquire(self, run="run-1", more=None, **config):
        return super().acquire({"runId": run, **(more or {})}, **config)["providerLeaseId"]

    def send_plain(self, lease, command, args=(), more=None, **config):
        """On the host's own channel, which is not streamed."""
        return self.send_execute(lease, command, args, {"env": {"PAPERCLIP_SANDBOX_EXEC_CHANNEL": "bridge"}, **(more or {})}, **config)

    def plain(self, *args, **more):
        return self.w.result(self.send_plain(*args, **more))

    def stream(self, text, lease="pc-x", **more):
        """The answer to a command whose event stream is this text (or bytes)."""
        data = text.encode() if isinstance(text, str) else text
        self.e.fault(path="/exec$", status=200, reply="base64:" + base64.b64encode(data).decode(),
                     headers={"Content-Type": "text/event-stream"}, **more)
        return self.w.answer(self.send_execute(lease, "true"))

    def body(self, path="", method="POST"):
        """Of the last request."""
        return json.loads(self.e.requests(method, path)[-1]["body"])

    def routes(self, since=0):
        return [f"{request['method']} {request['path'].removeprefix(ROOT)}" for request in self.e.requests(since=since)]


def session(*options, **more):
    return shared.opened(Session, Emulator, *options, **more)


def result(code=0, stdout="", stderr="", timed_out=False):
    return {"exitCode": code, "signal": None, "timedOut": timed_out, "stdout": stdout, "stderr": stderr}
