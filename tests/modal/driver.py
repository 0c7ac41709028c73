"""What the tests of the modal driver share: a worker, an emulator beside it, and the host's calls for this driver."""

import contextlib
import os
import tempfile

from client import Emulator, make_certificate
from emulation import session as shared
from harness import check, check_equal

CONFIG_KEYS = ["appName", "image", "tokenId", "tokenSecret", "environment", "workdir", "sandboxTimeoutMs", "idleTimeoutMs", "execTimeoutMs",
               "blockNetwork", "cidrAllowlist", "reuseLease"]
EXECUTE = ["TaskExecStart", "TaskExecStdioRead", "TaskExecStdioRead", "TaskExecWait"]
LOOK = ["SandboxWait", "SandboxGetTaskId", "TaskGetCommandRouterAccess"]


class Session(shared.Session):
    """w: the worker, e: the emulator."""

    driver = "modal"

    def __init__(self, worker, emulator):
        super().__init__(worker, emulator)
        self.network = {"serverUrl": emulator.server_url}
        self.workdir = os.path.join(emulator.directory, "work dir")

    def settings(self):
        return {"appName": "paperclip-app", "image": "node:20", "tokenId": "test-id", "tokenSecret": "test-secret", "workdir": self.workdir,
                **self.network}

    def config(self, **more):
        """A value of None takes the key away."""
        return super().config(**{key: ... if value is None else value for key, value in more.items()})

    def send_acquire(self, more=None, **config):
        return self.send("AcquireLease", {"runId": "run-1", **(more or {})}, **config)

    def acquire(self, more=None, **config):
        return self.w.result(self.send_acquire(more, **config))

    def send_execute(self, lease, command, args=(), more=None, **config):
        return super().send_execute(lease, command, args, {"cwd": "/", **(more or {})}, **config)

    def sh(self, lease, script, **more):
        return self.execute(lease, "sh", ["-c", script], **more)

    def sandbox(self):
        """One that the calls of another environment know nothing of: use it with environment="env-2"."""
        return self.acquire()["providerLeaseId"]

    def scripts(self, since=0):
        return [request["request"]["command_args"][2] for request in self.e.requests("TaskExecStart", since=since)]

    def warnings(self):
        return [note["params"]["message"] for note in self.w.notes if note["params"]["level"] in ("warn", "error")]


@contextlib.contextmanager
def session(tls=False, env=None, **more):
    if not tls:
        with shared.opened(Session, Emulator, env=env, **more) as s:
            yield s
        return
    with tempfile.TemporaryDirectory(prefix="modal ") as directory:
        certificate = make_certificate(directory)
        with shared.opened(Session, Emulator, *certificate, env=env, **more) as s:
            s.network = {"serverUrl": s.e.tls_url, "caFile": certificate[0]}
            yield s


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
