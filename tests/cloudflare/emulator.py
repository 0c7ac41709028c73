"""The operator's bridge on a loopback port, for tests.

    emulator.py [--token TOKEN] [--tls]   prints one line of JSON when it listens: {"url", "controlUrl", "caFile", "proxyUrl"}; ends when
                                          stdin does

With --tls url is https://bridge.test, a name that only the proxy knows. Under /control (no token needed, never encrypted):

    POST   /control/faults       one rule (faults.py), or a list. Of a stream, truncate, stallBody and dropStream (a reset)
                                 count the events' bytes. A reply "base64:…" is bytes
    DELETE /control/faults       forget them; let go of connections that stall
    POST   /control/behave       {"split": bytes a chunk of a stream holds, "keepalive": true}
    POST   /control/destroy      {"id"}: a sandbox is gone behind its owner's back
    GET    /control/state        {"live": [ids], "running": commands, "connects": [what the proxy was asked for]}
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

from bridge import Bridge
from faults import Faults
from http_side import Answer, Connection, Gone

NAME = "bridge.test"


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
    def __init__(self, token, tls):
        self.directory = tempfile.mkdtemp(prefix="cloudflare-emulator.")
        self.bridge = Bridge(token, self.directory)
        self.faults = Faults()
        self.lock = threading.Lock()
        self.log = []
        self.connects = []
        self.split = None
        self.urls = {"controlUrl": self.listen(self.serve_one)}
        self.urls["url"] = self.urls["controlUrl"]
        if tls:
            make_certificate(self.directory)
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(os.path.join(self.directory, "ca.pem"), os.path.join(self.directory, "key.pem"))
            self.encrypted = self.listen(lambda sock: self.serve_one(self.context.wrap_socket(sock, server_side=True)))
            self.urls.update(url=f"https://{NAME}", caFile=os.path.join(self.directory, "ca.pem"), proxyUrl=self.listen(self.serve_proxy))

    # --- connections ---

    def listen(self, serve):
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
        if "proxy-authorization" not in headers:
            connection.send(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        with socket.create_connection(("127.0.0.1", int(self.encrypted.rpartition(":")[2]))) as bridge:
            connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
            threading.Thread(target=copy, args=(bridge, sock), daemon=True).start()
            copy(sock, bridge)

    def serve_one(self, sock):
        connection = Connection(sock)
        while True:
            self.exchange(connection, connection.read_request())

    def exchange(self, connection, request):
        if request.parts[:1] == ["control"]:
            connection.send_answer(self.control(request))
            return
        fault = self.faults.take(request.method, request.target, request.body)
        given_up = self.faults.given_up
        entry = {**request.record(), "fault": fault and fault.way, "status": None}
        with self.lock:
            entry["n"] = len(self.log)
            self.log.append(entry)
        status, body = self.bridge.answer(request) if fault is None or fault.after else (None, None)
        entry["status"] = status
        if fault is None:
            self.finish(connection, status, body)
        elif fault.way == "close":
            raise Gone
        elif fault.way == "reset":
            connection.reset()
        elif fault.way == "stall":
            self.exhaust(body)
            connection.stall(given_up)
        elif fault.way == "delayMs":
            given_up.wait(fault.value / 1000)
            self.finish(connection, status, body)
        elif fault.way == "status":
            entry["status"] = fault.value
            reply = fault.reply
            if isinstance(reply, str) and reply.startswith("base64:"):
                reply = base64.b64decode(reply.removeprefix("base64:"))
            connection.send_answer(Answer(fault.value, reply, fault.headers))
        elif fault.way == "merge":
            connection.send_answer(Answer(status, {**body, **fault.value}))
        else:
            self.finish_in_part(connection, status, body, fault, given_up)

    @staticmethod
    def exhaust(body):
        """Carries a streamed command out that nobody is told of."""
        if body is not None and not isinstance(body, dict):
            threading.Thread(target=list, args=(body,), daemon=True).start()

    def finish(self, connection, status, body):
        if isinstance(body, dict):
            connection.send_answer(Answer(status, body))
            return
        self.begin_stream(connection)
        for piece in body:
            self.send_chunks(connection, piece)
        connection.send(b"0\r\n\r\n")

    @staticmethod
    def begin_stream(connection):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
                        b"Transfer-Encoding: chunked\r\n\r\n")

    def send_chunks(self, connection, data):
        size = self.split or len(data)
        for at in range(0, len(data), size):
            piece = data[at:at + size]
            connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))

    def finish_in_part(self, connection, status, body, fault, given_up):
        if isinstance(body, dict):
            connection.send_part(Answer(status, body), fault.value)
        else:
            self.begin_stream(connection)
            left = fault.value
            for piece in body:
                if left > 0:
                    self.send_chunks(connection, piece[:left])
                left -= len(piece)
                if left <= 0 and fault.way != "stallBody":
                    break
                if left <= 0:
                    self.exhaust(body)
                    break
        if fault.way == "stallBody":
            connection.stall(given_up)
        if fault.way == "dropStream":
            connection.reset()
        raise Gone

    # --- what tests steer and look at ---

    def control(self, request):
        try:
            return Answer(200, self.steer(request))
        except (ValueError, KeyError) as error:
            return Answer(400, {"error": f"{type(error).__name__}: {error}"})

    def steer(self, request):
        what = (request.method, "/".join(request.parts[1:]))
        if what == ("POST", "faults"):
            rules = json.loads(request.body)
            for rule in rules if isinstance(rules, list) else [rules]:
                self.faults.add(rule)
        elif what == ("DELETE", "faults"):
            self.faults.clear()
        elif what == ("POST", "behave"):
            text = request.json()
            self.split, self.bridge.keepalive = text.get("split"), text.get("keepalive", False)
        elif what == ("POST", "destroy"):
            self.bridge.sandboxes.destroy(request.json()["id"])
        elif what == ("GET", "requests"):
            with self.lock:
                return self.log[int(request.query.get("since", 0)):]
        elif what != ("GET", "state"):
            raise ValueError(f"nothing to control: {what}")
        return {"live": self.bridge.sandboxes.live(), "running": self.bridge.sandboxes.running(), "connects": self.connects}

    def end(self):
        self.faults.clear()
        self.bridge.sandboxes.end()
        shutil.rmtree(self.directory, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--token", default="test-token")
    parser.add_argument("--tls", action="store_true")
    arguments = parser.parse_args()
    emulator = Emulator(arguments.token, arguments.tls)
    print(json.dumps(emulator.urls), flush=True)
    sys.stdin.read()
    emulator.end()
    sys.stdout.flush()
    os._exit(0)


main()
