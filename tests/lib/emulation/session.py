"""What the tests of drivers with an emulated service share: a worker, the emulator beside it, and the host's calls."""

import contextlib
import os

from harness import COMPANY, KEPT, Worker, check_equal


class Session:
    """w: the worker, e: the emulator. A subclass says which driver it is and what every config holds."""

    driver = None

    def __init__(self, worker, emulator):
        self.w = worker
        self.e = emulator

    def settings(self):
        raise NotImplementedError

    def config(self, **more):
        """A value of ... takes the key away."""
        return {key: value for key, value in {**self.settings(), **more}.items() if value is not ...}

    def base(self, environment="env-1", company=COMPANY, **config):
        return {"driverKey": self.driver, "companyId": company, "environmentId": environment, "config": self.config(**config)}

    def send(self, method, more=None, **config):
        return self.w.send(f"environment{method}", {**self.base(**config), **(more or {})})

    def call(self, method, more=None, **config):
        return self.w.result(self.send(method, more, **config))

    def error(self, method, more=None, **config):
        return self.w.error(self.send(method, more, **config))

    def acquire(self, more=None, **config):
        return self.call("AcquireLease", {"runId": "run-1", **(more or {})}, **config)

    def send_execute(self, lease, command, args=(), more=None, **config):
        lease_id = lease["providerLeaseId"] if isinstance(lease, dict) else lease
        return self.send("Execute", {"lease": {"providerLeaseId": lease_id, "metadata": {}}, "command": command, "args": list(args),
                                     **(more or {})}, **config)

    def execute(self, *args, **more):
        return self.w.result(self.send_execute(*args, **more))

    def lease_call(self, method, lease, more=None, **config):
        lease_id = lease["providerLeaseId"] if isinstance(lease, dict) else lease
        return self.call(method, {"providerLeaseId": lease_id, **(more or {})}, **config)

    def validate(self, config):
        return self.w.call("environmentValidateConfig", {"driverKey": self.driver, "config": config})

    def no_live(self):
        check_equal(self.e.live(), [], "live sandboxes")


SHARED = {}  # class of emulator -> the one that serves all tests of a file: starting one takes longer than most tests


def shared(emulator):
    service = SHARED.get(emulator)
    if service is None or service.process.poll() is not None:
        service = SHARED[emulator] = emulator()
        KEPT[service.process.pid] = service.close
    service.reset()
    return service


@contextlib.contextmanager
def opened(kind, emulator, *options, env=None, **more):
    """With options the emulator is the session's own. env: beside PATH, of the worker; or what makes it of the emulator.

    What runs in the service ends first: the worker's own end shows that no process is left.
    """
    service = emulator(*options) if options else shared(emulator)
    if callable(env):
        env = env(service)
    environment = {"PATH": os.environ.get("PATH", os.defpath), **env} if env is not None else None
    with Worker(env=environment, **more) as worker:
        try:
            yield kind(worker, service)
        finally:
            if options:
                service.close()
            else:
                service.reset()
