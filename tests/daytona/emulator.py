"""Daytona's two HTTP services on a loopback port, for tests (tests/lib/emulation/server.py).

The API is below /api, the sandboxes' toolboxes below /toolbox/<id>. Commands really run, in a temporary directory each sandbox has for
itself. A request is the environment's that the labels of its sandbox name.

    POST   /control/behave       {"plans", "errorReason", "recoverable", "toolboxInAnswers", "toolboxUrl", "page"} (sandboxes.py)
    POST   /control/toolbox      {"idleLooks", "workDir", "download", "downloadRefusal"} (toolbox.py)
    POST   /control/state        {"id", "state", "errorReason", "recoverable"}: what happens to a sandbox behind its owner's back
    POST   /control/sessions/end {"id"}: the daemon of that sandbox restarts: its sessions are gone
    GET    /control/state        {"live": [ids], "places": {id: [environment, state]}, "sandboxes": [views], "snapshots": [names], "running", "files"}
"""

import contextlib
import datetime
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from emulation.connection import Answer  # noqa: E402
from emulation.server import Refused, Server, serve  # noqa: E402
from sandboxes import Service  # noqa: E402
from toolbox import Toolbox, refuse  # noqa: E402

WORDS = {400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 409: "Conflict"}


def routes(service):
    """method, pattern of the path below /api (* is one part), what answers"""
    return [
        ("POST", ["sandbox"], lambda r: service.create(r.json())),
        ("GET", ["sandbox"], lambda r: service.list(r.query)),
        ("GET", ["sandbox", "*"], lambda r, name: service.get(name)),
        ("DELETE", ["sandbox", "*"], lambda r, name: service.delete(name)),
        ("GET", ["sandbox", "*", "toolbox-proxy-url"], lambda r, name: (service.find(name), (200, {"url": service.toolbox_url}))[1]),
        ("POST", ["sandbox", "*", "start"], lambda r, name: service.start(name)),
        ("POST", ["sandbox", "*", "recover"], lambda r, name: service.recover(name)),
        ("POST", ["sandbox", "*", "stop"], lambda r, name: service.stop(name)),
        ("POST", ["sandbox", "*", "archive"], lambda r, name: service.archive(name)),
        ("POST", ["sandbox", "*", "autodelete", "*"], lambda r, name, minutes: service.autodelete(name, minutes)),
        ("POST", ["sandbox", "*", "ssh-access"], lambda r, name: service.ssh_access(name, r.query.get("expiresInMinutes", 60))),
        ("POST", ["sandbox", "*", "snapshot"], lambda r, name: service.capture(name, r.json())),
        ("GET", ["snapshots", "*"], lambda r, name: service.get_snapshot(name)),
        ("DELETE", ["snapshots", "*"], lambda r, name: service.delete_snapshot(name)),
    ]


class Daytona(Server):
    names = ("daytona.test",)

    def begin(self):
        self.service = Service(self.place)
        self.service.toolbox_url = f"{self.url}/toolbox"
        self.toolbox = Toolbox()
        self.routes = routes(self.service)

    def end_work(self):
        self.service.end()
        for path in self.toolbox.leftovers():
            with contextlib.suppress(OSError):
                os.unlink(path)

    def owner_of(self, request):
        """What the labels of its sandbox say."""
        body = None
        if (request.method, request.path) == ("POST", "/api/sandbox"):
            with contextlib.suppress(ValueError):
                body = request.json()
        elif len(request.parts) > 1:
            name = request.parts[1 if request.parts[0] == "toolbox" else 2] if len(request.parts) > 2 or request.parts[0] == "toolbox" else None
            with self.service.lock:
                body = next((box.body for box in self.service.sandboxes.values() if name in (box.id, box.name)), None)
        return (body or {}).get("labels", {}).get("paperclip-environment-id")

    # --- the two services ---

    def answer(self, request):
        if request.parts[:1] == ["api"]:
            return self.api(request)
        if request.parts[:1] != ["toolbox"] or len(request.parts) < 3:
            return Answer(404, "<html><body>404 Not Found</body></html>")
        if request.headers.get("authorization") != f"Bearer {self.key}":
            return refuse(request, 401, "unauthorized: authentication failed: Bearer token is invalid", "UNAUTHORIZED")
        try:
            with self.service.lock:
                sandbox = self.service.find(request.parts[1])
        except Refused:
            return refuse(request, 404, "not found: sandbox not found", "NOT_FOUND")
        try:
            return self.toolbox.answer(sandbox, request)
        except (ValueError, KeyError) as error:
            return refuse(request, 400, f"bad request: {error}")

    def api(self, request):
        try:
            if request.headers.get("authorization") != f"Bearer {self.key}":
                raise Refused(401, "Invalid credentials")
            status, body = self.route(request)
            return Answer(status, body)
        except (Refused, ValueError, KeyError) as error:
            refused = error if isinstance(error, Refused) else Refused(400, f"Invalid request: {error}")
            return Answer(refused.status, {
                "path": request.target, "timestamp": datetime.datetime.now(datetime.timezone.utc).isoformat(),
                "statusCode": refused.status, "error": WORDS.get(refused.status, "Error"), "message": refused.message})

    def route(self, request):
        parts = request.parts[1:]
        for method, pattern, function in self.routes:
            if method == request.method and len(pattern) == len(parts) and all(a in ("*", b) for a, b in zip(pattern, parts)):
                with self.service.lock:
                    return function(request, *[part for want, part in zip(pattern, parts) if want == "*"])
        raise Refused(404, f"Cannot {request.method} {request.path}")

    # --- what tests steer and look at ---

    def steer(self, what, request):
        functions = {("POST", "behave"): self.service.behave, ("POST", "toolbox"): self.toolbox.behave, ("POST", "state"): self.change_state,
                     ("POST", "sessions/end"): lambda body: self.service.find(body["id"]).processes.end_all()}
        if what not in functions:
            return False
        with self.service.lock:
            functions[what](request.json())
        return True

    def change_state(self, body):
        sandbox = self.service.find(body["id"])
        sandbox.ahead = []
        sandbox.enter(body["state"])
        sandbox.error_reason = body.get("errorReason", sandbox.error_reason)
        sandbox.recoverable = body.get("recoverable", sandbox.recoverable)

    def state(self):
        with self.service.lock:
            boxes = list(self.service.sandboxes.values())
            return {"live": [box.id for box in boxes if box.live],
                    "places": {box.id: (box.body.get("labels", {}).get("paperclip-environment-id"), box.state) for box in boxes},
                    "sandboxes": [box.view() for box in boxes], "snapshots": list(self.service.snapshots),
                    "running": sum(box.processes.count() for box in boxes), "files": self.toolbox.leftovers()}


serve(Daytona, "test-key")
