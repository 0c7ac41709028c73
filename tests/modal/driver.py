"""What the tests of the modal driver share: a worker, an emulator beside it, and the host's calls for this driver."""

import contextlib
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "worker"))

from client import Emulator, make_certificate  # noqa: E402
from harness import COMPANY, Worker, check, check_equal  # noqa: E402

CONFIG_KEYS = ["appName", "image", "tokenId", "tokenSecret", "environment", "workdir", "sandboxTimeoutMs", "idleTimeoutMs", "execTimeoutMs",
               "blockNetwork", "cidrAllowlist", "reuseLease"]
EXECUTE = ["TaskExecStart", "TaskExecStdioRead", "TaskExecStdioRead", "TaskExecWait"]
LOOK = ["SandboxWait", "SandboxGetTaskId", "TaskGetCommandRouterAccess"]


class Session:
    """w: the worker, m: the emulator."""

    def __init__(self, worker, emulator, network):
        self.w = worker
        self.m = emulator
        self.network = network
        self.workdir = os.path.join(emulator.directory, "work dir")

    def config(self, **more):
        config = {"appName": "paperclip-app", "image": "node:20", "tokenId": "test-id", "tokenSecret": "test-secret", "workdir": self.workdir,
                  **self.network, **more}
        return {key: value for key, value in config.items() if value is not None}

    def base(self, environment="env-1", company=COMPANY, **config):
        return {"driverKey": "modal", "companyId": company, "environmentId": environment, "config": self.config(**config)}

    def send(self, method, more=None, **config):
        return self.w.send(f"environment{method}", {**self.base(**config), **(more or {})})

    def call(self, method, more=None, **config):
        return self.w.result(self.send(method, more, **config))

    def error(self, method, more=None, **config):
        return self.w.error(self.send(method, more, **config))

    def send_acquire(self, more=None, **config):
        return self.send("AcquireLease", {"runId": "run-1", **(more or {})}, **config)

    def acquire(self, more=None, **config):
        return self.w.result(self.send_acquire(more, **config))

    def send_execute(self, lease, command, args=(), more=None, **config):
        lease_id = lease["providerLeaseId"] if isinstance(lease, dict) else lease
        return self.send("Execute", {"lease": {"providerLeaseId": lease_id, "metadata": {}}, "command": command, "args": list(args), "cwd": "/",
                                     **(more or {})}, **config)

    def execute(self, *args, **more):
        return self.w.result(self.send_execute(*args, **more))

    def sh(self, lease, script, **more):
        return self.execute(lease, "sh", ["-c", script], **more)

    def lease_call(self, method, lease, more=None, **config):
        lease_id = lease["providerLeaseId"] if isinstance(lease, dict) else lease
        return self.call(method, {"providerLeaseId": lease_id, **(more or {})}, **config)

    def sandbox(self):
        """One that the calls of another environment know nothing of: use it with environment="env-2"."""
        return self.acquire()["providerLeaseId"]

    def scripts(self, since=0):
        return [request["request"]["command_args"][2] for request in self.m.requests("TaskExecStart", since=since)]

    def warnings(self):
        return [note["params"]["message"] for note in self.w.notes if note["params"]["level"] in ("warn", "error")]

    def no_live(self):
        check_equal(self.m.live(), [], "live sandboxes")


@contextlib.contextmanager
def session(tls=False, stderr_ok=False, **env):
    """The emulator ends first: the worker's own end shows that no process is left."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), **env} if env else None
    with Worker(stderr_ok=stderr_ok, env=environment) as worker:
        certificate = make_certificate(worker.temp) if tls else ()
        with Emulator(certificate) as emulator:
            network = {"serverUrl": emulator.tls_url, "caFile": certificate[0]} if tls else {"serverUrl": emulator.server_url}
            yield Session(worker, emulator, network)
        for name in certificate:
            os.unlink(name)


def ended(result):
    return {key: result[key] for key in ("exitCode", "timedOut", "stdout", "stderr")}


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
