"""HTTP/1.1 as an emulator needs it: a request read whole, an answer that can go wrong, multipart."""

import base64
import http.server
import json
import select
import socket
import struct
import urllib.parse

REASONS = http.server.BaseHTTPRequestHandler.responses


class Gone(Exception):
    """The connection is over."""


class Answer:
    """One that is there as a whole. Streams are subclasses with a send(), a send_part() and a carry_out() of their own."""

    def __init__(self, status, body=None, headers=None):
        self.status = status
        self.headers = dict(headers or {})
        if body is None:
            self.body = b""
        elif isinstance(body, bytes):
            self.body = body
        elif isinstance(body, str):
            self.body = body.encode()
            self.headers.setdefault("Content-Type", "text/html" if body.startswith("<") else "text/plain; charset=utf-8")
        else:
            self.body = json.dumps(body, separators=(",", ":")).encode()
            self.headers.setdefault("Content-Type", "application/json; charset=utf-8")

    def head(self, announced):
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, ('Status',))[0]}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.status != 204:
            lines.append(f"Content-Length: {announced}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def send(self, connection):
        connection.send(self.head(len(self.body)) + self.body)

    def send_part(self, connection, fault, given_up):
        """The head announces the whole body; so many bytes of it follow. The connection does not survive it."""
        count = fault.value
        connection.send(self.head(max(len(self.body), count + 1)) + self.body[:count])
        connection.end_by(fault, given_up)

    def carry_out(self):
        """Nobody is told, but what it answers happens."""


class Request:
    def __init__(self, method, target, headers, body):
        self.method = method
        self.target = target
        path, _, query = target.partition("?")
        self.path = path
        self.parts = [urllib.parse.unquote(part) for part in path.split("/")[1:]]
        self.query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        self.headers = headers  # lower-case names
        self.body = body

    def json(self):
        value = json.loads(self.body or b"null")
        if not isinstance(value, dict):
            raise ValueError("not an object")
        return value

    def record(self):
        try:
            body = self.body.decode()
        except UnicodeDecodeError:
            body = {"base64": base64.b64encode(self.body).decode()}
        return {"method": self.method, "target": self.target, "path": self.path, "query": self.query, "headers": self.headers,
                "body": body}


class Connection:
    def __init__(self, sock):
        self.sock = sock
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()

    def fill(self):
        try:
            data = self.sock.recv(262144)
        except OSError as error:
            raise Gone from error
        if not data:
            raise Gone
        self.buffer += data

    def take(self, count):
        while len(self.buffer) < count:
            self.fill()
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def take_line(self):
        while b"\n" not in self.buffer:
            self.fill()
        line, _, rest = bytes(self.buffer).partition(b"\n")
        self.buffer = bytearray(rest)
        return line.rstrip(b"\r").decode("latin-1")

    def read_request(self):
        method, target, _version = self.take_line().split(" ", 2)
        headers = {}
        while line := self.take_line():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("expect", "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = bytearray()
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int(self.take_line().split(";")[0], 16):
                body += self.take(size)
                self.take(2)
            while self.take_line():
                pass
        else:
            body += self.take(int(headers.get("content-length", 0)))
        return Request(method, target, headers, bytes(body))

    def send(self, data):
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise Gone from error

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
        raise Gone

    def stall(self, given_up):
        """Until the client goes away or somebody lets go."""
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        poller.register(given_up, select.POLLIN)
        while not given_up.is_set():
            if any(fd == self.sock.fileno() for fd, _ in poller.poll()):
                self.fill()
        raise Gone

    def end_by(self, fault, given_up):
        """After a part of an answer."""
        if fault.way == "stallBody":
            self.stall(given_up)
        if fault.way == "dropStream":
            self.reset()
        raise Gone


# --- multipart/form-data ---


def parameter(header, name):
    for part in header.split(";")[1:]:
        key, _, value = part.strip().partition("=")
        if key.lower() == name:
            return value.strip().strip('"')
    return None


def read_multipart(request):
    """[(part name, content)], in the order of the stream."""
    boundary = parameter(request.headers.get("content-type", ""), "boundary")
    if not boundary:
        raise ValueError("no multipart boundary")
    delimiter = b"--" + boundary.encode()
    body = b"\r\n" + request.body
    pieces = body.split(b"\r\n" + delimiter)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise ValueError("multipart: NextPart: EOF")
    parts = []
    for piece in pieces[1:-1]:
        head, found, content = piece.partition(b"\r\n\r\n")
        if not found:
            raise ValueError("multipart: a part without a header")
        for line in head.decode().split("\r\n"):
            if line.lower().startswith("content-disposition:"):
                parts.append((parameter(line, "name"), content))
    return parts
