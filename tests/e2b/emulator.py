"""E2B's two HTTP services on a loopback port, for tests. Novita's are the same without /v2.

    emulator.py [--key KEY] [--tls]   prints one line of JSON when it listens: {"controlUrl", "apiUrl", "sandboxUrl"}, with --tls also
                                      {"caFile", "proxyUrl"}; ends when stdin does

The API is below /api, envd at the root, told apart by the header E2b-Sandbox-Id. With --tls both are at https://e2b.test, a name that only
the proxy knows. Commands really run. Under /control (no key needed, never encrypted):

    POST   /control/faults       one rule (faults.py), or a list. Of a stream, truncate (the connection ends), stallBody and
                                 dropStream (a reset) count the envelopes' bytes. A reply "base64:…" is bytes
    DELETE /control/faults       forget them; let go of connections that stall
    POST   /control/behave       {"envdVersion", "split", "forgets", "domain", "page", "ignoresFilter"} (sandboxes.py)
    POST   /control/destroy      {"id"}: a sandbox is killed behind its owner's back
    POST   /control/pause        {"id"}: the same, paused
    POST   /control/cut          {"id"}: its streams are reset
    GET    /control/state        {"live": [ids], "paused": [ids], "running": [scripts], "files": [paths], "connects", "sandboxes": [details]}
    GET    /control/requests     all that was asked so far, with the status of each answer and the fault it met; ?since=<n>
"""

import argparse
import base64
import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import urllib.parse

from envd import Stream
from faults import Faults
from http_side import Answer, Connection, Gone
from sandboxes import Refused, Service

NAME = "e2b.test"
DEAD = "The sandbox was not found"


def make_certificate(directory):
    """A certificate for NAME that is its own authority."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key.pem",
                    "-out", "ca.pem", "-days", "30", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"],
                   cwd=directory, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def copy(source, target):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for sock in (source, target):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


class Emulator:
    def __init__(self, key, tls):
        self.key = key
        self.directory = tempfile.mkdtemp(prefix="e2b-emulator.")
        self.service = Service(self.directory)
        self.faults = Faults()
        self.lock = threading.Lock()
        self.log = []
        self.connects = []
        plain = self.listen(self.serve_one)
        self.urls = {"controlUrl": plain, "apiUrl": f"{plain}/api", "sandboxUrl": plain}
        if tls:
            make_certificate(self.directory)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(os.path.join(self.directory, "ca.pem"), os.path.join(self.directory, "key.pem"))
            self.encrypted = self.listen(lambda sock: self.serve_one(context.wrap_socket(sock, server_side=True)))
            self.urls.update(apiUrl=f"https://{NAME}/api", sandboxUrl=f"https://{NAME}", caFile=os.path.join(self.directory, "ca.pem"),
                             proxyUrl=self.listen(self.serve_proxy))

    # --- connections ---

    @staticmethod
    def listen(serve):
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)

        def one(sock):
            with contextlib.suppress(OSError, Gone), sock:
                serve(sock)

        def accept():
            while True:
                threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    def serve_proxy(self, sock):
        connection = Connection(sock)
        line = connection.take_line()
        headers = {}
        while header := connection.take_line():
            name, _, value = header.partition(": ")
            headers[name.lower()] = value
        with self.lock:
            self.connects.append([line, headers.get("proxy-authorization")])
        with socket.create_connection(("127.0.0.1", int(self.encrypted.rpartition(":")[2]))) as service:
            connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
            threading.Thread(target=copy, args=(service, sock), daemon=True).start()
            copy(sock, service)

    def serve_one(self, sock):
        connection = Connection(sock)
        while True:
            self.exchange(connection, connection.read_request())

    def exchange(self, connection, request):
        if request.parts[:1] == ["control"]:
            connection.send_answer(self.control(request))
            return
        fault = self.faults.take(request.method, request.target, request.body, self.template_of(request))
        given_up = self.faults.given_up
        entry = {**request.record(), "fault": fault and fault.way, "status": None}
        with self.lock:
            entry["n"] = len(self.log)
            self.log.append(entry)
        answer = self.answer(request) if fault is None or fault.after else None
        if isinstance(answer, Stream):
            entry["status"] = 200
            self.finish_stream(connection, answer, fault, given_up)
            return
        entry["status"] = answer and answer.status
        if fault is None:
            connection.send_answer(answer)
        elif fault.way == "close":
            raise Gone
        elif fault.way in ("reset", "dropStream"):
            connection.reset()
        elif fault.way == "stall":
            connection.stall(given_up)
        elif fault.way == "truncate":
            connection.send_part(answer, fault.value)
            raise Gone
        elif fault.way == "stallBody":
            connection.send_part(answer, fault.value)
            connection.stall(given_up)
        elif fault.way == "delayMs":
            given_up.wait(fault.value / 1000)
            connection.send_answer(answer)
        elif fault.way == "merge":
            connection.send_answer(Answer(answer.status, {**json.loads(answer.body), **fault.value}))
        elif fault.way == "status":
            entry["status"] = fault.value
            reply = fault.reply
            if isinstance(reply, str) and reply.startswith("base64:"):
                reply = base64.b64decode(reply.removeprefix("base64:"))
            connection.send_answer(Answer(fault.value, reply, fault.headers))

    def template_of(self, request):
        """Of the sandbox that the request is about; None: of none."""
        if request.method == "POST" and request.parts[-1] == "sandboxes":
            return json.loads(request.body).get("templateID")
        name = request.headers.get("e2b-sandbox-id") or next((part for part in request.parts if part.partition("-")[0] in self.service.sandboxes), "")
        sandbox = self.service.sandboxes.get(name.partition("-")[0])
        return sandbox and sandbox.template

    @staticmethod
    def finish_stream(connection, stream, fault, given_up):
        way = fault and fault.way
        if way in ("close", "reset", "stall", "status") and stream.process:
            stream.process.follow()  # it runs all the same
        if way == "delayMs":
            given_up.wait(fault.value / 1000)
            fault = None
        elif way == "close":
            raise Gone
        elif way == "reset":
            connection.reset()
        elif way == "stall":
            connection.stall(given_up)
        elif way == "status":
            connection.send_answer(Answer(fault.value, fault.reply, fault.headers))
            return
        stream.serve(connection, fault, given_up)

    # --- the two services ---

    def answer(self, request):
        try:
            if request.parts[:1] == ["api"]:
                if request.headers.get("x-api-key") != self.key:
                    raise Refused(401, "Invalid API key, please visit https://e2b.dev/docs/api-key for more information.\n"
                                       "Cannot get the team for the given API key")
                with self.service.lock:
                    status, body, *headers = self.api(request)
                return Answer(status, body, *headers)
        except Refused as refused:
            return Answer(refused.status, {"code": refused.status, "message": refused.message}, refused.headers)
        except (ValueError, KeyError) as error:
            return Answer(400, {"code": 400, "message": f"Error parsing body: {error}"})
        return self.envd(request)

    def envd(self, request):
        name = request.headers.get("e2b-sandbox-id")
        if name is None:
            name = next(iter(self.service.live()), "")
        try:
            with self.service.lock:
                sandbox = self.service.find(name)
            if sandbox.state == "paused":
                raise Refused(502, DEAD)
        except Refused:
            return Answer(502, {"sandboxId": name, "message": DEAD, "code": 502})
        return sandbox.envd.answer(request)

    def api(self, request):
        service, parts = self.service, request.parts[1:]
        new = parts[:1] == ["v2"]
        if new:
            parts = parts[1:]
        if parts[:1] != ["sandboxes"] or len(parts) > 3:
            raise Refused(404, "no such path")
        what = (request.method, *parts[2:])
        if len(parts) == 1 and request.method == "GET" and new:
            return service.list(request.query, dict(urllib.parse.parse_qsl(request.query.get("metadata", ""))))
        if len(parts) == 1 and request.method == "POST":
            body = request.json()
            return service.create(body, new or body.get("secure", False))
        name = parts[1] if len(parts) > 1 else ""
        if what == ("POST", "connect"):
            return service.connect(name, request.json())
        if new:
            raise Refused(404, "no such path")
        if what == ("POST", "timeout"):
            return service.set_timeout(name, request.json())
        if what == ("POST", "pause"):
            return service.pause(name)
        if what == ("DELETE",):
            return service.kill(name)
        if what == ("GET",):
            return service.look(name)
        raise Refused(405, "method not allowed")

    # --- what tests steer and look at ---

    def control(self, request):
        try:
            return Answer(200, self.steer(request))
        except (ValueError, KeyError, Refused) as error:
            return Answer(400, {"error": f"{type(error).__name__}: {error}"})

    def steer(self, request):
        what = (request.method, "/".join(request.parts[1:]))
        if what == ("GET", "requests"):
            with self.lock:
                return self.log[int(request.query.get("since", 0)):]
        with self.service.lock:
            if what == ("POST", "faults"):
                rules = json.loads(request.body)
                for rule in rules if isinstance(rules, list) else [rules]:
                    self.faults.add(rule)
            elif what == ("DELETE", "faults"):
                self.faults.clear()
            elif what == ("POST", "behave"):
                self.service.behave(request.json())
            elif what == ("POST", "destroy"):
                self.service.kill(request.json()["id"])
            elif what == ("POST", "pause"):
                self.service.pause(request.json()["id"])
            elif what == ("POST", "cut"):
                self.service.find(request.json()["id"]).cut_streams()
            elif what != ("GET", "state"):
                raise ValueError(f"nothing to control: {what}")
            boxes = list(self.service.sandboxes.values())
        return {"live": [box.id for box in boxes], "paused": [box.id for box in boxes if box.state == "paused"],
                "running": [script for box in boxes for script in box.envd.running()],
                "files": [path for box in boxes for path in box.envd.leftovers()], "connects": self.connects,
                "sandboxes": [{**box.details(), "token": box.token, "home": box.home, "endsIn": box.end_at} for box in boxes]}

    def end(self):
        self.faults.clear()
        for sandbox in list(self.service.sandboxes.values()):
            sandbox.end()
        shutil.rmtree(self.directory, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description="E2B's services, emulated")
    parser.add_argument("--key", default="e2b_0123456789abcdef")
    parser.add_argument("--tls", action="store_true")
    arguments = parser.parse_args()
    emulator = Emulator(arguments.key, arguments.tls)
    print(json.dumps(emulator.urls), flush=True)
    sys.stdin.read()
    emulator.end()
    sys.stdout.flush()
    os._exit(0)


main()
