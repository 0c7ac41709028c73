"""What the tests of the daytona driver share: a worker, an emulator beside it, and the host's calls for this driver."""

import contextlib
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "worker"))

from client import Emulator  # noqa: E402
from harness import COMPANY, Worker, check, check_equal  # noqa: E402

KEY = "test-key"
SEED_KEYS = ["apiKey", "apiUrl", "target", "snapshot", "image", "language", "timeoutMs", "cpu", "memory", "disk", "gpu", "autoStopInterval",
             "autoArchiveInterval", "autoDeleteInterval", "reuseLease"]


class Session:
    """w: the worker, d: the emulator."""

    def __init__(self, worker, emulator):
        self.w = worker
        self.d = emulator

    def config(self, **more):
        config = {"apiKey": KEY, "apiUrl": self.d.api_url, "snapshot": "base-snapshot", "timeoutMs": 30000, "reuseLease": False, **more}
        return {key: value for key, value in config.items() if value is not None}

    def base(self, environment="env-1", company=COMPANY, **config):
        return {"driverKey": "daytona", "companyId": company, "environmentId": environment, "config": self.config(**config)}

    def call(self, method, more=None, **config):
        return self.w.call(f"environment{method}", {**self.base(**config), **(more or {})})

    def error(self, method, more=None, **config):
        return self.w.call_error(f"environment{method}", {**self.base(**config), **(more or {})})

    def acquire(self, more=None, **config):
        return self.call("AcquireLease", {"runId": "run-1", **(more or {})}, **config)

    def send_execute(self, lease, command, args=(), more=None, **config):
        lease_id = lease["providerLeaseId"] if isinstance(lease, dict) else lease
        return self.w.send("environmentExecute", {**self.base(**config), "lease": {"providerLeaseId": lease_id, "metadata": {}},
                                                  "command": command, "args": list(args), **(more or {})})

    def execute(self, *args, **more):
        return self.w.result(self.send_execute(*args, **more))

    def lease_call(self, method, lease, more=None, **config):
        lease_id = lease["providerLeaseId"] if isinstance(lease, dict) else lease
        return self.call(method, {"providerLeaseId": lease_id, **(more or {})}, **config)

    def sandbox(self, state="started", **text):
        """One that this worker has not made, in that state."""
        made = self.acquire()
        lease_id = made["providerLeaseId"]
        if state != "started":
            self.d.set_state(lease_id, state, **text)
        return lease_id

    def scripts(self):
        return [self.json(request)["command"] for request in self.d.requests("POST", "/process/execute")]

    def json(self, request):
        return json.loads(request["body"])

    def no_live(self):
        check_equal(self.d.live(), [], "live sandboxes")


@contextlib.contextmanager
def session(stderr_ok=False, **env):
    """The emulator ends first: the worker's own end shows that no process is left."""
    environment = None
    if env:
        environment = {"PATH": os.environ.get("PATH", os.defpath), **env}
    with Worker(stderr_ok=stderr_ok, env=environment) as worker:
        with Emulator() as emulator:
            yield Session(worker, emulator)


def check_includes(got, want, what=""):
    """Every member of want is in got, at any level."""
    for key, value in want.items():
        check(key in got, f"{what}.{key} is missing in {got}")
        if isinstance(value, dict):
            check_includes(got[key], value, f"{what}.{key}")
        else:
            check_equal(got[key], value, f"{what}.{key}")
