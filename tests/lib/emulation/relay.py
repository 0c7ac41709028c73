"""Stands before an emulator: as the end of TLS, as a proxy, or as a port that is known before it."""

import contextlib
import re
import socket
import subprocess
import threading


def make_certificate(directory, names):
    """ca.pem and key.pem: a certificate for the names that is its own authority."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key.pem",
                    "-out", "ca.pem", "-days", "30", "-subj", f"/CN={names[0]}", "-addext",
                    "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)],
                   cwd=directory, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def pump(source, target):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for sock in (source, target):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


class Relay:
    """Takes connections on a port of its own and passes them on: plainly, as the end of TLS, or (proxy=True) as a proxy.

    Credentials, in base64, are what a proxy wants. With a port behind it, all that it is asked for is there; without, at the named port.
    """

    def __init__(self, port=None, context=None, proxy=False, credentials=None):
        self.port_behind, self.context, self.proxy, self.credentials = port, context, proxy, credentials
        self.asked = []  # [the first line, the credentials]
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.serve_one, args=(self.listener.accept()[0],), daemon=True).start()

    def serve_one(self, sock):
        try:
            if self.context:
                sock = self.context.wrap_socket(sock, server_side=True)
            port = self.tunnel(sock) if self.proxy else self.port_behind
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
        line = text.split("\r\n")[0]
        credentials = re.search(r"(?i)^proxy-authorization: (.*)\r$", text, re.M)
        self.asked.append([line, credentials and credentials[1]])
        if self.credentials and (not credentials or credentials[1] != f"Basic {self.credentials}"):
            sock.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            raise ValueError("no credentials")
        sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return self.port_behind or int(re.match(r"CONNECT [^:]+:(\d+)", line)[1])

    def close(self):
        self.listener.close()
