"""Daytona's two HTTP services on a loopback port, for tests.

    emulator.py [--key KEY]     prints one line of JSON when it listens: {"url", "apiUrl", "toolboxUrl"}; ends when stdin does

The API is below /api, the sandboxes' toolboxes below /toolbox/<id>. Commands really run, in a temporary directory each sandbox has for
itself. Under /control (no key needed):

    POST   /control/faults       one rule (faults.py), or a list of them
    DELETE /control/faults       forget them; let go of connections that stall
    POST   /control/behave       {"plans", "errorReason", "recoverable", "toolboxInAnswers", "toolboxUrl", "page"} (sandboxes.py)
    POST   /control/toolbox      {"idleLooks", "workDir", "download", "downloadRefusal"} (toolbox.py)
    POST   /control/state        {"id", "state", "errorReason", "recoverable"}: what happens to a sandbox behind its owner's back
    POST   /control/sessions/end {"id"}: the daemon of that sandbox restarts: its sessions are gone
    GET    /control/state        {"live": [ids], "places": {id: [environment, state]}, "sandboxes": [views], "snapshots": [names], "running", "files", "connections"}
    GET    /control/requests     all that was asked so far, with the status of each answer and the fault it met; ?since=<n>
"""

import argparse
import contextlib
import datetime
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import time

from faults import Faults
from http_side import Answer, Connection, Gone
from sandboxes import Refused, Service
from toolbox import Toolbox, refuse


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


class Emulator:
    def __init__(self, key):
        self.key = key
        self.directory = tempfile.mkdtemp(prefix="daytona-emulator.")
        self.service = Service(self.directory)
        self.toolbox = Toolbox()
        self.faults = Faults()
        self.routes = routes(self.service)
        self.lock = threading.Lock()
        self.log = []
        self.connections = {"open": 0, "peak": 0, "total": 0}
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.service.toolbox_url = f"{self.url}/toolbox"

    # --- connections ---

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                threading.Thread(target=self.serve_one, args=(sock,), daemon=True).start()

    def serve_one(self, sock):
        connection = Connection(sock)
        with self.lock:
            self.connections["total"] += 1
            self.connections["open"] += 1
            self.connections["peak"] = max(self.connections["peak"], self.connections["open"])
        try:
            while True:
                self.exchange(connection, connection.read_request())
        except Gone:
            pass
        finally:
            sock.close()
            with self.lock:
                self.connections["open"] -= 1

    def exchange(self, connection, request):
        if request.parts[:1] == ["control"]:
            connection.send_answer(self.control(request))
            return
        fault = self.faults.take(request.method, request.target, request.body, self.environment_of(request))
        given_up = self.faults.given_up
        entry = {**request.record(), "fault": fault and fault.way, "status": None, "at": time.time()}
        with self.lock:
            entry["n"] = len(self.log)
            self.log.append(entry)
        if fault is None or fault.after:
            answer = self.answer(request, fault)
            entry["status"] = answer.status
        else:
            answer = None
        if fault is None or fault.way in ("dropStream", "closeStream"):
            self.finish(connection, answer)
            return
        if fault.way == "close":
            raise Gone
        if fault.way == "reset":
            connection.reset()
        if fault.way == "stall":
            connection.stall(given_up)
        if fault.way == "truncate":
            connection.send_part(answer, fault.value)
            raise Gone
        if fault.way == "stallBody":
            connection.send_part(answer, fault.value)
            connection.stall(given_up)
        if fault.way == "delayMs":
            given_up.wait(fault.value / 1000)
        elif fault.way == "merge":
            answer = Answer(answer.status, {**json.loads(answer.body), **fault.value})
        elif fault.way == "status":
            answer = Answer(fault.value, fault.reply, fault.headers)
        entry["status"] = answer.status
        self.finish(connection, answer)

    def environment_of(self, request):
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

    @staticmethod
    def finish(connection, answer):
        if answer.stream is not None:
            answer.stream(connection)
        else:
            connection.send_answer(answer)

    # --- the two services ---

    def answer(self, request, fault):
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
            return self.toolbox.answer(sandbox, request, fault)
        except (ValueError, KeyError) as error:
            return refuse(request, 400, f"bad request: {error}")

    def api(self, request):
        try:
            if request.headers.get("authorization") != f"Bearer {self.key}":
                raise Refused(401, "Invalid credentials", "Unauthorized")
            status, body = self.route(request)
            return Answer(status, body)
        except (Refused, ValueError, KeyError) as error:
            refused = error if isinstance(error, Refused) else Refused(400, f"Invalid request: {error}")
            return Answer(refused.status, {
                "path": request.target, "timestamp": datetime.datetime.now(datetime.timezone.utc).isoformat(),
                "statusCode": refused.status, "error": refused.error, "message": refused.message})

    def route(self, request):
        parts = request.parts[1:]
        for method, pattern, function in self.routes:
            if method == request.method and len(pattern) == len(parts) and all(a in ("*", b) for a, b in zip(pattern, parts)):
                with self.service.lock:
                    return function(request, *[part for want, part in zip(pattern, parts) if want == "*"])
        raise Refused(404, f"Cannot {request.method} {request.path}")

    # --- what tests steer and look at ---

    def control(self, request):
        try:
            return self.steer(request)
        except (ValueError, KeyError, Refused) as error:
            return Answer(400, {"error": f"{type(error).__name__}: {error}"})

    def steer(self, request):
        what = (request.method, "/".join(request.parts[1:]))
        if what == ("GET", "state"):
            with self.service.lock:
                boxes = list(self.service.sandboxes.values())
                return Answer(200, {
                    "live": [box.id for box in boxes if box.live],
                    "places": {box.id: (box.body.get("labels", {}).get("paperclip-environment-id"), box.state) for box in boxes},
                    "sandboxes": [box.view() for box in boxes],
                    "snapshots": list(self.service.snapshots), "running": sum(box.processes.count() for box in boxes),
                    "files": self.toolbox.leftovers(), "connections": dict(self.connections)})
        if what == ("GET", "requests"):
            with self.lock:
                return Answer(200, self.log[int(request.query.get("since", 0)):])
        if what == ("DELETE", "faults"):
            self.faults.clear()
            return Answer(200, {})
        body = json.loads(request.body)
        if what == ("POST", "faults"):
            for rule in body if isinstance(body, list) else [body]:
                self.faults.add(rule)
        elif what == ("POST", "behave"):
            with self.service.lock:
                self.service.behave(body)
        elif what == ("POST", "toolbox"):
            self.toolbox.behave(body)
        elif what == ("POST", "state"):
            with self.service.lock:
                sandbox = self.service.find(body["id"])
                sandbox.ahead = []
                sandbox.enter(body["state"])
                sandbox.error_reason = body.get("errorReason", sandbox.error_reason)
                sandbox.recoverable = body.get("recoverable", sandbox.recoverable)
        elif what == ("POST", "sessions/end"):
            with self.service.lock:
                self.service.find(body["id"]).processes.end_all()
        else:
            raise ValueError(f"no such control: {' '.join(what)}")
        return Answer(200, {})

    def end(self):
        self.listener.close()
        self.faults.clear()
        self.service.end()
        for path in self.toolbox.leftovers():
            with contextlib.suppress(OSError):
                os.unlink(path)
        shutil.rmtree(self.directory, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description="Daytona's services, emulated")
    parser.add_argument("--key", default="test-key")
    emulator = Emulator(parser.parse_args().key)
    threading.Thread(target=emulator.serve, daemon=True).start()
    print(json.dumps({"url": emulator.url, "apiUrl": f"{emulator.url}/api", "toolboxUrl": emulator.service.toolbox_url}), flush=True)
    try:
        while sys.stdin.buffer.read(4096):
            pass
    except KeyboardInterrupt:
        pass
    finally:
        emulator.end()


if __name__ == "__main__":
    main()
