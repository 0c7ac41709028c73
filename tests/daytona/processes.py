"""What runs in a sandbox: single commands, and sessions with their labelled logs.

There is no container. A sandbox is a directory, its home lies in it, and its commands run on this machine as they are.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
import uuid

LABELS = {"stdout": b"\1\1\1", "stderr": b"\2\2\2"}


def shell():
    return shutil.which("bash") or "/bin/sh"


def end_group(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class Command:
    """A command of a session."""

    def __init__(self, text, directory):
        self.id = str(uuid.uuid4())
        self.text = text
        self.directory = os.path.join(directory, self.id)
        os.makedirs(self.directory)
        self.lock = threading.Lock()
        self.log = bytearray()
        with open(self.path("command"), "w", encoding="utf-8", newline="") as file:
            file.write(text + "\n")
        for name in ("stdin", "stdout", "stderr"):
            os.mkfifo(self.path(name))
        self.input = os.open(self.path("stdin"), os.O_RDWR)  # held open, with nobody writing
        self.readers = [threading.Thread(target=self.label, args=(name,), daemon=True) for name in LABELS]
        for reader in self.readers:
            reader.start()

    def path(self, name):
        return os.path.join(self.directory, name)

    def script(self):
        return "{{ . '{0}/command'; }} <'{0}/stdin' >'{0}/stdout' 2>'{0}/stderr'; echo $? >'{0}/exit.new'; " \
            "mv '{0}/exit.new' '{0}/exit'\n".format(self.directory)

    def label(self, name):
        with open(self.path(name), "rb") as pipe:
            for line in pipe:
                line = LABELS[name] + line.rstrip(b"\n").replace(b"\0", b"") + b"\n"
                with self.lock:
                    self.log += line

    def abandon(self):
        """The shell is gone: nobody will open the pipes any more."""
        for name in LABELS:
            with contextlib.suppress(OSError):
                os.close(os.open(self.path(name), os.O_WRONLY | os.O_NONBLOCK))
        if self.input >= 0:
            os.close(self.input)
            self.input = -1

    @property
    def exit_code(self):
        if any(reader.is_alive() for reader in self.readers):
            return None
        try:
            with open(self.path("exit"), encoding="ascii") as file:
                return int(file.read())
        except OSError:
            return None

    def bytes_from(self, start, count):
        with self.lock:
            return bytes(self.log[start:start + count])

    def streams(self):
        with self.lock:
            log = bytes(self.log)
        parts = {"stdout": bytearray(), "stderr": bytearray()}
        for line in log.split(b"\n")[:-1]:  # the log ends with a newline; \r is no end of a line
            for name, label in LABELS.items():
                if line.startswith(label):
                    parts[name] += line[len(label):] + b"\n"
        return log, bytes(parts["stdout"]), bytes(parts["stderr"])


class Session:
    def __init__(self, session_id, owner):
        self.id = session_id
        self.lock = threading.Lock()
        self.commands = {}
        self.directory = os.path.join(owner.sandbox.root, "sessions", uuid.uuid4().hex)
        os.makedirs(self.directory)
        self.process = subprocess.Popen([shell()], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        cwd=owner.sandbox.home, env=owner.environment(), start_new_session=True)

    def run(self, text):
        with self.lock:
            command = Command(text, self.directory)
            self.commands[command.id] = command
            try:
                if self.process.poll() is not None:
                    raise BrokenPipeError
                self.process.stdin.write(command.script().encode())
                self.process.stdin.flush()
            except OSError:
                command.abandon()
                return None
            return command

    def end(self):
        end_group(self.process)
        self.process.wait()
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        for command in self.commands.values():
            command.abandon()


class Processes:
    def __init__(self, sandbox):
        self.sandbox = sandbox
        self.lock = threading.Lock()
        self.running = set()
        self.sessions = {}

    def environment(self):
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": self.sandbox.home, "LANG": "C.UTF-8",
                "DAYTONA_SANDBOX_ID": self.sandbox.id}

    def execute(self, text, timeout_s, cwd, envs):
        """(exit code, output), or None when the time is over. The answer waits for all that hold the output."""
        if cwd and not os.path.isdir(cwd):
            return -1, f"fork/exec {shell()}: no such file or directory".encode()
        process = subprocess.Popen([shell()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   cwd=cwd or self.sandbox.home, env={**self.environment(), **(envs or {})}, start_new_session=True)
        with self.lock:
            self.running.add(process)
        try:
            # poll() takes no more than 24 days.
            output, _ = process.communicate(text.encode("utf-8", "surrogatepass"), timeout=min(timeout_s, 86400) or None)
            return (process.returncode if process.returncode >= 0 else -1), output
        except subprocess.TimeoutExpired:
            end_group(process)
            return None
        finally:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()
            with self.lock:
                self.running.discard(process)

    def end_all(self):
        with self.lock:
            running, sessions = list(self.running), list(self.sessions.values())
            self.sessions = {}
        for process in running:
            end_group(process)
        for session in sessions:
            session.end()

    def count(self):
        with self.lock:
            return len(self.running) + len(self.sessions)


def follow(command, idle_looks, send):
    """Hands the log to send(bytes) from its first byte, in pieces of at most 1024, until the command has ended and been quiet."""
    sent = 0
    idle = 0
    while True:
        piece = command.bytes_from(sent, 1024)
        if piece:
            if not send(piece):
                return False
            sent += len(piece)
            idle = 0
        else:
            idle += 1
            if idle >= idle_looks and command.exit_code is not None:
                return True
            time.sleep(0.02)
