#!/usr/bin/python3
"""What may go wrong between the worker and the machine, and on the machine."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time

from driver import session
from harness import Skip, check, check_equal, long_sleep, main, processes_with, test, wait_until
from machine import REMOTE_ID, USER, program

SURE_S = 60  # generous: what comes by its deadline comes long before


def start_long(s, lease, mark, **config):
    key = s.send_sh(lease, f"echo ready; sleep {mark} & setsid sleep {mark} & sleep {mark}; echo never", **config)
    s.w.until(lambda: "ready" in s.w.live_text(key), "it runs")
    return key


def failed(s, key):
    return s.w.error(key)["message"]


# --- connections that end ---


@test
def a_connection_that_is_cut_fails_the_command_ends_it_over_there_and_the_next_one_works():
    with session() as s:
        lease = s.acquire()
        mark = long_sleep()
        keys = [start_long(s, lease, mark) for _ in range(3)]
        s.m.cut()
        for key in keys:
            check_equal(failed(s, key), f"The connection to {USER}@127.0.0.1:{s.m.port} was lost while the command ran. What it has done until "
                        "then stays; it is not run again.")
        s.no_process()
        check_equal(s.sh(lease, "echo again")["stdout"], "again\n")
        s.m.cut()
        check_equal(s.sh(lease, "echo and again")["stdout"], "and again\n")
        s.destroy(lease)
        s.nothing_left()


@test
def a_connection_that_is_silent_counts_as_lost():
    with session() as s:
        lease = s.acquire(serverAliveSeconds=1)
        mark = long_sleep()
        key = start_long(s, lease, mark, serverAliveSeconds=1)
        began = time.monotonic()
        s.m.cut(signal.SIGSTOP)
        check("was lost while the command ran" in failed(s, key), "lost")
        check(time.monotonic() - began < SURE_S, "it took long")
        # The command was ended over another connection, while the first one still slept.
        s.no_process()
        s.m.cut(signal.SIGCONT)
        s.destroy(lease)
        s.nothing_left()


@test
def timeouts_and_destroys_come_by_their_time_on_a_silent_connection():
    with session() as s:
        lease = s.acquire()
        mark = long_sleep()
        key = s.send_sh(lease, f"echo ready; sleep {mark}", {"timeoutMs": 2000})
        s.w.until(lambda: "ready" in s.w.live_text(key), "it runs")
        s.m.process.send_signal(signal.SIGSTOP)
        s.m.cut(signal.SIGSTOP)
        began = time.monotonic()
        check_equal(s.w.result(key)["timedOut"], True)
        check(time.monotonic() - began < SURE_S, "it took long")
        destroying = s.send("DestroyLease", {"providerLeaseId": lease}, serverAliveSeconds=1, connectTimeoutSeconds=1)
        check("error" in s.w.answer(destroying), "no proof, no success")
        s.m.process.send_signal(signal.SIGCONT)
        s.m.cut(signal.SIGCONT)
        s.destroy(lease)
        s.nothing_left()


@test
def a_server_that_is_gone_is_told_and_found_again_when_it_is_back():
    with session() as s:
        lease = s.acquire()
        s.m.stop()
        said = f"No SSH server listens at {USER}@127.0.0.1:{s.m.port}: connection refused."
        check(s.error("Execute", {"lease": {"providerLeaseId": lease}, "command": "true"}).startswith(said), "execute")
        for method in ("ResumeLease", "ReleaseLease", "DestroyLease"):
            check(s.error(method, {"providerLeaseId": lease}).startswith(said), method)
        check(s.error("AcquireLease", {"runId": "r"}).startswith(said), "acquire")
        probe = s.call("Probe")
        check_equal((probe["ok"], [entry["code"] for entry in probe["diagnostics"]]), (False, ["config", "connection"]))
        s.m.start()
        s.destroy(lease)
        s.nothing_left()


@test
def connections_go_on_while_the_server_is_started_anew():
    with session() as s:
        lease = s.acquire()
        s.m.process.terminate()
        s.m.process.wait()
        check_equal(s.sh(lease, "echo still")["stdout"], "still\n")
        s.m.cut_orphans()
        s.m.start()
        check_equal(s.sh(lease, "echo again")["stdout"], "again\n")
        s.destroy(lease)


# --- what is no SSH server ---


class Listener:
    """Takes connections and does with each what the test wants."""

    def __init__(self, serve):
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.socket.getsockname()[1]
        self.count = 0
        self.kept = []
        threading.Thread(target=self.run, args=(serve,), daemon=True).start()

    def run(self, serve):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.count += 1
            self.kept.append(connection)
            serve(connection)

    def close(self):
        self.socket.close()
        for connection in self.kept:
            connection.close()


@test
def what_is_no_ssh_server_is_called_that():
    with session() as s:
        silent = Listener(lambda connection: None)
        closing = Listener(lambda connection: connection.close())
        web = Listener(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100))
        keys = {name: s.send("AcquireLease", {"runId": "r"}, port=listener.port, connectTimeoutSeconds=1, knownHosts=s.m.known_hosts(listener.port))
                for name, listener in (("silent", silent), ("closing", closing), ("web", web))}
        check("does not answer as an SSH server" in failed(s, keys["silent"]), "silent")
        said = failed(s, keys["closing"])
        check("was closed before the server said anything" in said and "MaxStartups" in said, said)
        # What drops a connection may be a crowded server.
        check(closing.count > 3, f"{closing.count} tries")
        check("ssh says" in failed(s, keys["web"]), "web")
        unresolved = s.error("AcquireLease", {"runId": "r"}, host="no-such-host.invalid")
        check(unresolved.startswith(f"The host name of {USER}@no-such-host.invalid:{s.m.port} cannot be resolved."), unresolved)
        for listener in (silent, closing, web):
            listener.close()


# --- many at once ---


@test
def more_commands_than_connections_have_room_for_all_run():
    with session() as s:
        lease = s.acquire()
        keys = [s.send_sh(lease, f"echo {i}; exit {i % 7}") for i in range(100)]
        for i, key in enumerate(keys):
            done = s.w.result(key)
            check_equal((done["stdout"], done["exitCode"]), (f"{i}\n", i % 7))
        check(len(s.m.connections()) <= 8, f"{len(s.m.connections())} connections")
        s.destroy(lease)
        s.nothing_left()


@test
def a_server_that_takes_few_sessions_gets_few():
    for most in (1, 3):
        with session(options=[f"MaxSessions {most}"]) as s:
            lease = s.acquire()
            mark = long_sleep()
            stuck = start_long(s, lease, mark)
            keys = [s.send_sh(lease, f"echo {i}") for i in range(30)]
            for i, key in enumerate(keys):
                check_equal(s.w.result(key)["stdout"], f"{i}\n")
            late = s.sh(lease, f"sleep {mark}", {"timeoutMs": 300})
            check_equal(late["timedOut"], True)
            s.destroy(lease)
            check("error" in s.w.answer(stuck), "ended by the destroy")
            s.nothing_left()


@test
def a_server_that_drops_log_ins_is_asked_again():
    with session(options=["MaxStartups 3:40:8"]) as s:
        keys = [s.send("AcquireLease", {"runId": "r"}, company=f"company-{i}") for i in range(12)]
        leases = [s.w.result(key)["providerLeaseId"] for key in keys]
        for i, lease in enumerate(leases):
            s.destroy(lease, company=f"company-{i}")
        s.nothing_left()


# --- the machine itself ---


def small_disk(path):
    """A wrapper that gives sshd a disk of 64 kB at the path, or None."""
    for unshare in (["unshare", "-m"], ["unshare", "-U", "-m", "--map-current-user", "--keep-caps"]):
        command = [*unshare, "sh", "-c", 'mount -t tmpfs -o size=64k,mode=777 tmpfs "$0" && exec "$@"', path]
        if shutil.which("unshare") and subprocess.run([*command, "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return command
    return None


@test
def a_full_disk_is_told_and_leaves_nothing():
    with session() as s:
        disk = os.path.join(s.m.home(), "disk")
        os.mkdir(disk)
        s.m.own(disk)
        wrapper = small_disk(disk)
        if not wrapper:
            raise Skip("no file system can be mounted here")
        s.m.stop()
        s.m.wrapper = wrapper
        s.m.start()
        lease = s.acquire(remoteWorkspacePath=disk)
        done = s.sh(lease, "head -c 1000000 /dev/zero > big; echo $?", remoteWorkspacePath=disk)
        check("No space left" in done["stderr"] and done["stdout"] == "1\n", done)
        said = s.error("AcquireLease", {"runId": "r"}, remoteWorkspacePath=disk)
        check(said.startswith(f"Making the directory {disk}/") and ("No space left" in said or "I/O error" in said), said)
        check_equal(s.sh(lease, f"ls -A {disk!r}", remoteWorkspacePath=disk)["stdout"].count("\n"), 2)
        probe = s.call("Probe", remoteWorkspacePath=disk)
        check_equal((probe["ok"], probe["diagnostics"][-1]["code"]), (False, "workspace"))
        s.destroy(lease, remoteWorkspacePath=disk)
        s.no_process()


@test
def a_workspace_that_cannot_be_made_is_told_with_the_reason():
    with session() as s:
        s.m.write_home("file", "")
        text = s.error("AcquireLease", {"runId": "r"}, remoteWorkspacePath=s.m.home() + "/file/sub")
        check(text.startswith(f"Making the directory {s.m.home()}/file/sub/paperclip-") and "ot a directory" in text, text)
        if REMOTE_ID != 0:
            text = s.error("AcquireLease", {"runId": "r"}, remoteWorkspacePath="/proc/none")
            check(text.startswith("Making the directory /proc/none/"), text)
        s.nothing_left()


@test
def a_worker_without_ssh_says_so():
    with session(env={"PATH": "/no/such/place"}) as s:
        text = s.error("AcquireLease", {"runId": "r"})
        check_equal(text, "ssh cannot be started on the worker's machine: No such file or directory. Is OpenSSH's client installed?")
        check_equal(s.call("Probe")["ok"], False)


@test
def a_process_that_outlives_its_command_ends_with_the_lease_though_it_hides():
    with session() as s:
        lease = s.acquire()
        mark = long_sleep()
        s.sh(lease, f"(setsid sh -c 'trap \"\" TERM HUP; (sleep {mark} &) ; sleep {mark}' </dev/null >/dev/null 2>&1 &) ; cd /; nohup sleep {mark} >/dev/null 2>&1 &")
        wait_until(lambda: len(processes_with(mark)) >= 3, "they run")
        s.destroy(lease)
        s.nothing_left()


@test
def without_proc_grep_the_look_for_processes_works_too():
    """As where grep is busybox's: its options are fewer."""
    box = program("busybox")
    if not box:
        raise Skip("busybox is not installed")
    with session() as s:
        tools = os.path.join(s.m.root, "tools")
        os.mkdir(tools)
        os.symlink(box, os.path.join(tools, "grep"))
        os.symlink(box, os.path.join(tools, "tr"))
        s.m.stop()
        s.m.options.append(f'SetEnv "PATH={tools}:/usr/bin:/bin"')
        s.m.start()
        lease = s.acquire()
        mark = long_sleep()
        check_equal(s.sh(lease, "command -v grep", loginShell=False)["stdout"].strip(), os.path.join(tools, "grep"))
        done = s.sh(lease, f"setsid sleep {mark} & sleep {mark}", {"timeoutMs": 500})
        check_equal(done["timedOut"], True)
        s.no_process()
        s.sh(lease, f"setsid sleep {mark} & true")
        s.destroy(lease)
        s.nothing_left()


main()
