"""A server that fails in every way that the network can, for the tests of the HTTP client.

Prints one line of JSON (ports and paths) when it listens, and ends when its stdin does. Certificates are made at the start, by
openssl(1). What it does is chosen by the request's path: see the functions called on_*. Everything listens on 127.0.0.1.
"""

import asyncio
import base64
import gzip
import hashlib
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from urllib.parse import parse_qs, unquote, urlsplit

import stub_grpc

try:
    import h2.config
    import h2.connection
    import h2.events
except ImportError:
    h2 = None

stats = {"connections": 0, "open": 0, "open_max": 0, "requests": 0, "tls": {}}
counts = {}  # by key: how often it was asked for


class Gone(Exception):
    """The connection is done with: nothing more is to be sent."""


# --- certificates ---


def openssl(directory, *args):
    subprocess.run(["openssl", *args], cwd=directory, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


def make_key(directory, name):
    openssl(directory, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")


def make_ca(directory, name):
    make_key(directory, name)
    openssl(directory, "req", "-x509", "-new", "-key", f"{name}.key", "-subj", f"/CN=Test CA {name}", "-days", "30", "-out",
            f"{name}.pem")


def make_certificate(directory, name, names, dates):
    """A certificate of the test CA. dates: start and end."""
    with open(os.path.join(directory, "ca.conf"), "w") as f:
        f.write("[ca]\ndefault_ca=d\n[d]\ndatabase=index\nnew_certs_dir=.\nserial=serial\ndefault_md=sha256\npolicy=p\n"
                "unique_subject=no\n[p]\ncommonName=supplied\n")
    with open(os.path.join(directory, f"{name}.ext"), "w") as f:
        f.write(f"subjectAltName={names}\n")
    make_key(directory, name)
    openssl(directory, "req", "-new", "-key", f"{name}.key", "-subj", f"/CN={name}", "-out", f"{name}.csr")
    openssl(directory, "ca", "-batch", "-config", "ca.conf", "-keyfile", "ca.key", "-cert", "ca.pem", "-in", f"{name}.csr", "-out",
            f"{name}.pem", "-extfile", f"{name}.ext", "-startdate", dates[0], "-enddate", dates[1])


def make_certificates(directory):
    open(os.path.join(directory, "index"), "w").close()
    with open(os.path.join(directory, "serial"), "w") as f:
        f.write("01\n")
    make_ca(directory, "ca")
    make_ca(directory, "other-ca")
    now = time.time()

    def day(n):
        return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(now + n * 86400))

    make_certificate(directory, "good", "DNS:localhost,DNS:service.test,IP:127.0.0.1", (day(-1), day(30)))
    make_certificate(directory, "client", "DNS:client", (day(-1), day(30)))
    make_certificate(directory, "expired", "DNS:localhost,IP:127.0.0.1", (day(-30), day(-1)))
    make_certificate(directory, "wrong-name", "DNS:elsewhere.test", (day(-1), day(30)))
    make_key(directory, "self-signed")
    openssl(directory, "req", "-x509", "-new", "-key", "self-signed.key", "-subj", "/CN=localhost", "-days", "30", "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", "self-signed.pem")


def tls(directory, name, alpn):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(directory, f"{name}.pem"), os.path.join(directory, f"{name}.key"))
    context.set_alpn_protocols(alpn)
    return context


# --- HTTP/1.1 ---


class Request:
    def __init__(self, method, target, headers):
        self.method, self.target, self.headers = method, target, headers
        parts = urlsplit(target)
        self.path = parts.path
        self.words = [unquote(w) for w in parts.path.split("/")[1:]]
        self.query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        self.body = b""

    def header(self, name):
        return next((v for n, v in self.headers if n.lower() == name), None)


class Connection:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.served = 0

    def reset(self):
        """Ends the connection with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        raise Gone

    def close(self):
        self.writer.close()
        raise Gone

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, status, body=b"", headers=()):
        lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(body)}"] + [f"{k}: {v}" for k, v in headers]
        await self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    async def answer_json(self, status, value, headers=()):
        await self.answer(status, json.dumps(value).encode(), [("Content-Type", "application/json"), *headers])

    async def stall(self):
        await self.reader.read(1)  # until the client goes away
        self.close()

    async def read_head(self):
        try:
            first = await self.reader.readexactly(1)
            if not first.isalpha():  # TLS, for one
                self.writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                return None
            head = first + await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        return Request(method, target, [(n, v.strip()) for n, _, v in (line.partition(":") for line in lines[1:] if line)])

    async def read_body(self, request):
        if (request.header("transfer-encoding") or "").lower() == "chunked":
            parts = []
            while True:
                size = int((await self.reader.readline()).split(b";")[0], 16)
                parts.append(await self.reader.readexactly(size))
                await self.reader.readline()
                if size == 0:
                    break
            request.body = b"".join(parts)
        else:
            request.body = await self.reader.readexactly(int(request.header("content-length") or 0))


async def on_ok(c, r):
    await c.answer(200, b"ok", [("X-Served", str(c.served))])


async def on_echo(c, r):
    await c.answer_json(200, {"method": r.method, "target": r.target, "headers": r.headers, "length": len(r.body),
                              "sha256": hashlib.sha256(r.body).hexdigest(), "text": r.body[:1000].decode("latin-1")})


async def on_status(c, r):
    headers = [("Retry-After", r.query["retry-after"])] if "retry-after" in r.query else []
    await c.answer_json(int(r.words[1]), {"message": f"status {r.words[1]}"}, headers)


async def on_flaky(c, r):
    """/flaky/KEY/N/HOW: the first N requests of the key fail."""
    key, times, how = r.words[1:4]
    counts[key] = counts.get(key, 0) + 1
    if counts[key] > int(times):
        await c.answer(200, b"at last")
    elif how == "reset":
        c.reset()
    elif how == "close":
        c.close()
    else:
        headers = [("Retry-After", r.query["retry-after"])] if "retry-after" in r.query else []
        await c.answer(int(how), b"", headers)


async def on_once(c, r):
    """/once/KEY: answered on a new connection; on one that was used before, the connection ends without an answer."""
    counts[r.words[1]] = counts.get(r.words[1], 0) + 1
    if c.served > 1:
        c.close()
    await c.answer(200, b"once")


async def on_count(c, r):
    await c.answer(200, str(counts.get(r.words[1], 0)).encode())


async def on_reset(c, r):
    where = r.words[1]
    if where == "headers":
        await c.send(b"HTTP/1.1 200 OK\r\nX-Half: wa")
    elif where == "body":
        await c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789")
    if where != "before":
        await asyncio.sleep(0.05)
    c.reset()


async def on_close(c, r):
    where = r.words[1]
    if where == "headers":
        await c.send(b"HTTP/1.1 200 OK\r\nX-Half: wa")
    elif where == "length":
        await c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789")
    elif where == "chunked":
        await c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n")
    elif where == "chunk":
        await c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n0123456789")
    c.close()


async def on_stall(c, r):
    where = r.words[1]
    if where == "headers":
        await c.send(b"HTTP/1.1 200 OK\r\nX-Half: wa")
    elif where == "body":
        await c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789")
    await c.stall()


async def on_long_length(c, r):
    """More bytes than announced: the rest must not be taken for the next answer."""
    await c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngoodHTTP/1.1 500 Evil\r\nContent-Length: 0\r\n\r\n")


async def on_drip(c, r):
    n, pause = int(r.query["n"]), float(r.query["ms"]) / 1000
    await c.send(f"HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\n".encode())
    for _ in range(n):
        await asyncio.sleep(pause)
        await c.send(b".")


async def on_wait(c, r):
    await asyncio.sleep(float(r.query["ms"]) / 1000)
    await c.answer(200, b"waited")


async def on_huge_header(c, r):
    await c.send(b"HTTP/1.1 200 OK\r\n" + b"X-Big: " + b"a" * 400000 + b"\r\nContent-Length: 0\r\n\r\n")


async def on_many_headers(c, r):
    await c.send(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"a" * 500) for i in range(1000)) + b"Content-Length: 0\r\n\r\n")


def pattern(n):
    block = bytes(range(256)) * 256
    return (block * (n // len(block) + 1))[:n]


async def on_big(c, r):
    await c.answer(200, pattern(int(r.words[1])), [("Content-Type", "application/octet-stream")])


async def on_chunked(c, r):
    left, size = int(r.words[1]), int(r.query.get("size", 5000))
    await c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n")
    data = pattern(left)
    for at in range(0, left, size):
        piece = data[at:at + size]
        await c.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    await c.send(b"0\r\nX-T: trailer\r\n\r\n")


async def on_endless(c, r):
    """Sends as fast as the client takes it; its count says how much that was."""
    await c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await c.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        counts[r.words[1]] = counts.get(r.words[1], 0) + 65536


async def on_gzip(c, r):
    wanted = "gzip" in (r.header("accept-encoding") or "")
    body = gzip.compress(b"text " * 1000) if wanted else b"not asked for"
    await c.answer(200, body, [("Content-Encoding", "gzip")] if wanted else [])


async def on_bomb(c, r):
    await c.answer(200, gzip.compress(b"\0" * 50000000), [("Content-Encoding", "gzip")])


async def on_redirect(c, r):
    await c.answer(int(r.query.get("status", 302)), b"moved", [("Location", r.query["to"])])


async def on_circle(c, r):
    await c.answer(302, b"", [("Location", "/circle")])


async def on_early(c, r):
    """Refuses without having read the body."""
    await c.answer(413, b"too big", [("Connection", "close")])
    await asyncio.sleep(0.2)
    c.close()


async def on_interim(c, r):
    await c.send(b"HTTP/1.1 103 Early Hints\r\nX-Early: yes\r\n\r\n")
    await c.answer(200, b"late", [("X-Late", "yes")])


async def on_garbage(c, r):
    await c.send(b"SSH-2.0-OpenSSH_9.2 this is no HTTP\r\n\r\n")
    c.close()


async def on_sse(c, r):
    await c.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    for i in range(int(r.query.get("n", 3))):
        text = b"event: stdout\ndata: {\"n\":%d}\n\n" % i
        await c.send(b"%x\r\n%s\r\n" % (len(text), text))
        await asyncio.sleep(float(r.query.get("ms", 0)) / 1000)
    if "stay" in r.query:
        await c.stall()
    await c.send(b"0\r\n\r\n")


async def on_stats(c, r):
    await c.answer_json(200, stats)


# --- WebSocket ---


def frame(opcode, payload, final=True):
    head = bytes([(0x80 if final else 0) | opcode])
    if len(payload) < 126:
        head += bytes([len(payload)])
    elif len(payload) < 65536:
        head += bytes([126]) + struct.pack(">H", len(payload))
    else:
        head += bytes([127]) + struct.pack(">Q", len(payload))
    return head + payload


async def read_frame(c):
    first, second = await c.reader.readexactly(2)
    n = second & 127
    if n == 126:
        n = struct.unpack(">H", await c.reader.readexactly(2))[0]
    elif n == 127:
        n = struct.unpack(">Q", await c.reader.readexactly(8))[0]
    if not second & 128:
        return 8, b"unmasked"
    mask = await c.reader.readexactly(4)
    payload = await c.reader.readexactly(n)
    return first & 15, bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


async def on_ws(c, r):
    """Echoes. Texts are orders: "close 1000", "reset", "drop" (FIN without a close frame), "ping", "send N", "fragments", "mute"."""
    how = r.query.get("how")
    if how == "refuse":
        return await c.answer_json(404, {"message": "not found: command not found"})
    if how == "stall":
        await c.stall()
    accept = base64.b64encode(hashlib.sha1((r.header("sec-websocket-key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
    if how == "wrong-accept":
        accept = b"AAAAAAAAAAAAAAAAAAAAAAAAAAA="
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Auth: %s\r\nSec-WebSocket-Accept: %s\r\n\r\n" % (
        (r.header("authorization") or "").encode(), accept)
    # The first frame right behind the head, in the same segment.
    await c.send(head + (frame(2, b"early") if how == "early" else b""))
    while True:
        opcode, payload = await read_frame(c)
        order = payload.decode("utf-8", "replace").split(" ") if opcode == 1 else [""]
        if opcode == 8:
            await c.send(frame(8, payload))
            c.close()
        elif order[0] == "close":
            await c.send(frame(8, struct.pack(">H", int(order[1])) + b"bye"))
            await c.reader.read()
            c.close()
        elif order[0] == "reset":
            c.reset()
        elif order[0] == "drop":
            c.close()
        elif order[0] == "mute":
            await asyncio.sleep(3600)
        elif order[0] == "ping":
            await c.send(frame(9, b"are you there"))
            opcode, payload = await read_frame(c)
            await c.send(frame(1, b"pong " + payload if opcode == 10 else b"no pong"))
        elif order[0] == "send":
            data = pattern(int(order[1]))
            for at in range(0, len(data), 1024):
                await c.send(frame(2, data[at:at + 1024]))
        elif order[0] == "fragments":
            await c.send(frame(1, b"one ", False) + frame(9, b"") + frame(0, b"two ", False) + frame(0, b"three"))
        elif opcode != 10:
            await c.send(frame(opcode, payload))


async def on_duplex(c, r):
    """A stream behind the answer, as container engines speak it: echoes until the input's end, then says how much there was."""
    how = r.query.get("how", "echo")
    head = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/x-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    if how == "refuse":
        return await c.answer_json(409, {"message": "is not running"})
    if how == "refuse-in-chunks":
        parts = [b'{"message":', b'"is not ', b'running"}']
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        return await c.send(b"HTTP/1.1 409 Conflict\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    if how == "stall":
        await c.stall()
    if how == "cut-head":
        await c.send(head[:30])
        c.close()
    if how == "garbage":
        await c.send(b"SSH-2.0-OpenSSH_9\r\n\r\n")
        c.close()
    if how == "plain":
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-stream\r\n\r\n"
    if how == "interim":
        head = b"HTTP/1.1 100 Continue\r\n\r\n" + head
    await c.send(head + r.body)  # the first bytes right behind the head, in the same segment
    if how == "deaf":  # ends with input that was not read: the client gets a reset
        c.close()
    if how == "silent":
        await c.stall()
    if how == "send":
        data = pattern(int(r.query["n"]))
        for at in range(0, len(data), 16384):
            await c.send(data[at:at + 16384])
        c.close()
    if how == "reset":
        c.reset()
    count = 0
    while data := await c.reader.read(65536):
        count += len(data)
        if how != "count":
            await c.send(data)
    await c.send(b"<%d bytes>" % count)
    c.close()


async def serve_http1(reader, writer):
    c = Connection(reader, writer)
    stats["connections"] += 1
    stats["open"] += 1
    stats["open_max"] = max(stats["open_max"], stats["open"])
    try:
        while request := await c.read_head():
            c.served += 1
            stats["requests"] += 1
            handler = globals()["on_" + request.words[0].replace("-", "_")]
            if handler is not on_early:
                await c.read_body(request)
            await handler(c, request)
    except (Gone, ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
        pass
    finally:
        stats["open"] -= 1
        writer.close()


# --- HTTP/2 ---


class Http2:
    def __init__(self, reader, writer, streams):
        self.reader, self.writer = reader, writer
        self.h = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.streams = streams
        self.windows = asyncio.Condition()
        self.requests, self.tasks = {}, set()

    async def flush(self):
        data = self.h.data_to_send()
        if data:
            self.writer.write(data)
            await self.writer.drain()

    async def run(self):
        self.h.initiate_connection()
        self.h.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: self.streams})
        await self.flush()
        while data := await self.reader.read(65536):
            for event in self.h.receive_data(data):
                await self.on_event(event)
            await self.flush()

    async def on_event(self, event):
        if isinstance(event, h2.events.RequestReceived):
            stats["requests"] += 1
            headers = dict(event.headers)
            self.requests[event.stream_id] = Request(headers[":method"], headers[":path"], list(event.headers))
            self.requests[event.stream_id].body = bytearray()
        elif isinstance(event, h2.events.DataReceived):
            self.requests[event.stream_id].body += event.data
            self.h.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            task = asyncio.ensure_future(self.answer(event.stream_id, self.requests.pop(event.stream_id)))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        elif isinstance(event, (h2.events.WindowUpdated, h2.events.RemoteSettingsChanged)):
            async with self.windows:
                self.windows.notify_all()

    async def send_headers(self, stream, status, headers=(), end=False):
        self.h.send_headers(stream, [(":status", str(status)), *headers], end_stream=end)
        await self.flush()

    async def send_data(self, stream, data, end=True):
        data = memoryview(data)
        while data:
            room = min(self.h.local_flow_control_window(stream), self.h.max_outbound_frame_size, len(data))
            if room <= 0:
                async with self.windows:
                    await self.windows.wait()
                continue
            self.h.send_data(stream, bytes(data[:room]))
            data = data[room:]
            await self.flush()
        if end:
            self.h.end_stream(stream)
            await self.flush()

    async def answer(self, stream, r):
        try:
            await self.answer_as_asked(stream, r)
        except (h2.exceptions.ProtocolError, ConnectionError):
            pass  # the client has given the stream up

    async def answer_as_asked(self, stream, r):
        what = r.words[0]
        counts[r.path] = counts.get(r.path, 0) + 1
        if what == "grpc.Stub":
            return await stub_grpc.answer(self, stream, r)
        if what == "wait":
            await asyncio.sleep(float(r.query["ms"]) / 1000)
        if what == "rst":
            self.h.reset_stream(stream, error_code=2)
            await self.flush()
        elif what == "refused":  # the first time: REFUSED_STREAM, which says that nothing was done
            if counts[r.path] == 1:
                self.h.reset_stream(stream, error_code=7)
                return await self.flush()
            await self.send_headers(stream, 200)
            await self.send_data(stream, b"ok")
        elif what == "rst-body":
            await self.send_headers(stream, 200)
            await self.send_data(stream, b"0123456789", end=False)
            self.h.reset_stream(stream, error_code=int(r.query.get("code", 2)))
            await self.flush()
        elif what == "trailers":
            await self.send_headers(stream, 200, [("x-head", "one")])
            await self.send_data(stream, pattern(int(r.words[1])), end=False)
            self.h.send_headers(stream, [("x-tail", "two"), ("x-head", "three")], end_stream=True)
            await self.flush()
        elif what == "stall":
            await self.send_headers(stream, 200)
            await self.send_data(stream, b"0123456789", end=False)
        elif what == "goaway":
            self.h.close_connection()
            await self.flush()
            self.writer.close()
        elif what == "echo":
            body = {"method": r.method, "target": r.target, "headers": r.headers, "length": len(r.body), "sha256": hashlib.sha256(r.body).hexdigest()}
            await self.send_headers(stream, 200, [("content-type", "application/json")])
            await self.send_data(stream, json.dumps(body).encode())
        elif what == "stats":
            await self.send_headers(stream, 200, [("content-type", "application/json")])
            await self.send_data(stream, json.dumps(stats).encode())
        else:
            await self.send_headers(stream, 200)
            await self.send_data(stream, pattern(int(r.words[1])) if what == "big" else b"ok")


def http2_server(streams):
    async def serve(reader, writer):
        encrypted = writer.get_extra_info("ssl_object")  # without: HTTP/2 with prior knowledge
        if encrypted and encrypted.selected_alpn_protocol() != "h2":
            return await serve_http1(reader, writer)
        stats["connections"] += 1
        stats["open"] += 1
        stats["open_max"] = max(stats["open_max"], stats["open"])
        connection = Http2(reader, writer, streams)
        try:
            await connection.run()
        except (ConnectionError, ssl.SSLError, h2.exceptions.ProtocolError):
            pass
        finally:
            stats["open"] -= 1
            for task in connection.tasks:
                task.cancel()
            writer.close()

    return serve


# --- a proxy ---


async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (ConnectionError, asyncio.CancelledError):
        pass
    writer.close()


def proxy(credentials):
    async def serve(reader, writer):
        c = Connection(reader, writer)
        r = await c.read_head()
        counts["proxied"] = counts.get("proxied", 0) + 1
        expected = "Basic " + base64.b64encode(credentials.encode()).decode() if credentials else None
        host, _, port = r.target.rpartition(":")
        try:
            if r.method != "CONNECT" or host == "forbidden.test":
                await c.answer(403)
            elif host == "stalled.test":
                await c.stall()
            elif host == "broken.test":
                await c.answer(502)
            elif expected and r.header("proxy-authorization") != expected:
                await c.answer(407, b"", [("Proxy-Authenticate", 'Basic realm="test"')])
            else:
                back, out = await asyncio.open_connection("127.0.0.1", int(port))
                await c.send(b"HTTP/1.1 200 Connection established\r\nX-Proxy: yes\r\n\r\n")
                await asyncio.gather(pump(reader, out), pump(back, writer))
        except (Gone, ConnectionError):
            pass
        writer.close()

    return serve


async def main():
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory(prefix="stub http ") as directory:
        make_certificates(directory)
        ports = {"directory": directory, "ca": os.path.join(directory, "ca.pem"), "other_ca": os.path.join(directory, "other-ca.pem")}

        async def listen(name, serve, context=None):
            server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context, limit=1 << 20, backlog=2000)
            ports[name] = server.sockets[0].getsockname()[1]

        await listen("http", serve_http1)
        for name in ("good", "expired", "wrong-name", "self-signed"):
            await listen("https" if name == "good" else name.replace("-", "_"), serve_http1, tls(directory, name, ["http/1.1"]))
        ports["socket"] = os.path.join(directory, "socket")
        await asyncio.start_unix_server(serve_http1, ports["socket"], limit=1 << 20)
        strict = tls(directory, "good", ["http/1.1"])
        strict.verify_mode = ssl.CERT_REQUIRED
        strict.load_verify_locations(ports["ca"])
        await listen("strict", serve_http1, strict)
        ports["client_certificate"], ports["client_key"] = os.path.join(directory, "client.pem"), os.path.join(directory, "client.key")
        await listen("proxy", proxy(None))
        await listen("proxy_auth", proxy("user:p@ss word"))
        if h2:
            await listen("h2", http2_server(100), tls(directory, "good", ["h2", "http/1.1"]))
            await listen("h2c", http2_server(100))
            await listen("h2_wide", http2_server(250), tls(directory, "good", ["h2", "http/1.1"]))
        unused = socket.socket()
        unused.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        ports["refused"] = unused.getsockname()[1]
        full = socket.socket()  # its queue is full: connecting stalls
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        ports["full"] = full.getsockname()[1]
        print(json.dumps(ports), flush=True)
        ended = asyncio.Event()
        loop.add_reader(sys.stdin.fileno(), lambda: ended.set() if not os.read(sys.stdin.fileno(), 100) else None)
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(main())
    os._exit(0)
