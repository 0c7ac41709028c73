"""What the tests of the ssh driver share: a worker, a machine with a real sshd, and the host's calls for this driver."""

import contextlib
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "worker"))

from harness import COMPANY, Failure, Worker, check_equal, wait_until  # noqa: E402
from machine import USER, Machine, key_pair  # noqa: E402


class Session:
    """w: the worker, m: the machine."""

    def __init__(self, worker, machine):
        self.w = worker
        self.m = machine

    def config(self, **more):
        config = {"host": "127.0.0.1", "port": self.m.port, "username": USER, "remoteWorkspacePath": self.m.workspace(),
                  "privateKey": key_pair()[0], "knownHosts": self.m.known_hosts(), "strictHostKeyChecking": True, "timeoutMs": 60000,
                  "reuseLease": False, **more}
        return {key: value for key, value in config.items() if value is not ...}

    def base(self, environment="env-1", company=COMPANY, **config):
        return {"driverKey": "ssh", "companyId": company, "environmentId": environment, "config": self.config(**config)}

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

    def send_sh(self, lease, script, more=None, **config):
        return self.send_execute(lease, "/bin/sh", ["-c", script], more, **config)

    def sh(self, *args, **more):
        return self.w.result(self.send_sh(*args, **more))

    def lease_call(self, method, lease, more=None, **config):
        return self.call(method, {"providerLeaseId": lease, **(more or {})}, **config)

    def destroy(self, lease, **config):
        check_equal(self.lease_call("DestroyLease", lease, **config), {"providerLeaseId": lease, "state": "destroyed"})

    def directory(self, lease):
        """The lease's own."""
        return lease.split(f":{self.m.port}", 1)[1]

    def no_process(self):
        """No command runs on the machine."""
        try:
            wait_until(lambda: not self.m.processes(), "", 30)
        except Failure:
            raise Failure(f"processes are left: {self.m.processes()}") from None

    def nothing_left(self):
        self.no_process()
        check_equal(self.m.leases(), [], "what is left in the workspace")


@contextlib.contextmanager
def session(users=None, options=(), wrapper=(), env=None):
    """The machine ends first: the worker's own end shows that no process is left."""
    with Worker(env=env) as worker:
        with Machine(users, options, wrapper) as machine:
            yield Session(worker, machine)
