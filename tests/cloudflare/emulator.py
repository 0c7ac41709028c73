"""The operator's bridge on a loopback port, for tests (tests/lib/emulation/server.py); over TLS it is https://bridge.test.

    POST   /control/behave       {"split": bytes a chunk of a stream holds, "keepalive": true}
    POST   /control/destroy      {"id"}: a sandbox is gone behind its owner's back
    GET    /control/state        {"live": [ids], "running": commands}

Of a stream, truncate, stallBody and dropStream (a reset) count the events' bytes.
"""

import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from bridge import Bridge  # noqa: E402
from emulation.connection import Answer  # noqa: E402
from emulation.server import Server, serve  # noqa: E402


class Events:
    """The answer to a streamed command."""

    status = 200

    def __init__(self, pieces, split):
        self.pieces = pieces
        self.split = split

    @staticmethod
    def begin(connection):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
                        b"Transfer-Encoding: chunked\r\n\r\n")

    def send_chunks(self, connection, data):
        size = self.split or len(data)
        for at in range(0, len(data), size):
            piece = data[at:at + size]
            connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))

    def send(self, connection):
        self.begin(connection)
        for piece in self.pieces:
            self.send_chunks(connection, piece)
        connection.send(b"0\r\n\r\n")

    def send_part(self, connection, fault, given_up):
        self.begin(connection)
        left = fault.value
        for piece in self.pieces:
            if left > 0:
                self.send_chunks(connection, piece[:left])
            left -= len(piece)
            if left <= 0:
                break
        if fault.way == "stallBody":
            self.carry_out()
        connection.end_by(fault, given_up)

    def carry_out(self):
        threading.Thread(target=list, args=(self.pieces,), daemon=True).start()


class Cloudflare(Server):
    names = ("bridge.test",)

    def begin(self):
        self.bridge = Bridge(self.key, self.place)
        self.split = None

    def end_work(self):
        self.bridge.sandboxes.end()

    def answer(self, request):
        status, body = self.bridge.answer(request)
        return Answer(status, body) if isinstance(body, dict) else Events(body, self.split)

    def steer(self, what, request):
        if what == ("POST", "behave"):
            text = request.json()
            self.split, self.bridge.keepalive = text.get("split"), text.get("keepalive", False)
        elif what == ("POST", "destroy"):
            self.bridge.sandboxes.destroy(request.json()["id"])
        else:
            return False
        return True

    def state(self):
        return {"live": self.bridge.sandboxes.live(), "running": self.bridge.sandboxes.running()}


serve(Cloudflare, "test-token")
