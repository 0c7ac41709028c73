"""The API's side (wire: e2b, API requests): sandboxes, their states and lifetimes."""

import contextlib
import os
import secrets
import shutil
import signal
import threading
import time

from emulation.connection import Gone
from emulation.server import Refused
from envd import Envd

TEAM_MAX_S = 86400


class Sandbox:
    def __init__(self, service, body, secure):
        self.service = service
        self.id = "i" + secrets.token_hex(9)
        self.client_id = "6532622b"
        self.metadata = body.get("metadata") or {}
        self.template = body["templateID"]
        self.token = f"ea_{secrets.token_hex(16)}" if secure else None
        self.envd_version = service.envd_version
        self.version = tuple(int(part) for part in self.envd_version.split("."))
        self.wants_user = self.version < (0, 4, 0)
        self.state = "running"
        self.end_at = 0
        self.streams = set()
        self.root = os.path.join(service.directory, self.id)
        self.home = os.path.join(self.root, "home", "user")
        os.makedirs(self.home)
        self.envd = Envd(self)
        self.envd.split = service.split

    def view(self):
        return {"templateID": self.template, "sandboxID": self.id, "clientID": self.client_id, "alias": self.template,
                "envdVersion": self.envd_version, "envdAccessToken": self.token, "trafficAccessToken": None, "domain": self.service.domain}

    def details(self):
        return {"templateID": self.template, "sandboxID": self.id, "clientID": self.client_id, "state": self.state, "metadata": self.metadata,
                "envdVersion": self.envd_version, "domain": self.service.domain, "cpuCount": 2, "memoryMB": 512, "diskSizeMB": 1024,
                "startedAt": "2030-01-01T00:00:00Z", "endAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.end_at))}

    def live_for(self, body, only_longer=False):
        seconds = body.get("timeout")
        if not isinstance(seconds, int) or isinstance(seconds, bool):
            raise Refused(400, "Error parsing body: timeout")
        if seconds > TEAM_MAX_S:
            raise Refused(400, "Timeout cannot be greater than 24 hours")
        end = time.time() + seconds
        self.end_at = max(self.end_at, end) if only_longer else end

    def cut_streams(self):
        for connection in list(self.streams):
            with contextlib.suppress(Gone, OSError):
                connection.reset()

    def freeze(self, number):
        for process in list(self.envd.processes.values()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    def end(self):
        self.cut_streams()
        self.envd.end()
        shutil.rmtree(self.root, ignore_errors=True)


class Service:
    def __init__(self, directory):
        self.directory = directory
        self.lock = threading.RLock()
        self.sandboxes = {}
        self.behave({})

    def behave(self, text):
        """What a control request can change; what it leaves out gets its default."""
        unknown = set(text) - {"envdVersion", "split", "forgets", "domain", "page", "ignoresFilter"}
        if unknown:
            raise ValueError(f"unknown behaviour: {', '.join(sorted(unknown))}")
        self.envd_version = text.get("envdVersion", "0.6.13")
        self.split = text.get("split")
        self.forgets = text.get("forgets", False)  # an older envd: no end event of processes that have ended
        self.domain = text.get("domain")
        self.page = text.get("page", 100)
        self.ignores_filter = text.get("ignoresFilter", False)

    def find(self, sandbox_id):
        """By its id, or by the longer one that holds the client's."""
        bare = sandbox_id.partition("-")[0]
        sandbox = self.sandboxes.get(bare)
        if sandbox is None or (sandbox.state == "running" and time.time() > sandbox.end_at):
            if sandbox is not None:
                self.destroy(sandbox)
            raise Refused(404, f"Sandbox \"{sandbox_id}\" doesn't exist or you don't have access to it")
        return sandbox

    def destroy(self, sandbox):
        self.sandboxes.pop(sandbox.id, None)
        sandbox.end()

    def live(self):
        with self.lock:
            return list(self.sandboxes)

    # --- requests ---

    def create(self, body, secure):
        template = body.get("templateID")
        if not isinstance(template, str):
            raise Refused(400, "Error parsing body: templateID")
        if template == "none":
            raise Refused(404, "template 'none' not found")
        if template == "theirs":
            raise Refused(403, "you don't have access to template 'theirs'")
        sandbox = Sandbox(self, body, secure)
        try:
            sandbox.live_for({"timeout": 300, **body})
        except Refused:
            sandbox.end()
            raise
        self.sandboxes[sandbox.id] = sandbox
        return 201, sandbox.view()

    def connect(self, sandbox_id, body):
        sandbox = self.find(sandbox_id)
        status = 200
        if sandbox.state == "paused":
            status, sandbox.state, sandbox.end_at = 201, "running", 0
            sandbox.freeze(signal.SIGCONT)
        sandbox.live_for({"timeout": 300, **body}, only_longer=True)
        return status, sandbox.view()

    def set_timeout(self, sandbox_id, body):
        sandbox = self.find(sandbox_id)
        if sandbox.state == "paused":
            raise Refused(404, f"Sandbox \"{sandbox_id}\" doesn't exist or you don't have access to it")
        sandbox.live_for(body)
        return 204, None

    def pause(self, sandbox_id):
        sandbox = self.find(sandbox_id)
        if sandbox.state == "paused":
            raise Refused(409, f"Error pausing sandbox - sandbox '{sandbox_id}' is already paused")
        sandbox.state = "paused"
        sandbox.freeze(signal.SIGSTOP)
        sandbox.cut_streams()
        return 204, None

    def kill(self, sandbox_id):
        self.destroy(self.find(sandbox_id))
        return 204, None

    def look(self, sandbox_id):
        return 200, self.find(sandbox_id).details()

    def list(self, query, wanted):
        found = [sandbox for sandbox in self.sandboxes.values()
                 if sandbox.state in query.get("state", "running").split(",")
                 and (self.ignores_filter or all(sandbox.metadata.get(key) == value for key, value in wanted.items()))]
        start = int(query.get("nextToken") or 0)
        following = start + self.page
        headers = {"X-Next-Token": str(following)} if following < len(found) else {}
        return 200, [sandbox.details() for sandbox in found[start:following]], headers
