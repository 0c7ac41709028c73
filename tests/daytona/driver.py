"""What the tests of the daytona driver share: the host's calls for it."""

import json

from client import Emulator
from emulation import session as shared
from harness import check, check_equal

KEY = "test-key"
SEED_KEYS = ["apiKey", "apiUrl", "target", "snapshot", "image", "language", "timeoutMs", "cpu", "memory", "disk", "gpu", "autoStopInterval",
             "autoArchiveInterval", "autoDeleteInterval", "reuseLease"]


class Session(shared.Session):
    driver = "daytona"

    def settings(self):
        return {"apiKey": KEY, "apiUrl": f"{self.e.url}/api", "snapshot": "base-snapshot", "timeoutMs": 30000, "reuseLease": False}

    def sandbox(self, state="started", **text):
        """One that this worker has not made, in that state."""
        made = self.acquire()
        lease_id = made["providerLeaseId"]
        if state != "started":
            self.e.set_state(lease_id, state, **text)
        return lease_id

    def scripts(self):
        return [self.json(request)["command"] for request in self.e.requests("POST", "/process/execute")]

    def json(self, request):
        return json.loads(request["body"])


def session(*options, **more):
    return shared.opened(Session, Emulator, *options, **more)


def result(code=0, stdout="", stderr="", timed_out=False):
    return {"exitCode": code, "timedOut": timed_out, "stdout": stdout, "stderr": stderr}


def check_includes(got, want, what=""):
    """Every member of want is in got, at any level."""
    for key, value in want.items():
        check(key in got, f"{what}.{key} is missing in {got}")
        if isinstance(value, dict):
            check_includes(got[key], value, f"{what}.{key}")
        else:
            check_equal(got[key], value, f"{what}.{key}")
