"""The bridge's routes (wire: cloudflare, 3 to 7): a request's JSON in, status and JSON out, or a stream of events."""

import json
import os
import re
import urllib.parse
import uuid

from emulation.server import Refused
from sandboxes import Sandboxes, internal

ROOT = "/api/paperclip-sandbox/v1"
SENTINEL = ".paperclip-lease.json"


def normalized(name):
    name = re.sub(r"[^a-z0-9-]+", "-", name.strip().lower()).strip("-")
    return re.sub(r"-+", "-", name)


def event(name, value):
    return f"event: {name}\ndata: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


class Bridge:
    def __init__(self, token, directory):
        self.token = token
        self.sandboxes = Sandboxes(directory)
        self.keepalive = False  # a comment before each event

    def answer(self, request):
        """(status, JSON), or (200, an iterator of bytes)."""
        try:
            if request.headers.get("authorization") != f"Bearer {self.token}":
                raise Refused(401, "Missing or invalid bridge bearer token.", "unauthorized")
            return 200, self.route(request)
        except Refused as refused:
            return refused.status, {"error": refused.code, "message": refused.message}
        except ValueError as error:
            return 500, {"error": "internal_error", "message": str(error)}

    def route(self, request):
        route = (request.method, request.path.removeprefix(ROOT) if request.path.startswith(ROOT) else None)
        if route == ("GET", "/health"):
            return {"ok": True, "provider": "cloudflare"}
        functions = {"/probe": self.probe, "/leases/acquire": self.acquire, "/leases/resume": self.resume,
                     "/leases/release": self.release, "/exec": self.execute}
        if request.method == "POST" and route[1] in functions:
            return functions[route[1]](request.json())
        if request.method == "DELETE" and route[1] and route[1].startswith("/leases/"):
            name = urllib.parse.unquote(route[1].removeprefix("/leases/"))
            if not name:
                raise Refused(400, "providerLeaseId path parameter is required.", "invalid_request")
            self.sandboxes.destroy(name)
            return {"ok": True}
        raise Refused(404, f"No bridge route matched {request.method} {request.path}.", "not_found")

    def lease(self, sandbox, body, resumed):
        return {"providerLeaseId": sandbox.id, "metadata": {
            "provider": "cloudflare", "remoteCwd": body["requestedCwd"], "sandboxId": sandbox.id,
            "sessionStrategy": body["sessionStrategy"], "sessionId": body["sessionId"], "keepAlive": body["keepAlive"],
            "sleepAfter": body["sleepAfter"], "normalizeId": body["normalizeId"], "resumedLease": resumed}}

    def ensure(self, sandbox, path):
        result = sandbox.run({"command": "mkdir", "args": ["-p", path], "cwd": "/"})
        if result["exitCode"] != 0:
            raise internal(f"ensure workspace {path} failed with exit code {result['exitCode']}: {result['stderr']}")

    def probe(self, body):
        sandbox = self.sandboxes.get(f"pc-probe-{uuid.uuid4().hex[:8]}")
        try:
            self.ensure(sandbox, body["requestedCwd"])
            printed = sandbox.run({"command": "pwd", "cwd": body["requestedCwd"]})["stdout"] + "\n"
        finally:
            self.sandboxes.destroy(sandbox.id)
        return {"ok": True, "summary": "Connected to Cloudflare sandbox bridge.", "metadata": {
            "provider": "cloudflare", "remoteCwd": body["requestedCwd"], "namedSessions": body["sessionStrategy"] == "named",
            "stdout": printed}}

    def acquire(self, body):
        if not body.get("environmentId") or not body.get("runId"):
            raise Refused(400, "environmentId and runId are required.", "invalid_request")
        name = f"pc-env-{body['environmentId']}" if body["reuseLease"] else f"pc-{body['runId']}-{uuid.uuid4().hex[:8]}"
        sandbox = self.sandboxes.get(normalized(name) if body["normalizeId"] else name)
        try:
            self.ensure(sandbox, body["requestedCwd"])
        except Refused:
            if not body["reuseLease"]:
                self.sandboxes.destroy(sandbox.id)
            raise
        with open(os.path.join(sandbox.inside(body["requestedCwd"]), SENTINEL), "w", encoding="utf-8") as file:
            json.dump({"providerLeaseId": sandbox.id}, file)
        return self.lease(sandbox, body, False)

    def resume(self, body):
        if not body.get("providerLeaseId"):
            raise Refused(400, "providerLeaseId is required.", "invalid_request")
        sandbox = self.sandboxes.get(body["providerLeaseId"])  # an empty one if it was not there
        if not os.path.exists(os.path.join(sandbox.inside(body["requestedCwd"]), SENTINEL)):
            raise Refused(409, "Cloudflare sandbox state is no longer available.", "sandbox_state_lost")
        return self.lease(sandbox, body, True)

    def release(self, body):
        if not body.get("providerLeaseId"):
            raise Refused(400, "providerLeaseId is required.", "invalid_request")
        if not body["reuseLease"]:
            self.sandboxes.destroy(body["providerLeaseId"])
        return {"ok": True}

    def execute(self, body):
        if not body.get("providerLeaseId") or not body.get("command"):
            raise Refused(400, "providerLeaseId and command are required.", "invalid_request")
        sandbox = self.sandboxes.get(body["providerLeaseId"])
        return self.events(sandbox, body) if body.get("streamOutput") else sandbox.run(body)

    def events(self, sandbox, body):
        try:
            for name, value in sandbox.follow(body):
                if self.keepalive:
                    yield b": keepalive\n\n"
                yield event(name, value if name == "complete" else {"data": value})
        except Refused as refused:
            yield event("error", {"error": refused.message})
