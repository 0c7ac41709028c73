"""What is behind the bridge: sandboxes, which are directories of this machine, and commands, which are its processes.

/workspace in a command means the sandbox's own; in what it prints, its real place is /workspace again.
"""

import contextlib
import os
import queue
import re
import shutil
import signal
import subprocess
import threading
import uuid

from emulation.server import Refused

PROFILES = (
    "if [ -f /etc/profile ]; then . /etc/profile >/dev/null 2>&1 || true; fi && "
    'if [ -f "$HOME/.profile" ]; then . "$HOME/.profile" >/dev/null 2>&1 || true; fi && '
    'if [ -f "$HOME/.bash_profile" ]; then . "$HOME/.bash_profile" >/dev/null 2>&1 || true; '
    'elif [ -f "$HOME/.bashrc" ]; then . "$HOME/.bashrc" >/dev/null 2>&1 || true; fi && '
    'if [ -f "$HOME/.zprofile" ]; then . "$HOME/.zprofile" >/dev/null 2>&1 || true; fi')


def internal(message):
    return Refused(500, message, "internal_error")


def quote(word):
    return "'" + word.replace("'", "'\"'\"'") + "'"


def end_group(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class Sandbox:
    def __init__(self, directory, name):
        self.id = name
        self.root = os.path.join(directory, uuid.uuid4().hex)
        os.makedirs(os.path.join(self.root, "home"))
        self.lock = threading.Lock()
        self.running = set()
        self.sessions = {}  # plain commands of one session wait for each other
        self.ended = False

    def inside(self, text):
        return text.replace("/workspace", self.root + "/workspace")

    def outside(self, data):
        return data.replace(self.root.encode(), b"").replace(b"\0", b"").decode("utf-8", "replace")

    def session(self, body):
        name = body.get("sessionId") if body.get("sessionStrategy") == "named" else "default"
        with self.lock:
            return self.sessions.setdefault(name, threading.Lock())

    def script(self, body):
        env = body.get("env") or {}
        for name in env:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise internal(f"Invalid sandbox environment variable key: {name}")
        words = [quote(self.inside(word)) for word in [body["command"], *(body.get("args") or [])] if isinstance(word, str)]
        values = [f"{name}={quote(self.inside(value))}" for name, value in env.items() if isinstance(value, str)]
        cd = f" && cd {quote(self.inside(body['cwd']))}" if body.get("cwd") else ""
        return f"{PROFILES}{cd} && exec {' '.join(['env', *values] if values else [])} {' '.join(words)}"

    def spawn(self, body):
        script = self.script(body)
        stdin = subprocess.DEVNULL
        if body.get("stdin"):
            path = os.path.join(self.root, f"stdin-{uuid.uuid4().hex}")
            with open(path, "w", encoding="utf-8", newline="") as file:
                file.write(body["stdin"])
            stdin = open(path, "rb")
            os.unlink(path)
        with self.lock:
            if self.ended:
                raise internal("the sandbox was destroyed")
            process = subprocess.Popen(
                ["sh", "-lc", script], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", start_new_session=True,
                env={"PATH": os.environ.get("PATH", os.defpath), "HOME": os.path.join(self.root, "home"), "LANG": "C.UTF-8"})
            self.running.add(process)
        if stdin is not subprocess.DEVNULL:
            stdin.close()
        return process

    def done(self, process):
        process.wait()
        with self.lock:
            self.running.discard(process)
        return process.returncode if process.returncode >= 0 else 128 - process.returncode

    def run(self, body):
        """A plain command: its output loses its last newline."""
        with self.session(body):
            process = self.spawn(body)
            try:
                out, err = process.communicate(timeout=max(body.get("timeoutMs", 300000), 0) / 1000)
            except subprocess.TimeoutExpired:
                end_group(process)
                process.communicate()
                self.done(process)
                return {"exitCode": None, "signal": None, "timedOut": True, "stdout": "", "stderr": "Command timed out\n"}
            texts = [self.outside(data).removesuffix("\n") for data in (out, err)]
            return {"exitCode": self.done(process), "signal": None, "timedOut": False, "stdout": texts[0], "stderr": texts[1]}

    def follow(self, body):
        """Yields ("stdout" or "stderr", line) as they come, at last ("complete", result). A last line gains a newline."""
        process = self.spawn(body)
        lines = queue.Queue()

        def read(name, pipe):
            for line in pipe:
                lines.put((name, self.outside(line).removesuffix("\n") + "\n"))
            pipe.close()
            lines.put((name, None))

        for name in ("stdout", "stderr"):
            threading.Thread(target=read, args=(name, getattr(process, name)), daemon=True).start()
        threading.Thread(target=self.done, args=(process,), daemon=True).start()
        texts = {"stdout": "", "stderr": ""}
        open_pipes = 2
        while open_pipes:
            name, line = lines.get()
            if line is None:
                open_pipes -= 1
            else:
                texts[name] += line
                yield name, line
        yield "complete", {"exitCode": self.done(process), "signal": None, "timedOut": False, **texts}

    def end(self):
        with self.lock:
            self.ended = True
            running = list(self.running)
        for process in running:
            end_group(process)
        for process in running:
            process.wait()
        shutil.rmtree(self.root, ignore_errors=True)


class Sandboxes:
    """Every id is a sandbox: one that was never made is made when it is used."""

    def __init__(self, directory):
        self.directory = directory
        self.lock = threading.Lock()
        self.known = {}

    def get(self, name):
        if not 1 <= len(name) <= 63:
            raise internal("Sandbox ID must be 1-63 characters long.")
        with self.lock:
            if name not in self.known:
                self.known[name] = Sandbox(self.directory, name)
            return self.known[name]

    def destroy(self, name):
        with self.lock:
            sandbox = self.known.pop(name, None)
        if sandbox:
            sandbox.end()

    def live(self):
        with self.lock:
            return sorted(self.known)

    def running(self):
        with self.lock:
            return sum(len(sandbox.running) for sandbox in self.known.values())

    def end(self):
        for name in self.live():
            self.destroy(name)
