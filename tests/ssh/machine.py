"""A machine of one's own for the tests: a real sshd on loopback with keys, users and files of its own, in a private folder.

Its users are no users of this system (passwd_preload.c): each has a home directory in the folder and a login shell of the test's choice. If
the suite runs as root they have an ordinary user id that nobody else has; else its own, since sshd can then be nobody else.
"""

import atexit
import contextlib
import ctypes
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "worker"))

from harness import RUNNING, Failure, Skip, descendants, is_alive, is_below, remove_dir, temp_dir, wait_until  # noqa: E402

REMOTE_ID = 23456 if os.geteuid() == 0 else os.geteuid()
USER = "agent"
PR_SET_PDEATHSIG = 1
PRELOAD = os.path.abspath(sys.argv.pop(2)) if len(sys.argv) > 2 else None  # the library: beside the binary, before the names of tests


def program(name):
    """Its path, or None; daemons are not in everybody's PATH."""
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin")


def need_sshd():
    for name in ("sshd", "ssh", "ssh-keygen"):
        if not program(name):
            print(f"SKIPPED: the ssh driver against a real sshd: {name} is not installed", file=sys.stderr)
            raise Skip(f"{name} is not installed")


@functools.cache
def key_pair(number=0, passphrase="", kind="ed25519"):
    """(private, public) text; the same for the same arguments."""
    folder = temp_dir("psw key ")
    try:
        path = os.path.join(folder, "k")
        size = ["-b", "2048", "-m", "PEM"] if kind == "rsa" else []
        subprocess.run(["ssh-keygen", "-q", "-t", kind, *size, "-N", passphrase, "-C", f"test key {number}", "-f", path], check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        with open(path, encoding="ascii") as private, open(path + ".pub", encoding="ascii") as public:
            return private.read(), public.read()
    finally:
        remove_dir(folder)


@functools.cache
def preload():
    """The library's path; LD_PRELOAD takes none with a blank in it."""
    folder = tempfile.mkdtemp(prefix="psw-preload-", dir="/tmp")
    atexit.register(shutil.rmtree, folder)
    os.chmod(folder, 0o755)
    return shutil.copy(PRELOAD, folder)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def die_with_parent():
    """In the child: a suite that is killed leaves no server."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Machine:
    """root: its folder. users: name -> login shell. options: lines of sshd_config."""

    def __init__(self, users=None, options=(), wrapper=()):
        need_sshd()
        self.root = temp_dir("psw ssh ")
        self.users = {USER: "/bin/sh", **(users or {})}
        self.options, self.wrapper = list(options), list(wrapper)
        self.port = None
        self.process = None
        self.host_key = self.public_host_key = None
        self.write("passwd", "".join(f"{name}:x:{REMOTE_ID}:{REMOTE_ID}::{self.home(name)}:{shell}\n" for name, shell in self.users.items()))
        for name in self.users:
            os.makedirs(self.home(name))
            self.own(self.home(name))
        self.authorize(key_pair()[1])
        self.set_host_key(0)

    # --- files ---

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def home(self, user=USER):
        return self.path("home", user)

    def workspace(self, user=USER):
        return os.path.join(self.home(user), "work space")

    def write(self, name, text, mode=0o644):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def own(self, path):
        """The users' own, as everything that they make."""
        if os.geteuid() == 0:
            os.chown(path, REMOTE_ID, REMOTE_ID)

    def write_home(self, name, text, user=USER, mode=0o644):
        path = os.path.join(self.home(user), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        self.own(path)
        return path

    def leases(self, user=USER):
        """What is in the workspace."""
        try:
            return sorted(os.listdir(self.workspace(user)))
        except FileNotFoundError:
            return []

    # --- keys ---

    def authorize(self, *public):
        self.write("authorized_keys", "".join(public))

    def set_host_key(self, number):
        """For the next start."""
        private, self.public_host_key = key_pair(1000 + number)
        self.write("host_key", private, 0o600)

    def known_hosts(self, port=None):
        return f"[127.0.0.1]:{port or self.port} {' '.join(self.public_host_key.split()[:2])}\n"

    # --- sshd ---

    def config_text(self):
        return "\n".join([
            *self.options, f"Port {self.port}", "ListenAddress 127.0.0.1", f'HostKey "{self.path("host_key")}"', "PidFile none",
            f'AuthorizedKeysFile "{self.path("authorized_keys")}"', "StrictModes no", "UsePAM no", "PasswordAuthentication no",
            "KbdInteractiveAuthentication no", "PermitRootLogin yes", "UseDNS no", "PrintMotd no", "PrintLastLog no",
            "Subsystem sftp internal-sftp", "LogLevel VERBOSE", ""])

    def start(self):
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        again = self.port is not None
        for _ in range(20):
            if not again:
                self.port = free_port()
            self.write("sshd_config", self.config_text())
            environment = {"PATH": "/usr/bin:/bin", "LD_PRELOAD": preload(), "PSW_PASSWD": self.path("passwd")}
            with open(self.path("log"), "ab") as log:
                self.process = subprocess.Popen([*self.wrapper, program("sshd"), "-D", "-e", "-f", self.path("sshd_config")],
                                                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
                                                preexec_fn=die_with_parent)
            if self.answers():
                return self
        raise Failure(f"sshd does not start:\n{self.log()}")

    def answers(self):
        """Whether it listens; False: it has ended."""
        def listens():
            if self.process.poll() is not None:
                return "ended"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return "listens"
            return None

        return wait_until(listens, "sshd listens", 30) == "listens"

    def log(self):
        with open(self.path("log"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def servers(self):
        """Processes of sshd that serve a connection."""
        return [pid for pid, state, command in descendants(self.process.pid) if state != "Z" and command.startswith("sshd:")]

    def connections(self):
        """Processes of sshd, one each connection that is logged in."""
        return [pid for pid, state, command in descendants(self.process.pid)
                if state != "Z" and command.startswith("sshd:") and "@notty" in command]

    def cut(self, number=signal.SIGKILL):
        """Ends, or stops, all connections; the listener goes on."""
        for pid in self.servers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def cut_orphans(self):
        """Ends the connections of a server that is not there any more; they are the suite's own children then."""
        for pid, _, command in descendants(os.getpid()):
            if command.startswith("sshd: "):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def processes(self):
        """What runs on the machine: pid -> command line. What has lost its parent is the suite's own child."""
        workers = [worker.pid for worker in RUNNING]
        return {pid: command for pid, state, command in descendants(os.getpid())
                if state != "Z" and pid != self.process.pid and not command.startswith("sshd:") and pid not in workers and
                not any(is_below(pid, worker) for worker in workers)}

    def stop(self):
        if self.process:
            pids = [pid for pid, _, _ in descendants(self.process.pid)] + [self.process.pid]
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
            wait_until(lambda: not any(is_alive(pid) for pid in pids), "sshd's processes are gone", 30)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
        remove_dir(self.root)
