"""The service inside a sandbox: commands, files, sessions.

Paths are paths of this machine: a sandbox's home is a directory of its own, and what is uploaded to /tmp lies in /tmp. The files that
were uploaded outside the sandbox's directory are remembered, so that tests see which are still there.
"""

import datetime
import os
import re
import shutil

from emulation.connection import Answer, Gone, read_multipart
from processes import Session, follow
from wire import BOUNDARY, websocket_accept, websocket_frame, websocket_read, write_multipart


def failure(request, status, message, code):
    return {"statusCode": status, "message": message, "code": code, "path": request.path, "method": request.method,
            "timestamp": datetime.datetime.now(datetime.timezone.utc).isoformat(), "source": "DAYTONA_DAEMON"}


def refuse(request, status, message, code="BAD_REQUEST"):
    return Answer(status, failure(request, status, message, code))


def version_of(request):
    found = re.match(r"(\d+)\.(\d+)\.", request.headers.get("x-daytona-sdk-version", ""))
    return tuple(map(int, found.groups())) if found else None


class Toolbox:
    def __init__(self):
        self.idle_looks = 50
        self.work_dir = None  # None: the sandbox's own; else what /work-dir and /user-home-dir say
        self.download_content = None  # None: the files' own; else what every downloaded file holds
        self.download_refusal = None  # None: as it is; else what is said of every file, JSON or text
        self.uploaded = set()

    def behave(self, text):
        unknown = set(text) - {"idleLooks", "workDir", "download", "downloadRefusal"}
        if unknown:
            raise ValueError(f"unknown behaviour of the toolbox: {', '.join(sorted(unknown))}")
        self.idle_looks = text.get("idleLooks", 50)
        self.work_dir = text.get("workDir")
        self.download_content = text["download"].encode("latin-1") if "download" in text else None
        self.download_refusal = text.get("downloadRefusal")

    def leftovers(self):
        self.uploaded = {path for path in self.uploaded if os.path.exists(path)}
        return sorted(self.uploaded)

    def answer(self, sandbox, request):
        method, parts = request.method, request.parts[2:]
        if sandbox.state != "started":
            return refuse(request, 400, "bad request: no IP address found. Is the Sandbox started?")
        if method == "GET" and parts in (["work-dir"], ["user-home-dir"]):
            return Answer(200, {"dir": sandbox.home if self.work_dir is None else self.work_dir})
        if parts[:1] == ["files"]:
            return self.files(sandbox, request, parts[1:])
        if method == "POST" and parts == ["process", "execute"]:
            return self.execute(sandbox, request)
        if parts[:2] == ["process", "session"]:
            return self.sessions(sandbox, request, parts[2:])
        return refuse(request, 404, "not found", "NOT_FOUND")

    # --- commands ---

    @staticmethod
    def execute(sandbox, request):
        body = request.json()
        timeout = body.get("timeout", 0)
        if not isinstance(timeout, int) or isinstance(timeout, bool):
            return refuse(request, 400, "json: cannot unmarshal number into Go struct field ExecuteRequest.timeout of type uint32")
        if not str(body.get("command", "")).strip():
            return refuse(request, 400, "bad request: empty command")
        result = sandbox.processes.execute(body["command"], timeout, body.get("cwd"), body.get("envs"))
        if result is None:
            return refuse(request, 408, "request timeout: command execution timeout", "REQUEST_TIMEOUT")
        return Answer(200, {"exitCode": result[0], "result": result[1].decode("utf-8", "replace")})

    # --- files ---

    def files(self, sandbox, request, parts):
        method, path = request.method, request.query.get("path", "")
        if (method, parts) == ("POST", ["folder"]):
            try:
                os.makedirs(path, mode=int(request.query.get("mode", "755"), 8), exist_ok=True)
            except (OSError, ValueError):
                return Answer(400)
            return Answer(201)
        if (method, parts) == ("DELETE", []):
            if not os.path.lexists(path):
                return Answer(404)
            if os.path.isdir(path) and not os.path.islink(path):
                if request.query.get("recursive") != "true":
                    return Answer(400)
                shutil.rmtree(path)
            else:
                os.unlink(path)
            return Answer(204)
        if (method, parts) == ("POST", ["permissions"]):
            try:
                os.chmod(path, int(request.query["mode"], 8))
            except FileNotFoundError:
                return Answer(404)
            except (OSError, KeyError, ValueError):
                return Answer(400)
            return Answer(200)
        if (method, parts) == ("POST", ["bulk-upload"]):
            return self.upload(sandbox, request)
        if (method, parts) == ("POST", ["bulk-download"]):
            return self.download(request)
        return refuse(request, 404, "not found", "NOT_FOUND")

    def upload(self, sandbox, request):
        paths, files, errors = {}, [], []
        try:
            parts = read_multipart(request)
        except ValueError as error:
            return Answer(400, {"errors": [str(error)], "files": None})
        for name, content in parts:
            found = re.fullmatch(r"files\[(\d+)\]\.(path|file)", name or "")
            if not found:
                continue
            if found[2] == "path":
                paths[found[1]] = content.decode().strip()
                continue
            path = paths.get(found[1])
            if path is None:
                errors.append(f"file[{found[1]}]: missing .path metadata")
                continue
            try:
                os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
                with open(path, "wb") as file:
                    file.write(content)
            except OSError as error:
                errors.append(f"{path}: {error.strerror}")
                continue
            if not path.startswith(sandbox.root + "/"):
                self.uploaded.add(path)
            files.append({"path": path, "bytes": len(content)})
        if errors:
            return Answer(400, {"errors": errors, "files": files or None})
        return Answer(200, {"files": files})

    def download(self, request):
        files = []
        for path in request.json().get("paths", []):
            if self.download_content is not None or self.download_refusal is not None:
                files.append((path, self.download_content, self.download_refusal))
                continue
            try:
                with open(path, "rb") as file:
                    files.append((path, file.read(), None))
            except FileNotFoundError:
                files.append((path, None, {**failure(request, 404, f"file not found: {path}", "FILE_NOT_FOUND"), "path": path}))
            except OSError as error:
                files.append((path, None, {**failure(request, 400, f"invalid file: {path}: {error.strerror}", "INVALID_FILE_PATH"),
                                           "path": path}))
        return Answer(200, write_multipart(files), {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})

    # --- sessions ---

    def sessions(self, sandbox, request, parts):
        owner, method = sandbox.processes, request.method
        if method == "POST" and not parts:
            session_id = request.json().get("sessionId", "")
            with owner.lock:
                if session_id in owner.sessions:
                    return refuse(request, 409, "conflict: session already exists", "CONFLICT")
                owner.sessions[session_id] = Session(session_id, owner)
            return Answer(201)
        with owner.lock:
            session = owner.sessions.get(parts[0]) if parts else None
        if method == "POST" and parts[1:] == ["exec"]:
            return self.session_exec(session, request)
        if session is None:
            return refuse(request, 404, "not found: session not found", "NOT_FOUND")
        if method == "DELETE" and len(parts) == 1:
            with owner.lock:
                owner.sessions.pop(parts[0], None)
            session.end()
            return Answer(204)
        command = session.commands.get(parts[2]) if method == "GET" and parts[1:2] == ["command"] and len(parts) in (3, 4) else None
        if command is None:
            return refuse(request, 404, "not found: command not found", "NOT_FOUND")
        if len(parts) == 3:
            view = {"id": command.id, "command": command.text}
            if command.exit_code is not None:
                view["exitCode"] = command.exit_code
            return Answer(200, view)
        if request.query.get("follow") == "true":
            return self.follow(command, request)
        return self.logs(command, request)

    @staticmethod
    def session_exec(session, request):
        body = request.json()
        if session is None:
            return refuse(request, 500, "failed to execute command: not found: session not found", "INTERNAL_SERVER_ERROR")
        command = session.run(body.get("command", ""))
        if command is None:
            return refuse(request, 500, "failed to execute command: failed to write command: write |1: broken pipe",
                          "INTERNAL_SERVER_ERROR")
        if body.get("runAsync"):
            return Answer(202, {"cmdId": command.id})
        for reader in command.readers:
            reader.join()
        _, out, err = command.streams()
        return Answer(200, {"cmdId": command.id, "stdout": out.decode("utf-8", "replace"), "stderr": err.decode("utf-8", "replace"),
                            "output": (out + err).decode("utf-8", "replace"), "exitCode": command.exit_code})

    @staticmethod
    def logs(command, request):
        raw, out, err = command.streams()
        version = version_of(request)
        if version is not None and version >= (0, 167):
            return Answer(200, {"output": raw.decode("utf-8", "replace"), "stdout": out.decode("utf-8", "replace"),
                                "stderr": err.decode("utf-8", "replace")})
        if version is None and request.headers.get("x-daytona-split-output") != "true":
            raw = raw.replace(b"\1\1\1", b"").replace(b"\2\2\2", b"")
        return Answer(200, raw, {"Content-Type": "text/plain; charset=utf-8"})

    def follow(self, command, request):
        if request.headers.get("upgrade", "").lower() != "websocket":
            return PlainLog(command, self.idle_looks)
        return Frames(command, self.idle_looks, request.headers.get("sec-websocket-key", ""))


class PlainLog:
    """The proxy's answer to a request without an upgrade: one stream, without labels."""

    status = 200

    def __init__(self, command, idle_looks):
        self.command = command
        self.idle_looks = idle_looks

    def send(self, connection):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n")

        def send(piece):
            piece = piece.replace(b"\1\1\1", b"").replace(b"\2\2\2", b"")
            if piece:
                connection.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            return True

        follow(self.command, self.idle_looks, send)
        connection.send(b"0\r\n\r\n")

    def carry_out(self):
        """There is nothing to do but to tell."""


class Frames(PlainLog):
    """The log in messages of a WebSocket."""

    status = 101

    def __init__(self, command, idle_looks, key):
        super().__init__(command, idle_looks)
        self.key = key

    def upgrade(self, connection):
        connection.send(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        f"Sec-WebSocket-Accept: {websocket_accept(self.key)}\r\n\r\n".encode())

    @staticmethod
    def close(connection, code):
        connection.send(websocket_frame(8, code.to_bytes(2, "big")))
        while websocket_read(connection)[0] != 8:
            pass

    def send(self, connection):
        self.upgrade(connection)
        follow(self.command, self.idle_looks, lambda piece: connection.send(websocket_frame(2, piece)) is None)
        self.close(connection, 1000)
        raise Gone

    def send_part(self, connection, fault, given_up):
        """dropStream: then the connection ends; closeStream: with that code."""
        self.upgrade(connection)
        left, code = fault.value if fault.way == "closeStream" else (fault.value, None)

        def send(piece):
            nonlocal left
            piece = piece[:left]
            left -= len(piece)
            if piece:
                connection.send(websocket_frame(2, piece))
            return left > 0

        if left > 0 and follow(self.command, self.idle_looks, send):
            code = 1000
        if code is not None:
            self.close(connection, code)
        raise Gone
