#!/usr/bin/python3
"""host contract, "The launcher": how plugin/worker.cjs becomes the worker, with a stand-in for the binary.

test_launcher.py STANDIN NODE24-CACHE [PART-OF-A-TEST'S-NAME]
"""

import contextlib
import json
import os
import platform
import shutil
import signal
import socket
import struct
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "worker"))
sys.dont_write_bytecode = True

from harness import Build, Skip, check, check_equal, check_match, is_alive, main, remove_dir, temp_dir, test, wait_until  # noqa: E402
from node24 import find_node24  # noqa: E402

LAUNCHER = os.path.join(HERE, "..", "..", "plugin", "worker.cjs")
NAME = "paperclip-sandbox-worker"
ARCHITECTURE = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
HOST_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "NODE_PATH": "", "PAPERCLIP_PLUGIN_ID": "1", "NODE_ENV": "production", "TZ": "UTC",
                    "PAPERCLIP_DEPLOYMENT_MODE": "local_trusted", "PAPERCLIP_DEPLOYMENT_EXPOSURE": ""}


def has_execve(node):
    return subprocess.run([node, "-p", "typeof process.execve"], stdout=subprocess.PIPE, check=True).stdout == b"function\n"


class Nodes:
    """The versions of Node at hand: Node 24 replaces itself by the worker, older ones keep it as a child."""

    cache = None
    found = None

    @classmethod
    def all(cls):
        if cls.found is None:
            cls.found = []
            why = "there is no node in PATH"
            with contextlib.suppress(TypeError):
                cls.found.append(os.path.realpath(shutil.which("node")))
            try:
                cls.found.append(find_node24(cls.cache))
            except Skip as reason:
                why = str(reason)
                print(f"# WITHOUT NODE 24: {why}")
            if not cls.found:
                raise Skip(f"NO NODE AT ALL: {why}")
        return cls.found


class Package:
    """A package directory, with a blank in its path, whose binary is the stand-in."""

    def __enter__(self):
        self.top = temp_dir("psw package ")
        self.path = os.path.join(self.top, "the package")
        self.binary = os.path.join(self.path, "bin", f"linux-{ARCHITECTURE}", NAME)
        os.makedirs(os.path.dirname(self.binary))
        shutil.copy(LAUNCHER, os.path.join(self.path, "worker.cjs"))
        shutil.copy(Build.path, self.binary)
        return self

    def __exit__(self, *_):
        remove_dir(self.top)

    def change(self, function):
        """Rewrites the binary: bytes to bytes."""
        with open(self.binary, "rb") as file:
            data = file.read()
        with open(self.binary, "wb") as file:
            file.write(function(data))


class Launched:
    """The launcher as the host's fork starts it: sockets for 0 to 2, Node's own channel at 3, the host's few variables."""

    def __init__(self, node, package, args=(), user=None, entry="worker.cjs", early=b""):
        pairs = [socket.socketpair() for _ in range(4)]
        ours, theirs = zip(*pairs)
        self.stdin, self.stdout, self.stderr, self.channel = ours
        self.stdin.sendall(early)

        def in_child():
            os.dup2(theirs[3].fileno(), 3)
            if user is not None:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)

        environment = {**HOST_ENVIRONMENT, "NODE_CHANNEL_FD": "3", "NODE_CHANNEL_SERIALIZATION_MODE": "json"}
        self.process = subprocess.Popen([node, os.path.join(package.path, entry), *args], stdin=theirs[0], stdout=theirs[1],
                                        stderr=theirs[2], pass_fds=(3,), preexec_fn=in_child, env=environment)
        self.pid = self.process.pid
        for end in theirs:
            end.close()
        for end in (self.stdout, self.stderr):
            end.settimeout(60)
        self.lines = self.stdout.makefile("r", encoding="utf-8")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self.process.kill()
        for end in (self.lines, self.stdin, self.stdout, self.stderr, self.channel):
            end.close()
        self.process.wait(60)

    def started(self):
        return json.loads(self.lines.readline())

    def say(self, text):
        self.stdin.sendall(text.encode())

    def line(self):
        return self.lines.readline()

    def errors(self):
        data = b""
        while chunk := self.stderr.recv(65536):
            data += chunk
        return data.decode()

    def status(self):
        """The exit status, or minus the signal, as the host sees it; nothing may have come on stderr."""
        status = self.process.wait(60)
        check_equal(self.errors(), "", "stderr")
        return status


def with_each_node(function):
    """One test for all versions of Node."""
    def run():
        for node in Nodes.all():
            print(f"# {node}")
            with Package() as package:
                function(node, package)

    run.__name__ = function.__name__
    return test(run)


# --- what the worker gets ---


@with_each_node
def the_worker_gets_blocking_descriptors_0_to_2_and_no_other(node, package):
    with Launched(node, package) as host:
        start = host.started()
        check_equal(start["descriptors"], {"0": "blocking", "1": "blocking", "2": "blocking"})
        check_equal(start["blocked"], [], "blocked signals")
        host.say("exit 0\n")
        check_equal(host.status(), 0)


@with_each_node
def the_environment_is_the_host_s_without_node_s_channel(node, package):
    with Launched(node, package) as host:
        check_equal(sorted(host.started()["environment"]), sorted(f"{name}={value}" for name, value in HOST_ENVIRONMENT.items()))


@with_each_node
def the_host_s_pid_is_the_worker_where_node_has_execve(node, package):
    with Launched(node, package) as host:
        start = host.started()
        check_equal(start["pid"] if has_execve(node) else start["parent"], host.pid)


@with_each_node
def arguments_are_passed_on(node, package):
    with Launched(node, package, ["run", "--driver", "a b"]) as host:
        start = host.started()
        check_equal(start["arguments"], ["run", "--driver", "a b"])
        check_equal(start["program"], os.path.realpath(package.binary))


@with_each_node
def input_sent_before_the_start_is_all_there(node, package):
    with Launched(node, package, early=b"count\n" + 60_000 * b"x") as host:
        host.started()
        host.say(40_000 * "y")
        host.stdin.shutdown(socket.SHUT_WR)
        check_equal(host.line(), "100000\n")
        check_equal(host.status(), 0)


@with_each_node
def a_package_reached_by_a_symbolic_link_works(node, package):
    os.symlink("the package", os.path.join(package.top, "link"))
    package.path = os.path.join(package.top, "link")
    with Launched(node, package) as host:
        host.started()
        host.say("exit 0\n")
        check_equal(host.status(), 0)


# --- how it ends ---


@with_each_node
def the_exit_status_is_the_worker_s(node, package):
    for status in (0, 7, 255):
        with Launched(node, package) as host:
            host.started()
            host.say(f"exit {status}\n")
            check_equal(host.status(), status)


@with_each_node
def a_signal_that_kills_the_worker_is_seen_by_the_host(node, package):
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGALRM):
        with Launched(node, package) as host:
            host.started()
            host.say(f"die {int(number)}\n")
            check_equal(host.status(), -number)


@with_each_node
def a_signal_that_node_ignores_still_ends_the_launcher(node, package):
    with Launched(node, package) as host:
        host.started()
        host.say(f"die {int(signal.SIGPIPE)}\n")
        check(host.status() in (-signal.SIGPIPE, 128 + signal.SIGPIPE), "neither killed by SIGPIPE nor exit status 141")


@with_each_node
def signals_of_the_host_reach_the_worker(node, package):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        with Launched(node, package) as host:
            host.started()
            host.say(f"catch {int(number)}\n")
            check_equal(host.line(), "ready\n")
            os.kill(host.pid, number)
            check_equal(host.line(), f"caught {int(number):02}\n")
            host.say("exit 3\n")
            check_equal(host.status(), 3)


@with_each_node
def sigterm_ends_a_worker_that_does_not_catch_it(node, package):
    with Launched(node, package) as host:
        start = host.started()
        os.kill(host.pid, signal.SIGTERM)
        check_equal(host.status(), -signal.SIGTERM)
        check(not is_alive(start["pid"]), "the worker lives on")


@with_each_node
def the_worker_ends_when_the_host_has_killed_the_launcher_and_closed_its_input(node, package):
    with Launched(node, package) as host:
        start = host.started()
        host.process.kill()
        host.stdin.close()
        wait_until(lambda: not is_alive(start["pid"]), "the worker ends")


# --- what cannot be started ---


def check_refused(node, package, pattern, **how):
    """One line on stderr, of that pattern, and exit status 1."""
    with Launched(node, package, **how) as host:
        text = host.errors()
        check_match(text, r"paperclip-sandbox-worker: [^\n]*\n")
        check_match(text, f".*{pattern}.*")
        check_equal(host.lines.read(), "", "stdout")
        check_equal(host.process.wait(60), 1, "exit status")


@with_each_node
def a_missing_binary_is_told_with_its_path(node, package):
    os.unlink(package.binary)
    check_refused(node, package, rf"no program for linux-{ARCHITECTURE}: \S.*bin/linux-{ARCHITECTURE}/{NAME} is missing")
    remove_dir(os.path.join(package.path, "bin"))
    check_refused(node, package, f"no program for linux-{ARCHITECTURE}: .* is missing")


@with_each_node
def a_package_for_other_machines_tells_which(node, package):
    folder = os.path.join(package.path, "bin")
    os.rename(os.path.join(folder, f"linux-{ARCHITECTURE}"), os.path.join(folder, "linux-riscv64"))
    os.mkdir(os.path.join(folder, "linux-armv7"))
    check_refused(node, package, rf"no program for linux-{ARCHITECTURE} \(it has one for: linux-armv7, linux-riscv64\)")


@with_each_node
def a_program_for_another_machine_is_refused(node, package):
    package.change(lambda data: data[:18] + struct.pack("<H", 243) + data[20:])
    check_refused(node, package, rf"is not a program for {ARCHITECTURE} \(its ELF machine is 243\)")


@with_each_node
def a_file_that_is_no_program_is_refused(node, package):
    for content in (b"", b"version https://git-lfs.github.com/spec/v1\n", b"\x7fELF", b"\x7fELF\x01\x01\x01" + bytes(57)):
        package.change(lambda _, content=content: content)
        check_refused(node, package, "is not a 64-bit Linux program")


@with_each_node
def a_directory_in_its_place_is_refused(node, package):
    os.unlink(package.binary)
    os.mkdir(package.binary)
    check_refused(node, package, "cannot be read .EISDIR.")


@with_each_node
def a_copy_cut_short_is_refused(node, package):
    size = os.path.getsize(package.binary)
    package.change(lambda data: data[:-1])
    check_refused(node, package, rf"is damaged: {size - 1} of {size} bytes are there")


@with_each_node
def a_damaged_header_is_refused(node, package):
    package.change(lambda data: data[:32] + struct.pack("<Q", 1 << 40) + data[40:])
    check_refused(node, package, "is damaged: its headers are wrong")


@with_each_node
def a_system_without_glibc_is_told_so(node, package):
    def with_musl(data):
        start = data.index(b"/lib", 64)
        end = data.index(b"\0", start)
        return data[:start] + b"/lib/ld-musl".ljust(end - start, b"-") + data[end:]

    package.change(with_musl)
    check_refused(node, package, r"needs the GNU C library, and /lib/ld-musl-* is not here .*Alpine")


@with_each_node
def a_lost_executable_bit_is_restored(node, package):
    os.chmod(package.binary, 0o644)
    with Launched(node, package) as host:
        host.started()
        host.say("exit 0\n")
        check_equal(host.status(), 0)
    check_equal(os.stat(package.binary).st_mode & 0o777, 0o755)


@test
def an_executable_bit_that_cannot_be_restored_is_told():
    if os.geteuid() != 0:
        raise Skip("needs root, to be another user than the file's owner")
    for node in Nodes.all():
        if os.stat(os.path.realpath(node)).st_uid == 0 and node.startswith("/root/"):
            continue
        with Package() as package:
            os.chmod(package.binary, 0o644)
            check_refused(node, package, "is not executable and cannot be made so .EPERM.: chmod", user=65534)
            check_equal(os.stat(package.binary).st_mode & 0o777, 0o644)


if __name__ == "__main__":
    Nodes.cache = os.path.abspath(sys.argv.pop(2))
    main()
