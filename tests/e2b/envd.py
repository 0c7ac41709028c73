"""The daemon inside a sandbox (wire: e2b, envd): processes, their streams of events, files.

There is no container. A sandbox is a directory, its home lies in it, and its commands run on this machine as they are. Paths are paths
of this machine; files that were uploaded outside the sandbox's directory are remembered, so that tests see which are still there.
"""

import base64
import contextlib
import json
import os
import queue
import random
import select
import shutil
import signal
import struct
import subprocess
import threading
import time

from emulation.connection import Answer, read_multipart

PIECE = 32768
CODES = {"invalid_argument": 400, "not_found": 404, "unauthenticated": 401, "unimplemented": 404}
SIGNALS = {signal.SIGKILL: "killed", signal.SIGTERM: "terminated", signal.SIGSEGV: "segmentation fault", signal.SIGINT: "interrupt",
           signal.SIGHUP: "hangup", signal.SIGABRT: "aborted"}
END_OF_STREAM = 2
LATE = object()  # instead of an event: the limit has passed


def protojson(value):
    """As Go's encoder writes it: blanks at random."""
    blank = random.choice(["", " "])
    return json.dumps(value, separators=("," + blank, ":" + blank)).encode()


def envelope(value, flags=0):
    text = protojson(value)
    return struct.pack("!BI", flags, len(text)) + text


def failure(code, message):
    return {"error": {"code": code, "message": message}}


class Process:
    def __init__(self, sandbox, config, limit_ms):
        self.sandbox = sandbox
        self.config = config
        self.limit_s = limit_ms / 1000 if limit_ms else None
        self.lock = threading.Lock()
        self.followers = []
        self.begun = False
        self.end = None  # the last event
        self.ended_at = None
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": sandbox.home, "USER": "user", "LOGNAME": "user", "LANG": "C.UTF-8",
                       "E2B_SANDBOX": "true", "E2B_SANDBOX_ID": sandbox.id, **config.get("envs", {})}
        cwd = os.path.join(sandbox.home, os.path.expanduser(config.get("cwd") or ""))
        self.process = subprocess.Popen([config["cmd"], *config.get("args", [])], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, cwd=cwd, env=environment, start_new_session=True)
        self.pid = self.process.pid
        self.cut = os.pipe()  # readers stop when it is written to
        self.readers = [threading.Thread(target=self.read, args=(name,), daemon=True) for name in ("stdout", "stderr")]

    def start(self):
        """From here on its output is read: whoever follows first misses nothing."""
        self.begun = True
        for reader in self.readers:
            reader.start()
        threading.Thread(target=self.wait, daemon=True).start()

    def follow(self):
        events = queue.Queue()
        with self.lock:
            events.put({"event": {"start": {"pid": self.pid}}})
            if self.end:
                events.put(self.end)
            self.followers.append(events)
            if not self.begun:
                self.start()
        return events

    def tell(self, event):
        with self.lock:
            for events in self.followers:
                events.put(event)

    def read(self, name):
        pipe = getattr(self.process, name)
        poller = select.poll()
        poller.register(pipe, select.POLLIN)
        poller.register(self.cut[0], select.POLLIN)
        while any(fd == pipe.fileno() for fd, _ in poller.poll()):
            data = os.read(pipe.fileno(), PIECE)
            if not data:
                break
            self.tell({"event": {"data": {name: base64.b64encode(data).decode()}}})
        pipe.close()

    def wait(self):
        """The end comes when the process has ended and nobody holds its pipes; a signal of ours cuts that short."""
        try:
            status = self.process.wait(self.limit_s)
        except subprocess.TimeoutExpired:  # also if nobody listens any more
            self.tell(LATE)
            self.signal(signal.SIGKILL)
            status = self.process.wait()
        for reader in self.readers:
            reader.join()
        if status >= 0:
            end = {"exited": True, "status": f"exit status {status}"}
            if status:
                end.update(exitCode=status, error=f"exit status {status}")
        else:
            words = f"signal: {SIGNALS.get(-status, -status)}"
            end = {"exitCode": -1, "status": words, "error": words}
        with self.lock:
            self.end = {"event": {"end": end}}
            self.ended_at = time.monotonic()
            for events in self.followers:
                events.put(self.end)
            for fd in self.cut:
                os.close(fd)

    def signal(self, number):
        with self.lock:
            if self.end:
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
            if number == signal.SIGKILL:
                os.write(self.cut[1], b"x")

    def end_group(self):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.signal(signal.SIGKILL)


class Stream:
    """The answer of Start and Connect: envelopes in chunks that are cut anywhere."""

    status = 200

    def __init__(self, envd, process, limit_ms, ping_s, error=None):
        self.envd = envd
        self.process = process
        self.limit = time.monotonic() + limit_ms / 1000 if limit_ms else None
        self.ping_s = ping_s
        self.error = error
        self.fault = None
        self.sent = 0
        self.given_up = None

    def carry_out(self):
        if self.process:
            self.process.follow()

    def send_part(self, connection, fault, given_up):
        self.fault, self.given_up = fault, given_up
        self.send(connection)

    def send(self, connection):
        events = self.process and self.process.follow()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/connect+json\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.envd.sandbox.streams.add(connection)
        try:
            self.cut_if_due(connection)
            self.relay(connection, events)
            connection.send(b"0\r\n\r\n")
        finally:
            self.envd.sandbox.streams.discard(connection)

    def relay(self, connection, events):
        if self.error:
            self.put(connection, envelope(self.error, END_OF_STREAM))
            return
        while True:
            wait = self.ping_s
            if self.limit is not None:
                wait = min(wait, self.limit - time.monotonic())
            try:
                event = events.get(timeout=max(wait, 0.0))
            except queue.Empty:
                event = LATE if self.limit is not None and time.monotonic() >= self.limit else {"event": {"keepalive": {}}}
            if event is LATE:
                self.put(connection, envelope(failure("deadline_exceeded", "context deadline exceeded"), END_OF_STREAM))
                return
            self.put(connection, envelope(event))
            if "end" in event["event"]:
                break
        self.put(connection, envelope({}, END_OF_STREAM))

    def cut_if_due(self, connection):
        if self.fault is not None and self.sent >= self.fault.value:
            connection.end_by(self.fault, self.given_up)

    def put(self, connection, data):
        if self.fault is not None:
            data = data[:max(self.fault.value - self.sent, 0)]
        at = 0
        while at < len(data):
            size = min(self.envd.split or random.choice([1, 3, 7, 64, 1000, 70000]), len(data) - at)
            if len(data) - at > 2000:
                size = max(size, 1000)
            connection.send(b"%x\r\n%s\r\n" % (size, data[at:at + size]))
            at += size
        self.sent += len(data)
        self.cut_if_due(connection)


class Envd:
    def __init__(self, sandbox):
        self.sandbox = sandbox
        self.lock = threading.Lock()
        self.processes = {}
        self.split = None
        self.uploaded = set()

    def answer(self, request):
        """An Answer, or a Stream."""
        where = "/" + "/".join(request.parts)
        if (request.method, where) == ("GET", "/health"):
            return Answer(204)
        if self.sandbox.token and request.headers.get("x-access-token") != self.sandbox.token:
            return Answer(401, {"code": "unauthenticated", "message": "invalid access token"})
        if self.sandbox.wants_user and request.headers.get("authorization") != "Basic dXNlcjo=":
            return Answer(401, {"code": "unauthenticated", "message": "no user specified"})
        if where == "/files":
            return self.files(request)
        if request.method != "POST":
            return Answer(405, "method not allowed")
        if where in ("/process.Process/Start", "/process.Process/Connect"):
            return self.stream(request, where.rpartition("/")[2])
        return self.unary(request, where)

    # --- streams ---

    def stream(self, request, what):
        flags, length = struct.unpack("!BI", request.body[:5])
        if request.headers.get("content-type") != "application/connect+json" or flags or length != len(request.body) - 5:
            return Answer(415)
        body = json.loads(request.body[5:])
        limit_ms = int(request.headers.get("connect-timeout-ms", 0))
        ping_s = int(request.headers.get("keepalive-ping-interval", 90))
        try:
            process = self.start(body, limit_ms) if what == "Start" else self.find(body)
        except KeyError as error:
            return Stream(self, None, None, ping_s, failure("not_found", error.args[0]))
        except ValueError as error:
            return Stream(self, None, None, ping_s, failure("invalid_argument", str(error)))
        return Stream(self, process, limit_ms if what == "Connect" else 0, ping_s)

    def start(self, body, limit_ms):
        config = body["process"]
        if body.get("stdin") is not False:
            raise ValueError("an open stdin is nothing for these tests")
        cwd = config.get("cwd")
        if cwd and not os.path.isdir(os.path.join(self.sandbox.home, os.path.expanduser(cwd))):
            raise ValueError(f"cwd '{cwd}' does not exist")
        process = Process(self.sandbox, config, limit_ms)
        with self.lock:
            self.processes[process.pid] = process
        return process

    def find(self, body):
        pid = body["process"]["pid"]
        process = self.processes.get(pid)
        if process is None or (process.end and (self.sandbox.service.forgets or time.monotonic() - process.ended_at > 30)):
            raise KeyError(f"process with pid {pid} not found")
        return process

    # --- unary calls ---

    def unary(self, request, where):
        try:
            return Answer(200, protojson(self.call(where, json.loads(request.body))), {"Content-Type": "application/json"})
        except LookupError as error:
            code, message = error.args
            return Answer(CODES[code], {"code": code, "message": message})

    def call(self, where, body):
        if where == "/process.Process/List":
            return {"processes": [{"pid": pid, "config": process.config} for pid, process in self.processes.items() if not process.end]}
        if where == "/process.Process/SendSignal":
            process = self.processes.get(body["process"]["pid"])
            if process is None or process.end:
                raise LookupError("not_found", f"process with pid {body['process']['pid']} not found")
            process.signal({"SIGNAL_SIGKILL": signal.SIGKILL, "SIGNAL_SIGTERM": signal.SIGTERM}[body["signal"]])
            return {}
        if where == "/filesystem.Filesystem/Remove":
            if os.path.isdir(body["path"]):
                shutil.rmtree(body["path"])
            with contextlib.suppress(FileNotFoundError):
                os.unlink(body["path"])
            return {}
        raise LookupError("unimplemented", where)

    # --- files ---

    def files(self, request):
        path = request.query.get("path", "")
        if request.method == "GET":
            try:
                with open(path, "rb") as file:
                    return Answer(200, file.read(), {"Content-Type": "application/octet-stream"})
            except OSError:
                return Answer(404, {"code": 404, "message": f"path '{path}' does not exist"})
        if self.sandbox.wants_user and request.query.get("username") != "user":
            return Answer(401, {"code": 401, "message": "no user specified"})
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            content, = [data for name, data in read_multipart(request) if name == "file"]
        elif self.sandbox.version < (0, 5, 7):
            return Answer(400, {"code": 400, "message": "request Content-Type isn't multipart/form-data"})
        else:
            content = request.body
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        if not path.startswith(self.sandbox.root + "/"):
            self.uploaded.add(path)
        return Answer(200, json.dumps([{"name": os.path.basename(path), "path": path, "type": "file"}]), {"Content-Type": "text/plain"})

    def leftovers(self):
        return sorted(path for path in self.uploaded if os.path.exists(path))

    def running(self):
        with self.lock:
            return [process.config["args"][-1] for process in self.processes.values() if not process.end]

    def end(self):
        with self.lock:
            processes = list(self.processes.values())
        for process in processes:
            process.end_group()
        for path in self.leftovers():
            with contextlib.suppress(OSError):
                os.unlink(path)
