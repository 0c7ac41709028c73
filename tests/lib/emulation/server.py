"""What an emulated service is built on: connections, a record of what was asked, faults, and what tests steer.

A program is a subclass of Service and ends with serve(). It prints one line of JSON when it listens: {"url", …}; it ends when stdin does.
With --tls it is also reached by a name that only its proxy knows, which wants credentials: {"tlsUrl", "caFile", "proxyUrl"} are there then.

Under /control (no key needed, never encrypted), beside what the service itself understands:

    POST   /control/faults       one rule (faults.py), or a list
    DELETE /control/faults       forget them; let go of connections that stall
    POST   /control/reset        everything is as it was at the start, but for the ports
    GET    /control/state        what the service has, and {"connections", "connects": what the proxy was asked for}
    GET    /control/requests     all that was asked so far, with the status of each answer and the fault it met; ?since=<n>
"""

import argparse
import contextlib
import json
import os
import resource
import shutil
import socket
import ssl
import sys
import tempfile
import threading
import time

from .connection import Answer, Connection, Gone
from .faults import IN_PART, Faults
from .relay import Relay, make_certificate


PROXY_CREDENTIALS = "dXNlcjpwYXNzLXdvcmQ="  # user:pass-word


class Refused(Exception):
    """An answer of the service with a status of 400 or more."""

    def __init__(self, status, message, code=None, headers=None):
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = headers or {}


class Server:
    names = ()  # in the certificate; the first is the one that it is reached by
    errors = (ValueError, KeyError, Refused)  # of control requests that make no sense

    def __init__(self, key, tls=False):
        self.key = key
        self.directory = tempfile.mkdtemp(prefix=f"{type(self).__name__.lower()}-emulator.")
        self.faults = Faults()
        self.lock = threading.Lock()
        self.log = []
        self.connections = {"open": 0, "peak": 0, "total": 0}
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.urls = {"url": self.url}
        self.proxy = None
        if tls:
            make_certificate(self.directory, self.names)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(os.path.join(self.directory, "ca.pem"), os.path.join(self.directory, "key.pem"))
            self.proxy = Relay(Relay(self.port, context).port, proxy=True, credentials=PROXY_CREDENTIALS)
            self.urls.update(tlsUrl=f"https://{self.names[0]}", caFile=os.path.join(self.directory, "ca.pem"), proxyUrl=self.proxy.url)
        self.start()

    def start(self):
        self.place = tempfile.mkdtemp(dir=self.directory)
        self.begin()

    # --- what a service does of its own ---

    def begin(self):
        """At the start, and again after end_work(). Its files are in self.place."""
        raise NotImplementedError

    def end_work(self):
        """Nothing of it runs any more, no file is left outside of its place."""
        raise NotImplementedError

    def owner_of(self, request):
        """Whose it is, as rules of faults name it; None: nobody's."""

    def answer(self, request):
        """An Answer, or a stream that has what Answer has."""
        raise NotImplementedError

    def steer(self, what, request):
        """A control request, ("POST", "behave"). False: it is not known."""
        return False

    def state(self):
        """In JSON, what tests look at."""
        raise NotImplementedError

    # --- connections ---

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.serve_one, args=(self.listener.accept()[0],), daemon=True).start()

    def count(self, change):
        with self.lock:
            self.connections["open"] += change
            self.connections["total"] += max(change, 0)
            self.connections["peak"] = max(self.connections["peak"], self.connections["open"])

    def serve_one(self, sock):
        connection = Connection(sock)
        self.count(1)
        try:
            with contextlib.suppress(Gone, OSError):
                while True:
                    self.exchange(connection, connection.read_request())
        finally:
            sock.close()
            self.count(-1)

    def exchange(self, connection, request):
        if request.parts[:1] == ["control"]:
            self.control(request).send(connection)
            return
        fault = self.faults.take(request, self.owner_of(request))
        given_up = self.faults.given_up
        entry = {**request.record(), "fault": fault and fault.way, "status": None, "at": time.time()}
        with self.lock:
            entry["n"] = len(self.log)
            self.log.append(entry)
        answer = self.answer(request) if fault is None or fault.after else None
        entry["status"] = answer and answer.status
        if fault is None:
            answer.send(connection)
        elif fault.way in IN_PART:
            answer.send_part(connection, fault, given_up)
        else:
            answer = self.spoiled(connection, answer, fault, given_up)
            entry["status"] = answer.status
            answer.send(connection)

    @staticmethod
    def spoiled(connection, answer, fault, given_up):
        """The answer that comes after all, if one does."""
        if fault.way == "delayMs":
            given_up.wait(fault.value / 1000)
            return answer
        if fault.way == "merge":
            return Answer(answer.status, {**json.loads(answer.body), **fault.value})
        if answer is not None:
            answer.carry_out()
        if fault.way == "reset":
            connection.reset()
        if fault.way == "stall":
            connection.stall(given_up)
        if fault.way == "close":
            raise Gone
        return Answer(fault.value, fault.reply, fault.headers)

    # --- what tests steer and look at ---

    def control(self, request):
        what = (request.method, "/".join(request.parts[1:]))
        try:
            if what == ("GET", "requests"):
                with self.lock:
                    return Answer(200, self.log[int(request.query.get("since", 0)):])
            if what == ("GET", "state"):
                return Answer(200, {**self.state(), "connections": dict(self.connections), "connects": self.proxy.asked if self.proxy else []})
            if what == ("POST", "faults"):
                self.faults.add(json.loads(request.body))
            elif what == ("DELETE", "faults"):
                self.faults.clear()
            elif what == ("POST", "reset"):
                self.reset()
            elif self.steer(what, request) is False:
                raise ValueError(f"nothing to control: {' '.join(what)}")
        except self.errors as error:
            return Answer(400, {"error": f"{type(error).__name__}: {error}"})
        return Answer(200, {})

    def reset(self):
        self.faults.clear()
        self.end_work()
        shutil.rmtree(self.place, ignore_errors=True)
        self.start()
        with self.lock:
            self.log = []
            self.connections.update(total=self.connections["open"], peak=self.connections["open"])

    def end(self):
        self.listener.close()
        self.faults.clear()
        self.end_work()
        shutil.rmtree(self.directory, ignore_errors=True)


def serve(service, key):
    """The program: the service until stdin ends."""
    parser = argparse.ArgumentParser(description=sys.modules[service.__module__].__doc__.partition("\n")[0])
    parser.add_argument("--key", default=key)
    parser.add_argument("--tls", action="store_true")
    arguments = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    server = service(arguments.key, arguments.tls)
    threading.Thread(target=server.accept, daemon=True).start()
    print(json.dumps(server.urls), flush=True)
    try:
        while sys.stdin.buffer.read(4096):
            pass
    except KeyboardInterrupt:
        pass
    finally:
        server.end()
    os._exit(0)  # threads may still hold connections
