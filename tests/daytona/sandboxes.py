"""The API's side: sandboxes, their states, snapshots.

A state in between does not end by itself: each look at the sandbox, and each change that is refused because of it, brings it one step
on. So a test sees every state, on a machine of any speed.
"""

import json
import os
import shutil
import threading
import uuid

from emulation.server import Refused
from processes import Processes

# After the first state, which is the answer to the request itself.
PLANS = {
    "image": ["pending_build", "building_snapshot", "creating", "started"],
    "snapshot": ["creating", "started"],
    "start": ["starting", "started"],
    "restore": ["restoring", "started"],
    "recover": ["starting", "started"],
    "stop": ["stopping", "stopped"],
    "archive": ["archiving", "archived"],
    "delete": ["destroying", "destroyed"],
    "capture": ["snapshotting", "started"],
}
SETTLED = ("started", "stopped", "archived", "error", "build_failed", "destroyed", "paused")


class Sandbox:
    def __init__(self, service, body):
        self.service = service
        self.id = str(uuid.uuid4())
        self.name = body.get("name") or self.id
        self.body = body
        self.ahead = []
        self.state = "creating"
        self.error_reason = None
        self.recoverable = False
        self.auto_delete = body.get("autoDeleteInterval", -1)
        self.root = os.path.join(service.directory, self.id)
        self.home = os.path.join(self.root, "home", "daytona")
        os.makedirs(self.home)
        self.processes = Processes(self)

    def go(self, plan):
        states = list(self.service.plans[plan])
        self.enter(states.pop(0))
        self.ahead = states

    def enter(self, state):
        self.state = state
        if state in ("error", "build_failed"):
            self.error_reason = self.service.error_reason
            self.recoverable = self.service.recoverable
        if state in ("stopping", "stopped", "destroying", "destroyed", "error"):
            self.processes.end_all()
        if state == "destroyed":
            shutil.rmtree(self.root, ignore_errors=True)

    def step(self):
        if self.ahead:
            self.enter(self.ahead.pop(0))

    @property
    def live(self):
        return self.state not in ("destroying", "destroyed")

    def view(self):
        body = self.body
        view = {
            "id": self.id, "organizationId": "organization-1", "name": self.name, "state": self.state,
            "desiredState": self.ahead[-1] if self.ahead else self.state, "errorReason": self.error_reason,
            "recoverable": self.recoverable, "target": body.get("target", "us"), "user": "daytona", "env": body.get("env", {}),
            "labels": body.get("labels", {}), "public": False, "networkBlockAll": False,
            "cpu": body.get("cpu", 1), "gpu": body.get("gpu", 0), "memory": body.get("memory", 1), "disk": body.get("disk", 3),
            "autoStopInterval": body.get("autoStopInterval", 15), "autoArchiveInterval": body.get("autoArchiveInterval", 10080),
            "autoDeleteInterval": self.auto_delete, "volumes": [], "somethingNewer": {"unknown": True},
        }
        if "buildInfo" in body:
            view["buildInfo"] = body["buildInfo"]
        else:
            view["snapshot"] = body.get("snapshot", "daytonaio/sandbox:0.8.0")
        if self.service.toolbox_in_answers:
            view["toolboxProxyUrl"] = self.service.toolbox_url
        return view


class Service:
    def __init__(self, directory):
        self.directory = directory
        self.lock = threading.RLock()
        self.sandboxes = {}
        self.snapshots = {}
        self.toolbox_url = None
        self.behave({})
        for name in ("base-snapshot", "daytonaio/sandbox:0.8.0"):
            self.add_snapshot(name)

    def behave(self, text):
        """What a control request can change; what it leaves out gets its default."""
        unknown = set(text) - {"plans", "errorReason", "recoverable", "toolboxInAnswers", "toolboxUrl", "page"}
        if unknown:
            raise ValueError(f"unknown behaviour: {', '.join(sorted(unknown))}")
        self.plans = {**PLANS, **text.get("plans", {})}
        self.error_reason = text.get("errorReason", "the runner said no")
        self.recoverable = text.get("recoverable", False)
        self.toolbox_in_answers = text.get("toolboxInAnswers", True)
        self.toolbox_url = text.get("toolboxUrl", self.toolbox_url)
        self.page = text.get("page", 100)

    def add_snapshot(self, name):
        self.snapshots[name] = {"id": str(uuid.uuid4()), "name": name, "state": "active", "organizationId": "organization-1",
                                "general": False, "imageName": name, "cpu": 1, "gpu": 0, "mem": 1, "disk": 3, "size": 1,
                                "entrypoint": [], "errorReason": None}

    def find(self, id_or_name):
        for sandbox in self.sandboxes.values():
            if id_or_name in (sandbox.id, sandbox.name) and sandbox.state != "destroyed":
                return sandbox
        raise Refused(404, f"Sandbox with ID or name {id_or_name} not found")

    def change(self, id_or_name):
        """A sandbox that is about to change: no other change may be under way."""
        sandbox = self.find(id_or_name)
        if sandbox.state not in SETTLED:
            sandbox.step()
            raise Refused(409, "Sandbox state change in progress")
        return sandbox

    def end(self):
        with self.lock:
            for sandbox in self.sandboxes.values():
                sandbox.processes.end_all()

    # --- requests ---

    def create(self, body):
        if "snapshot" in body and "buildInfo" in body:
            raise Refused(400, "Cannot specify both a snapshot and a build info entry")
        if "buildInfo" not in body and any(key in body for key in ("cpu", "memory", "disk", "gpu")):
            raise Refused(400, "Cannot specify Sandbox resources when using a snapshot")
        if "snapshot" in body and body["snapshot"] not in self.snapshots:
            raise Refused(400, f"Snapshot {body['snapshot']} not found. Did you add it through the Daytona Dashboard?")
        if any(body.get("name") == sandbox.name and sandbox.live for sandbox in self.sandboxes.values()):
            raise Refused(409, f"Sandbox with name {body['name']} already exists")
        sandbox = Sandbox(self, body)
        self.sandboxes[sandbox.id] = sandbox
        sandbox.go("image" if "buildInfo" in body else "snapshot")
        return 200, sandbox.view()

    def get(self, id_or_name):
        sandbox = self.find(id_or_name)
        view = sandbox.view()
        sandbox.step()
        return 200, view

    def list(self, query):
        wanted = json.loads(query.get("labels", "{}"))
        found = [sandbox for sandbox in self.sandboxes.values() if sandbox.state != "destroyed"
                 and all(sandbox.body.get("labels", {}).get(key) == value for key, value in wanted.items())]
        start = int(query.get("cursor") or 0)
        following = start + self.page
        return 200, {"items": [sandbox.view() for sandbox in found[start:following]],
                     "nextCursor": str(following) if following < len(found) else None}

    def start(self, id_or_name):
        sandbox = self.find(id_or_name)
        if sandbox.state in ("error", "build_failed"):
            raise Refused(400, "Sandbox is in an errored state")
        sandbox = self.change(id_or_name)
        if sandbox.state not in ("stopped", "archived"):
            raise Refused(400, "Sandbox is not in valid state")
        sandbox.go("restore" if sandbox.state == "archived" else "start")
        return 200, sandbox.view()

    def recover(self, id_or_name):
        sandbox = self.change(id_or_name)
        if sandbox.state != "error" or not sandbox.recoverable:
            raise Refused(400, "Sandbox is not in a recoverable state")
        sandbox.error_reason = None
        sandbox.go("recover")
        return 200, sandbox.view()

    def stop(self, id_or_name):
        sandbox = self.change(id_or_name)
        if sandbox.state != "started":
            raise Refused(400, "Sandbox is not in a stoppable state")
        sandbox.go("stop")
        return 200, sandbox.view()

    def autodelete(self, id_or_name, minutes):
        sandbox = self.find(id_or_name)
        sandbox.auto_delete = int(minutes)
        return 201, sandbox.view()

    def archive(self, id_or_name):
        sandbox = self.change(id_or_name)
        if sandbox.state != "stopped":
            raise Refused(400, "Sandbox is not stopped")
        sandbox.go("archive")
        return 200, sandbox.view()

    def delete(self, id_or_name):
        sandbox = self.change(id_or_name)
        sandbox.go("delete")
        return 200, sandbox.view()

    def ssh_access(self, id_or_name, minutes):
        sandbox = self.find(id_or_name)
        token = uuid.uuid4().hex
        return 200, {"id": str(uuid.uuid4()), "sandboxId": sandbox.id, "token": token, "expiresAt": "2030-01-01T00:30:00.000Z",
                     "createdAt": "2030-01-01T00:00:00.000Z", "updatedAt": "2030-01-01T00:00:00.000Z",
                     "sshCommand": f"ssh {token}@ssh.app.daytona.io", "expiresInMinutes": float(minutes)}

    def capture(self, id_or_name, body):
        if body["name"] in self.snapshots:
            raise Refused(409, f"Snapshot with name {body['name']} already exists")
        sandbox = self.change(id_or_name)
        self.add_snapshot(body["name"])
        sandbox.go("capture")
        return 200, sandbox.view()

    def get_snapshot(self, id_or_name):
        for snapshot in self.snapshots.values():
            if id_or_name in (snapshot["id"], snapshot["name"]):
                return 200, snapshot
        raise Refused(404, f"Snapshot {id_or_name} not found")

    def delete_snapshot(self, snapshot_id):
        for name, snapshot in self.snapshots.items():
            if snapshot["id"] == snapshot_id:
                del self.snapshots[name]
                return 200, None
        raise Refused(404, f"Snapshot {snapshot_id} not found")
