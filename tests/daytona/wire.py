"""What only Daytona's toolbox speaks: WebSocket frames, and the multipart answer of a download."""

import base64
import hashlib
import json
import struct
import urllib.parse

from emulation.connection import Gone

BOUNDARY = "DAYTONA-FILE-BOUNDARY"

# --- WebSocket, the server's side ---


def websocket_accept(key):
    return base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()


def websocket_frame(opcode, payload):
    size = len(payload)
    if size < 126:
        return bytes([0x80 | opcode, size]) + payload
    if size < 65536:
        return struct.pack("!BBH", 0x80 | opcode, 126, size) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, size) + payload


def websocket_read(connection):
    first, second = connection.take(2)
    size = second & 0x7F
    if size == 126:
        size = struct.unpack("!H", connection.take(2))[0]
    elif size == 127:
        size = struct.unpack("!Q", connection.take(8))[0]
    if not second & 0x80:
        raise Gone  # a client must mask
    mask = connection.take(4)
    payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(connection.take(size)))
    return first & 0x0F, payload


# --- multipart/form-data ---


def write_multipart(files):
    """files: [(path, content, None) or (path, None, error object or text)]."""
    body = bytearray()
    for path, content, error in files:
        plain = path.encode("latin-1", "replace").decode("latin-1").replace("?", "_")
        if error is None:
            kind, name = "text/plain; charset=utf-8", "file"
        elif isinstance(error, str):
            kind, name, content = "text/plain; charset=utf-8", "error", error.encode()
        else:
            kind, name, content = "application/json; charset=utf-8", "error", json.dumps(error, separators=(",", ":")).encode()
        body += f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{plain}\"; ".encode("latin-1")
        body += f"filename*=utf-8''{urllib.parse.quote(path, safe='')}\r\n".encode()
        if name == "file":
            body += f"Content-Length: {len(content)}\r\n".encode()
        body += f"Content-Type: {kind}\r\n\r\n".encode() + content + b"\r\n"
    return bytes(body + f"--{BOUNDARY}--\r\n".encode())
