"""A relay before the engine's socket that goes wrong as it is told, and notes what was asked.

    with Relay(engine.socket) as relay:      relay.socket is what the worker connects to
        relay.fault(method="POST", path="/containers/create", close=True, after=True)

A fault: method (exact) and path (regular expression, searched in path and query) say which requests it hits, skip so many pass first,
times so many are hit after that (None: all). One way to go wrong:

    close       the connection ends without an answer
    stall       no answer, and the connection stays open, until the faults are cleared
    delay_s     the right answer, late
    reply       (status, JSON value or bytes) instead of the engine's answer
    truncate    so many bytes of the answer, head included, then the end
    cut_stream  so many bytes of the stream behind the answer's head, then the end
    stall_stream  the same, then silence

after: the engine gets the request, and only its answer suffers (always so with truncate and what concerns streams).
"""

import asyncio
import contextlib
import json
import os
import re
import socket
import ssl
import tempfile
import threading

WAYS = ("close", "stall", "delay_s", "reply", "truncate", "cut_stream", "stall_stream")


class Fault:
    def __init__(self, method=None, path="", skip=0, times=1, after=False, **way):
        self.method, self.path, self.skip, self.times, self.after = method, re.compile(path), skip, times, after
        (self.way, self.value), = way.items()
        if self.way not in WAYS:
            raise ValueError(f"unknown fault: {self.way}")


class Ended(Exception):
    pass


def read_head(stream):
    """(first line, headers in lower case, all bytes), or Ended."""
    lines = []
    while True:
        line = stream.readline(65536)
        if not line:
            raise Ended
        lines.append(line)
        if line in (b"\r\n", b"\n"):
            break
    headers = {}
    for line in lines[1:-1]:
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return lines[0].decode("latin-1").split(), headers, b"".join(lines)


class Relay:
    """tcp: it listens on a port of 127.0.0.1 instead."""

    def __init__(self, upstream, tcp=False):
        self.upstream = upstream
        self.folder = tempfile.mkdtemp(prefix="psw relay ")
        os.chmod(self.folder, 0o755)
        self.socket = f"{self.folder}/relay.sock"
        self.listener = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX)
        self.listener.bind(("127.0.0.1", 0) if tcp else self.socket)
        self.listener.listen(200)
        self.port = self.listener.getsockname()[1] if tcp else None
        self.lock = threading.Lock()
        self.faults = []
        self.requests = []  # (method, path, body)
        self.let_go = threading.Event()
        self.open = set()
        self.ended = False

    def __enter__(self):
        self.thread = threading.Thread(target=self.accept)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended = True
        self.clear()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            left = list(self.open)
        for connection in left:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)
        os.rmdir(self.folder)

    def fault(self, **text):
        with self.lock:
            self.faults.append(Fault(**text))

    def clear(self):
        with self.lock:
            self.faults = []
            self.let_go.set()
            self.let_go = threading.Event()

    def asked(self, method, path):
        with self.lock:
            return [request for request in self.requests if request[0] == method and re.search(path, request[1])]

    def take_fault(self, method, path):
        with self.lock:
            for fault in self.faults:
                if fault.method not in (None, method) or not fault.path.search(path):
                    continue
                if fault.skip:
                    fault.skip -= 1
                    return None
                if fault.times != 0:
                    fault.times = None if fault.times is None else fault.times - 1
                    return fault
        return None

    # --- connections ---

    def accept(self):
        threads = []
        while not self.ended:
            try:
                client, _ = self.listener.accept()
            except OSError:
                break
            thread = threading.Thread(target=self.serve, args=(client,))
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join()

    def serve(self, client):
        with contextlib.suppress(OSError, Ended, ValueError):
            with self.lock:
                self.open.add(client)
            with contextlib.closing(client.makefile("rb")) as stream:
                while self.serve_one(client, stream):
                    pass
        with self.lock:
            self.open.discard(client)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
        client.close()

    def serve_one(self, client, stream):
        (method, path, _), headers, head = read_head(stream)
        body = stream.read(int(headers.get("content-length") or 0))
        with self.lock:
            self.requests.append((method, path, body))
        fault = self.take_fault(method, path)
        let_go = self.let_go
        before = fault and not fault.after
        if before and fault.way == "close":
            return False
        if before and fault.way == "stall":
            let_go.wait()
            return False
        if fault and fault.way == "delay_s":
            let_go.wait(fault.value)
        if before and fault.way == "reply":
            return self.reply(client, fault.value)
        engine = socket.socket(socket.AF_UNIX)
        with contextlib.closing(engine):
            engine.connect(self.upstream)
            engine.sendall(head + body)
            if re.search(r"/exec/\w+/start$", path):
                self.pump_stream(client, stream, engine, fault)
                return False
            return self.pass_answer(client, engine, method, fault, let_go)

    def reply(self, client, answer):
        status, value = answer
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        client.sendall(f"HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        return True

    def pass_answer(self, client, engine, method, fault, let_go):
        with contextlib.closing(engine.makefile("rb")) as answer:
            _, headers, head = read_head(answer)
            pieces = self.body_of(answer, headers, method)
            if not fault or fault.way == "delay_s":
                client.sendall(head)
                for piece in pieces:
                    client.sendall(piece)
                return headers.get("connection", "").lower() != "close"
            whole = head + b"".join(pieces)
        if fault.way == "stall":
            let_go.wait()
        if fault.way == "reply":
            return self.reply(client, fault.value)
        if fault.way == "truncate":
            client.sendall(whole[:fault.value])
        return False

    def body_of(self, answer, headers, method):
        """Pieces of the body as they come, its coding kept."""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while True:
                line = answer.readline()
                size = int(line.split(b";")[0], 16)
                yield line + answer.read(size + 2)
                if size == 0:
                    return
        elif method != "HEAD" and headers.get("content-length"):
            yield answer.read(int(headers["content-length"]))

    def pump_stream(self, client, stream, engine, fault):
        """Both ways, until the engine ends it. What the client sends goes on in a thread of its own."""
        def send_on():
            with contextlib.suppress(OSError, ValueError):
                while data := stream.read1(65536):
                    engine.sendall(data)
                engine.shutdown(socket.SHUT_WR)

        if fault and fault.way in ("close", "truncate"):
            return
        sender = threading.Thread(target=send_on)
        sender.start()
        with contextlib.closing(engine.makefile("rb")) as answer:
            _, _, head = read_head(answer)
            client.sendall(head)
            left = fault.value if fault else None
            with contextlib.suppress(OSError):
                while left != 0 and (data := answer.read1(65536 if left is None else left)):
                    left = None if left is None else left - len(data)
                    client.sendall(data)
            if fault and fault.way == "stall_stream":
                self.let_go.wait()
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
            engine.shutdown(socket.SHUT_RDWR)
        sender.join()


class TlsFront:
    """Takes TLS off, for clients that show a certificate: with TlsFront(socket path, certificate, key, CA of the clients) as front: front.port"""

    def __init__(self, upstream, certificate, key, authority):
        self.upstream = upstream
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.context.load_verify_locations(authority)
        self.loop = asyncio.new_event_loop()
        self.listens = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        self.listens.wait()
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.ended.set)
        self.thread.join()

    def run(self):
        self.loop.run_until_complete(self.listen())
        self.loop.close()

    async def listen(self):
        self.ended = asyncio.Event()
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self.context)
        self.port = server.sockets[0].getsockname()[1]
        self.listens.set()
        await self.ended.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def serve(self, reader, writer):
        engine_reader, engine_writer = await asyncio.open_unix_connection(self.upstream)
        sending = asyncio.ensure_future(self.pump(reader, engine_writer))
        await self.pump(engine_reader, writer)
        sending.cancel()
        writer.close()
        engine_writer.close()

    async def pump(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
