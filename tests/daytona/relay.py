"""Stands before the emulator: as the end of TLS, as a proxy that wants credentials, or as a port that is known before it."""

import re
import socket
import threading


def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    for sock in (source, target):
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class Relay:
    """Takes connections on a port of its own and passes them on: plainly, as the end of TLS, or as a proxy."""

    def __init__(self, port=None, context=None, credentials=None):
        self.port_behind, self.context, self.credentials = port, context, credentials
        self.asked = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve_one, args=(sock,), daemon=True).start()

    def serve_one(self, sock):
        try:
            port = self.port_behind
            if self.context:
                sock = self.context.wrap_socket(sock, server_side=True)
            if port is None:
                port = self.tunnel(sock)
            behind = socket.create_connection(("127.0.0.1", port))
        except (OSError, ValueError):
            sock.close()
            return
        threading.Thread(target=pump, args=(behind, sock), daemon=True).start()
        pump(sock, behind)

    def tunnel(self, sock):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = sock.recv(1)
            if not piece:
                raise ValueError("gone")
            head += piece
        text = head.decode()
        self.asked.append(text.split("\r\n")[0])
        if self.credentials and f"proxy-authorization: basic {self.credentials}".lower() not in text.lower():
            sock.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            raise ValueError("no credentials")
        sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return int(re.match(r"CONNECT [^:]+:(\d+)", text)[1])

    def close(self):
        self.listener.close()
