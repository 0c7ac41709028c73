#!/usr/bin/python3
"""The local driver: real sandboxes on this machine, as the host meets them. Namespaces and limits behave differently for root and for an
ordinary user: scripts/run-tests runs this as both. As root, with $PSW_BOTH_USERS set, most tests are played twice."""

import contextlib
import datetime
import functools
import glob
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import time

import harness
from harness import (COMPANY, OTHER_COMPANY, Skip, Worker, check, check_equal, check_match, descendants, is_alive, long_sleep, main,
                     processes_with, remove_dir, temp_dir, test, unique, wait_until)

ID = r"local://[0-9a-f]{32}"
NOBODY = 65534
USERS = [None, NOBODY] if os.geteuid() == 0 and os.environ.get("PSW_BOTH_USERS") else [None]
UNKNOWN = "local://" + "0123456789abcdef" * 2
PYTHON = "/usr/bin/python3"


class Host:
    """A state directory with its workers, one after the other or at once, all of one user."""

    def __init__(self, user=None):
        self.user = user
        self.top = temp_dir("psw local ")
        self.state = os.path.join(self.top, "state dir")  # beside what tests share
        if user is not None:
            os.chown(self.top, user, user)

    def worker(self, **more):
        return Local(self, user=self.user, **more)

    def entries(self, part="leases"):
        with contextlib.suppress(FileNotFoundError):
            return sorted(os.listdir(os.path.join(self.state, part)))
        return []

    def lease_dir(self, lease):
        return os.path.join(self.state, "leases", lease["providerLeaseId"].removeprefix("local://"))

    def check_empty(self):
        check_equal(self.entries(), [], "leases that are left")
        check_equal(self.entries("trash"), [], "what is left of removed leases")

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        remove_dir(self.top)
        return False


class Local(Worker):
    def __init__(self, host, **more):
        self.host = host
        super().__init__(**more)

    def __enter__(self):
        super().__enter__()
        self.initialize()
        return self

    def config(self, config=None):
        return {"stateDir": self.host.state, **(config or {})}

    def params(self, lease=None, config=None, company=COMPANY, **more):
        return {**self.base("local", company, "env-1", self.config(config)), **({"lease": lease} if lease else {}), **more}

    def lease(self, config=None, **more):
        answer = self.call("environmentAcquireLease", {**self.params(config=config), "runId": "run-1", **more})
        check_match(answer["providerLeaseId"], ID, "lease id")
        return answer

    def run(self, lease, script, **more):
        return self.result(self.send_run(lease, script, **more))

    def send_run(self, lease, script, **more):
        return self.send_command(lease, "sh", ["-c", script], **more)

    def command(self, lease, command, *args, **more):
        return self.result(self.send_command(lease, command, list(args), **more))

    def send_command(self, lease, command, args, config=None, company=COMPANY, **more):
        return self.send("environmentExecute", self.params(lease, config, company, command=command, args=args, **more))

    def text(self, lease, script, **more):
        """What a script prints that has to work."""
        result = self.run(lease, script, **more)
        check_equal((result["exitCode"], result["stderr"]), (0, ""), f"end of {script!r}")
        return result["stdout"]

    def python(self, lease, code, **more):
        return self.command(lease, PYTHON, "-c", code, **more)

    def end(self, method, lease_id, config=None, company=COMPANY, **more):
        return self.call(method, {**self.params(config=config, company=company), "providerLeaseId": lease_id, **more})

    def release(self, lease, config=None, **more):
        return self.end("environmentReleaseLease", lease["providerLeaseId"], config, **more)

    def destroy(self, lease, config=None, **more):
        return self.end("environmentDestroyLease", lease["providerLeaseId"], config, **more)

    def resume(self, lease, config=None, **more):
        return self.end("environmentResumeLease", lease["providerLeaseId"], config, **more)

    def realize(self, lease, workspace=None, **more):
        return self.call("environmentRealizeWorkspace", self.params(lease, workspace=workspace or {}, **more))

    def error_of(self, lease, command, *args, **more):
        return self.error(self.send_command(lease, command, list(args), **more))["message"]


def as_each_user(function):
    """One test a kind of user."""
    for user in USERS:
        @functools.wraps(function)
        def play(user=user):
            with Host(user) as host:
                function(host)
        if user is not None:
            play.__name__ += "_as_an_ordinary_user"
        test(play)
    return function


def with_lease(config=None):
    """The test gets a worker and a fresh lease, and leaves nothing behind."""
    def decorate(function):
        @functools.wraps(function)
        def play(host):
            with host.worker() as w:
                lease = w.lease(config)
                function(w, lease)
                w.destroy(lease, config)
                host.check_empty()
        return as_each_user(play)
    return decorate


def iso(seconds_from_now):
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds_from_now)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def gone(lease):
    return f"Local sandbox lease {lease if isinstance(lease, str) else lease['providerLeaseId']} no longer exists."


def control_groups():
    return [path for top in ("/sys/fs/cgroup",) for path in glob.glob(f"{top}/**/paperclip-sandbox-*", recursive=True)]


# --- config and probe ---


@as_each_user
def a_config_is_judged_and_normalised(host):
    with host.worker() as w:
        answer = w.call("environmentValidateConfig", {"driverKey": "local", "config": {"memoryMb": "512", "binds": ["/a:/b:rw"]}})
        check_equal(answer, {"ok": True, "normalizedConfig": {
            "workdir": "/workspace", "network": "host", "binds": [{"source": "/a", "target": "/b", "writable": True}], "env": {},
            "memoryMb": 512, "timeoutMs": 300000, "reuseLease": False, "loginShell": False}})
        answer = w.call("environmentValidateConfig", {"driverKey": "local", "config": {"timeoutMs": 0, "workdir": "x", "env": {"A-B": ""}}})
        check_equal(answer, {"ok": False, "errors": [
            "workdir must be an absolute path.", "Invalid sandbox environment variable key: A-B",
            "timeoutMs must be between 1 and 86400000."]})


@as_each_user
def a_probe_runs_a_real_sandbox_tells_what_it_found_and_leaves_nothing(host):
    with host.worker() as w:
        report = w.call("environmentProbe", w.params())
        check_equal(report["ok"], True, json.dumps(report))
        check_match(report["summary"], r"Connected to local sandbox local-[0-9a-f]{8}\.")
        codes = [entry["code"] for entry in report["diagnostics"]]
        for code in ("bubblewrap", "sandbox", "limits", "state", "network"):
            check(code in codes, f"nothing about {code}: {codes}")
        check_equal(report["metadata"]["provider"], "local")
        host.check_empty()


@as_each_user
def a_probe_says_which_limits_are_not_enforced(host):
    with host.worker() as w:
        report = w.call("environmentProbe", w.params(config={"memoryMb": 256, "maxProcesses": 100, "cpus": 1}))
        check_equal(report["ok"], True, json.dumps(report))
        said = " ".join(entry["message"] for entry in report["diagnostics"] if entry["code"] == "limits")
        by_groups = "Limits are control groups" in said
        check(by_groups or "no control group (cgroup v2) is delegated" in said, said)
        check_equal("cpus is not enforced" in said, not (by_groups and "processors" in said.split(".")[0]), said)


@as_each_user
def a_probe_of_a_wrong_config_fails_with_the_first_error(host):
    with host.worker() as w:
        report = w.call("environmentProbe", w.params(config={"network": "bridge"}))
        check_equal((report["ok"], report["summary"]), (False, "Local sandbox probe failed."))
        check_equal(report["metadata"]["error"], 'network must be "host" or "none".')
        report = w.call("environmentProbe", w.params(config={"rootfs": "/nonexistent/fs"}))
        check_equal(report["ok"], False)
        check("rootfs /nonexistent/fs cannot be used" in report["diagnostics"][-1]["message"], json.dumps(report))
        check_equal(report["diagnostics"][-1]["severity"], "error")
        host.check_empty()


def masked(host, *options):
    """A worker that sees this machine through bubblewrap, with something missing."""
    bwrap = shutil.which("bwrap")
    return host.worker(binary=bwrap, argv=["--die-with-parent", "--bind", "/", "/", "--dev-bind", "/dev", "/dev", *options,
                                           harness.Build.path])


@as_each_user
def without_bubblewrap_the_answer_says_how_to_get_it(host):
    empty = os.path.join(host.top, "empty")
    with open(empty, "wb"):
        pass
    os.chmod(empty, 0o644)
    hidden = [word for path in {os.path.realpath(shutil.which("bwrap")), "/usr/bin/bwrap"} if os.path.exists(path)
              for word in ("--ro-bind", empty, path)]
    with masked(host, *hidden) as w:
        report = w.call("environmentProbe", w.params())
        check_equal(report["ok"], False)
        check("apt-get install bubblewrap" in report["metadata"]["error"], json.dumps(report))
        error = w.call_error("environmentAcquireLease", w.params())
        check("apt-get install bubblewrap" in error["message"], error["message"])
        host.check_empty()


@as_each_user
def where_namespaces_are_refused_the_answer_says_so(host):
    with masked(host, "--unshare-user", "--disable-userns") as w:
        error = w.call_error("environmentAcquireLease", w.params())["message"]
        check_match(error, r"The sandbox could not be started: .*bwrap.*|The sandbox could not be started: .*namespace.*")
        host.check_empty()


# --- isolation ---


@as_each_user
def the_hosts_files_are_not_visible(host):
    secret = os.path.join(host.top, "secret")
    with open(secret, "w", encoding="ascii") as file:
        file.write("s3cret")
    os.chmod(secret, 0o644)
    with host.worker() as w:
        lease = w.lease()
        check_equal(w.run(lease, f"cat '{secret}'")["exitCode"], 1)
        check_equal(w.text(lease, "ls /home").split(), ["agent"])
        check_equal(w.text(lease, "ls -A /tmp /home/agent /workspace").split(), ["/home/agent:", "/tmp:", "/workspace:"])
        names = set(w.text(lease, "ls -A /").split())
        check_equal(names - {"bin", "lib", "lib32", "lib64", "libx32", "sbin"}, {"dev", "etc", "home", "proc", "run", "tmp", "usr", "var", "workspace"})
        check_equal(w.text(lease, "ls -A /run /var; for f in /etc/shadow /etc/ssh /etc/ssl/private /root /sys; do test ! -e $f || echo $f; done").split(),
                    ["/run:", "/var:", "run", "tmp"])
        check("root:x:0:0:" in w.text(lease, "cat /etc/passwd"), "passwd is there")


@with_lease()
def the_system_is_read_only(w, lease):
    for path in ("/x", "/usr/x", "/usr/bin/sh", "/etc/x", "/etc/hosts", "/bin/x", "/lib/x", "/run/x", "/var/x", "/home/x", "/proc/x"):
        result = w.run(lease, f"echo > {path}")
        check(result["exitCode"] != 0, f"{path} was written")


@with_lease()
def the_kernels_switches_cannot_be_turned(w, lease):
    # Each is given the value that it has: a sandbox that fails this test does no harm.
    script = r"""
        for f in $(find /proc/sys /proc/irq /proc/bus /proc/fs /proc/mtrr /proc/acpi /proc/sysrq-trigger -type f 2>/dev/null); do
            [ "$f" = /proc/sysrq-trigger ] || value=$(cat "$f" 2>/dev/null) || continue
            if [ "$f" != /proc/sysrq-trigger ] && (printf '%s' "$value" > "$f") 2>/dev/null; then echo "$f"; fi
        done"""
    written = w.run(lease, script)["stdout"].split()
    check_equal(written, [], "files of /proc that could be written")


@with_lease()
def what_covers_proc_cannot_be_taken_away_from_inside(w, lease):
    result = w.run(lease, "unshare -Urm sh -c 'umount /proc/sys; value=$(cat /proc/sys/kernel/core_pattern); echo \"$value\" > /proc/sys/kernel/core_pattern' 2>&1")
    check(result["exitCode"] != 0, result["stdout"])
    result = w.run(lease, "unshare -Urmpf --mount-proc true 2>&1")
    if w.host.user is None and os.geteuid() == 0:
        check(result["exitCode"] != 0, "a /proc without covers was mounted")


@with_lease()
def each_namespace_is_the_sandboxes_own(w, lease):
    kinds = ("user", "pid", "ipc", "uts", "mnt", "cgroup")
    inside = w.text(lease, "for k in %s; do readlink /proc/self/ns/$k; done" % " ".join(kinds)).split()
    for kind, name in zip(kinds, inside):
        check(name != os.readlink(f"/proc/self/ns/{kind}"), f"{kind} namespace is the host's")
    check_equal(w.text(lease, "readlink /proc/self/ns/net").strip(), os.readlink("/proc/self/ns/net"))
    check_equal(w.text(lease, "uname -n").strip(), lease["metadata"]["sandboxName"])


@with_lease()
def only_the_sandboxes_processes_are_visible(w, lease):
    pids = w.text(lease, "ls /proc | grep '^[0-9]' | wc -l")
    check(int(pids) < 12, f"{pids} processes")
    check("sandbox-worker" not in w.text(lease, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"), "the worker is visible")


@with_lease()
def commands_have_no_privileges_and_cannot_get_any(w, lease):
    status = dict(line.split(":\t", 1) for line in w.text(lease, "cat /proc/self/status").splitlines() if ":\t" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        check_equal(int(status[name], 16), 0, name)
    check_equal(status["NoNewPrivs"], "1")
    check_equal(w.text(lease, "id -u; id -g; id -un; id -G").split(), ["1000", "1000", "agent", "1000"])


@with_lease()
def commands_get_three_descriptors_and_default_signals(w, lease):
    names = w.python(lease, "import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd'))[:-1])")["stdout"]
    check_equal(names, "[0, 1, 2]\n")
    status = w.text(lease, "grep -E '^Sig(Blk|Ign)' /proc/self/status")
    check_equal([int(line.split()[1], 16) for line in status.splitlines()], [0, 0])


@with_lease()
def no_terminal_is_within_reach(w, lease):
    code = "import fcntl, os, termios\n" \
           "print(os.getsid(0) == os.getpid())\n" \
           "for path in ('/dev/tty', '/dev/console'):\n" \
           "    try:\n" \
           "        fcntl.ioctl(os.open(path, os.O_RDWR), termios.TIOCSTI, b'x'); print('pushed')\n" \
           "    except OSError as error:\n" \
           "        print('refused')\n"
    check_equal(w.python(lease, code)["stdout"], "True\nrefused\nrefused\n")


@as_each_user
def the_workers_environment_stays_outside(host):
    with host.worker(env={"PATH": os.environ.get("PATH", os.defpath), "OPENAI_API_KEY": "sk-s3cret", "FOO": "bar"}) as w:
        text = w.text(w.lease(), "env; cat /proc/1/environ 2>/dev/null || true")
        check("s3cret" not in text and "FOO" not in text, text)


CONNECT = "import socket, sys\n" \
          "s = socket.socket(socket.AF_UNIX) if sys.argv[1] == 'unix' else socket.socket()\n" \
          "try:\n" \
          "    s.connect('\\0' + sys.argv[2] if sys.argv[1] == 'unix' else ('127.0.0.1', int(sys.argv[2]))); print('connected')\n" \
          "except OSError as error:\n" \
          "    print('refused')\n"


@as_each_user
def a_sandbox_without_network_has_only_its_own_loopback(host):
    with host.worker() as w, socket.socket() as server, socket.socket(socket.AF_UNIX) as abstract:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = str(server.getsockname()[1])
        name = unique("psw")
        abstract.bind("\0" + name)
        abstract.listen()
        none = w.lease({"network": "none"})
        check_equal([line.split(":")[0].strip() for line in w.text(none, "tail -n +3 /proc/net/dev").splitlines()], ["lo"])
        check_equal(w.command(none, PYTHON, "-c", CONNECT, "tcp", port)["stdout"], "refused\n")
        check_equal(w.command(none, PYTHON, "-c", CONNECT, "unix", name)["stdout"], "refused\n")
        own = w.python(none, "import socket\ns = socket.create_server(('127.0.0.1', 0))\n"
                             "c = socket.create_connection(s.getsockname())\nprint('up')")
        check_equal(own["stdout"], "up\n")
        check_equal(w.command(w.lease(), PYTHON, "-c", CONNECT, "tcp", port)["stdout"], "connected\n")


@as_each_user
def two_leases_do_not_see_each_other(host):
    with host.worker() as w:
        one, two = w.lease(), w.lease()
        number = long_sleep()
        w.text(one, f"echo x > /tmp/f; echo x > ~/f; echo x > /workspace/f; sleep {number} >/dev/null 2>&1 &")
        check_equal(w.text(two, "ls -A /tmp ~ /workspace; cat /proc/*/cmdline | tr '\\0' ' '").count(number), 0)
        check_equal(w.text(two, "ls /tmp ~ /workspace | grep -c '^f$' || true").strip(), "0")
        check_equal(w.text(one, "ls /tmp ~ /workspace | grep -c '^f$'").strip(), "3")


@as_each_user
def shared_paths_are_read_only_unless_writable(host):
    shared = os.path.join(host.top, "shared dir")
    os.mkdir(shared)
    with open(os.path.join(shared, "file"), "w", encoding="ascii") as file:
        file.write("content")
    if host.user is not None:
        os.chown(shared, host.user, host.user)
    binds = [{"source": shared, "target": "/data"}, f"{shared}:/rw data:rw", f"{shared}/file:/etc/one file"]
    with host.worker() as w:
        lease = w.lease({"binds": binds})
        check_equal(w.text(lease, "cat /data/file '/rw data/file' '/etc/one file'"), "content" * 3)
        check("Read-only" in w.run(lease, "echo > /data/new")["stderr"], "a read-only path was written")
        w.text(lease, "echo new > '/rw data/new'")
        check_equal(os.stat(os.path.join(shared, "new")).st_uid, os.geteuid() if host.user is None else host.user)
        w.destroy(lease)
        check_equal(sorted(os.listdir(shared)), ["file", "new"])


@as_each_user
def a_shared_path_may_be_the_working_directory(host):
    shared = os.path.join(host.top, "project")
    os.makedirs(os.path.join(shared, "sub"))
    with host.worker() as w:
        config = {"binds": [{"source": shared, "target": "/p"}], "workdir": "/p/sub"}
        lease = w.lease(config)
        check_equal(lease["metadata"]["remoteCwd"], "/p/sub")
        check_equal(w.text(lease, "pwd; ls -A /p").split(), ["/p/sub", "sub"])


@as_each_user
def the_state_directory_is_never_shared(host):
    with host.worker() as w:
        other = w.lease()
        for source in (host.top, host.state, os.path.join(host.lease_dir(other), "home")):
            error = w.call_error("environmentAcquireLease", w.params(config={"binds": [f"{source}:/x"]}))["message"]
            check_match(error, r".*binds\[0\]\.source .* cannot be shared: .*")


@as_each_user
def links_left_at_mount_points_are_refused_at_the_next_start(host):
    outside = os.path.join(host.top, "outside")
    os.mkdir(outside)
    os.chmod(outside, 0o777)
    config = {"reuseLease": True, "workdir": "/home/agent/a/b"}
    with host.worker() as w:
        lease = w.lease(config)
        w.text(lease, f"cd; mv a c; ln -s '/oldroot{outside}' a")
        w.release(lease, config)
        error = w.call_error("environmentResumeLease", {**w.params(config=config), "providerLeaseId": lease["providerLeaseId"]})["message"]
        check_match(error, ".*/home/agent/a/b cannot be shown in the sandbox: \"a\" in it is a link or a file that a command has left there.")
        check_equal(os.listdir(outside), [])
        w.destroy(lease, config)


def make_rootfs(top):
    busybox = shutil.which("busybox")
    if not busybox or b"statically linked" not in subprocess.run(["file", "-L", busybox], capture_output=True, check=False).stdout:
        raise Skip("no static busybox on this machine")
    root = os.path.join(top, "root fs")
    for name in ("bin", "etc", "home/node", "var/tmp", "workspace"):
        os.makedirs(os.path.join(root, name))
    shutil.copy(busybox, os.path.join(root, "bin/busybox"))
    for name in ("sh", "cat", "ls", "id", "mkdir", "env", "echo", "sleep"):
        os.symlink("busybox", os.path.join(root, "bin", name))
    for name, text in (("passwd", "root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n"), ("group", "root:x:0:\n"),
                       ("hosts", ""), ("resolv.conf", ""), ("mark", "rootfs\n")):
        with open(os.path.join(root, "etc", name), "w", encoding="ascii") as file:
            file.write(text)
    return root


@as_each_user
def a_rootfs_replaces_the_hosts_system(host):
    root = make_rootfs(host.top)
    with host.worker() as w:
        lease = w.lease({"rootfs": root})
        check_equal(lease["metadata"]["shellCommand"], "sh")
        check_equal(w.text(lease, "cat /etc/mark; id -un; ls /home; pwd; ls /bin/busybox; echo x > /var/tmp/f; ls /tmp").split(),
                    ["rootfs", "agent", "agent", "/workspace", "/bin/busybox", "f"])
        check_equal(w.run(lease, "ls /usr 2>/dev/null")["exitCode"], 1)
        check(w.run(lease, "echo > /etc/mark")["exitCode"] != 0, "the rootfs was written")
        check(w.text(lease, "cat /etc/hosts").endswith(f" {lease['metadata']['sandboxName']}\n"), "hosts")
        check_equal(w.realize(lease, {"remotePath": "/home/agent/x y"}) ["cwd"], "/workspace")
        w.destroy(lease)
        check_equal(sorted(os.listdir(root)), ["bin", "etc", "home", "var", "workspace"])
    host.check_empty()


# --- leases ---


@as_each_user
def a_lease_is_answered_with_all_that_the_host_needs(host):
    with host.worker() as w:
        lease = w.lease()
        name = "local-" + lease["providerLeaseId"].removeprefix("local://")[:8]
        check_equal(lease, {"providerLeaseId": lease["providerLeaseId"], "metadata": {
            "provider": "local", "shellCommand": "bash" if os.path.exists("/usr/bin/bash") or os.path.exists("/bin/bash") else "sh",
            "sandboxId": lease["providerLeaseId"].removeprefix("local://"), "sandboxName": name, "remoteCwd": "/workspace",
            "resumedLease": False, "reuseLease": False}})
        check_equal(w.release(lease), {"providerLeaseId": lease["providerLeaseId"], "state": "destroyed"})
        host.check_empty()


@with_lease()
def files_and_background_processes_are_there_for_the_next_command(w, lease):
    number = long_sleep()
    w.text(lease, f"echo a > /tmp/a; echo b > ~/b; echo c > c; sleep {number} >/dev/null 2>&1 & echo $! > /tmp/pid")
    check_equal(w.text(lease, "cat /tmp/a ~/b /workspace/c; kill -0 $(cat /tmp/pid) && echo alive").split(), ["a", "b", "c", "alive"])
    check_equal(len(processes_with(number)), 1)
    w.destroy(lease)
    check_equal(processes_with(number), [])


@as_each_user
def release_and_destroy_may_be_repeated(host):
    with host.worker() as w:
        lease = w.lease()
        proof = {"providerLeaseId": lease["providerLeaseId"], "state": "destroyed"}
        for _ in range(2):
            check_equal(w.release(lease, cancelActiveWork=True), proof)
        for _ in range(2):
            check_equal(w.destroy(lease), proof)
        check_equal(w.error_of(lease, "true"), gone(lease))
        check_equal(w.end("environmentReleaseLease", None), None)
        check_equal(w.end("environmentDestroyLease", None), None)


@as_each_user
def a_reused_lease_keeps_its_files_and_not_its_processes(host):
    config = {"reuseLease": True, "workdir": "/home/agent/work"}
    number = long_sleep()
    with host.worker() as w:
        lease = w.lease(config)
        w.text(lease, f"echo a > /tmp/a; echo b > ~/b; echo c > c; sleep {number} >/dev/null 2>&1 &")
        check_equal(w.release(lease, config), {"providerLeaseId": lease["providerLeaseId"], "state": "stopped"})
        check_equal(processes_with(number), [])
        again = w.resume(lease, config)
        check_equal(again["providerLeaseId"], lease["providerLeaseId"])
        check_equal(again["metadata"], {**lease["metadata"], "resumedLease": True})
        check_equal(w.text(again, "cat /tmp/a ~/b c").split(), ["a", "b", "c"])
        w.release(again, config)
    with host.worker() as w:
        again = w.resume(lease, config)
        check_equal(w.text(again, "cat /tmp/a ~/b c").split(), ["a", "b", "c"])
        check_equal(w.destroy(again, config)["state"], "destroyed")
        host.check_empty()


@as_each_user
def a_lease_that_is_gone_resumes_as_null(host):
    config = {"reuseLease": True}
    nothing = {"providerLeaseId": None, "metadata": {"expired": True}}
    with host.worker() as w:
        lease = w.lease(config)
        w.release(lease, config)
        remove_dir(host.lease_dir(lease))
        check_equal(w.resume(lease, config), nothing)
        check_equal(w.end("environmentResumeLease", UNKNOWN), nothing)
        check_equal(w.end("environmentResumeLease", None), nothing)
        host.check_empty()


@as_each_user
def a_lease_whose_record_is_damaged_resumes_as_null_and_is_removed_by_destroy(host):
    config = {"reuseLease": True}
    for damage in ("", "{", "[]", '{"version":99}', '{"version":1}'):
        with host.worker() as w:
            lease = w.lease(config)
            w.release(lease, config)
            with open(os.path.join(host.lease_dir(lease), "lease.json"), "w", encoding="ascii") as file:
                file.write(damage)
            check_equal(w.resume(lease, config)["providerLeaseId"], None)
            check_equal(w.destroy(lease, config)["state"], "destroyed")
            host.check_empty()


@as_each_user
def ids_from_nowhere_have_a_defined_answer(host):
    os.makedirs(host.state, exist_ok=True)
    if host.user is not None:
        os.chown(host.state, host.user, host.user)
    bait = os.path.join(host.state, "bait")
    os.makedirs(bait)
    with host.worker() as w:
        for lease_id in (UNKNOWN, "local://../../etc", "local://../bait", "local:///etc", "local://", "sandbox-1", "x" * 100_000, "\u2028",
                         "local://" + "0" * 31 + "/", "e2b://" + "0" * 32):
            lease = {"providerLeaseId": lease_id, "metadata": {"remoteCwd": "/workspace"}}
            check_equal(w.error_of(lease, "true"), gone(lease_id))
            check_equal(w.call_error("environmentRealizeWorkspace", w.params(lease, workspace={}))["message"], gone(lease_id))
            check_equal(w.resume(lease), {"providerLeaseId": None, "metadata": {"expired": True}})
            for end in (w.release, w.destroy):
                check_equal(end(lease), {"providerLeaseId": lease_id, "state": "destroyed"})
        check(os.path.isdir(bait), "a directory that is no lease was removed")
        for nothing in ({"providerLeaseId": None}, {"providerLeaseId": ""}):
            result = w.command(nothing, "true")
            check_equal((result["exitCode"], result["stderr"]), (1, "No provider lease ID available for execution."))


@as_each_user
def another_company_does_not_know_the_lease(host):
    config = {"reuseLease": True}
    with host.worker() as w:
        lease = w.lease(config)
        for _ in range(2):
            check_equal(w.error_of(lease, "true", company=OTHER_COMPANY), gone(lease))
            check_equal(w.resume(lease, config, company=OTHER_COMPANY)["providerLeaseId"], None)
            check_equal(w.destroy(lease, config, company=OTHER_COMPANY)["state"], "destroyed")
            check(os.path.isdir(host.lease_dir(lease)), "another company has destroyed the lease")
            w.release(lease, config)
        check_equal(w.resume(lease, config)["providerLeaseId"], lease["providerLeaseId"])
        check_equal(w.text(lease, "echo mine"), "mine\n")
        w.destroy(lease, config)


@as_each_user
def a_released_lease_may_be_kept_for_inspection(host):
    config = {"archiveOnRelease": True}
    number = long_sleep()
    with host.worker() as w:
        lease = w.lease(config)
        w.text(lease, f"echo kept > result; sleep {number} >/dev/null 2>&1 &")
        check_equal(w.release(lease, config)["state"], "stopped")
        check_equal(processes_with(number), [])
    with open(os.path.join(host.lease_dir(lease), "workspace/result"), encoding="ascii") as file:
        check_equal(file.read(), "kept\n")
    with host.worker() as w:
        check_equal(w.destroy(lease)["state"], "destroyed")
        host.check_empty()


@as_each_user
def shutdown_removes_what_is_not_kept(host):
    numbers = [long_sleep(), long_sleep()]
    with host.worker() as w:
        kept = w.lease({"reuseLease": True})
        lost = w.lease()
        for lease, number in zip((kept, lost), numbers):
            w.text(lease, f"mkdir -p a/b; chmod 0 a; sleep {number} >/dev/null 2>&1 &")
    for number in numbers:
        check_equal(processes_with(number), [])
    check_equal(host.entries(), [os.path.basename(host.lease_dir(kept))])
    check_equal(host.entries("trash"), [])


@as_each_user
def the_end_of_stdin_removes_what_is_not_kept(host):
    number = long_sleep()
    with host.worker() as w:
        w.text(w.lease(), f"sleep {number} >/dev/null 2>&1 &")
        w.close_stdin()
        w.wait_end()
    check_equal(processes_with(number), [])
    host.check_empty()


@as_each_user
def a_shutdown_in_the_middle_of_acquires_leaves_nothing(host):
    with host.worker() as w:
        for _ in range(8):
            w.send("environmentAcquireLease", w.params())
        w.pump(0.05)
    host.check_empty()


@as_each_user
def a_killed_worker_leaves_no_process_and_the_next_one_goes_on_with_the_lease(host):
    number = long_sleep()
    with host.worker() as w:
        lease = w.lease()
        w.text(lease, f"echo a > a; setsid sleep {number} >/dev/null 2>&1 &")
        w.send_run(lease, f"trap '' TERM; sleep {number}1")
        wait_until(lambda: len(processes_with(number)) >= 2, "both sleep")
        w.kill()
    wait_until(lambda: not processes_with(number), "all processes are gone")
    with host.worker() as w:
        result = w.run(lease, "cat a")
        check_equal((result["stdout"], result["metadata"]["cacheHit"]), ("a\n", False))
        check_equal(w.release(lease)["state"], "destroyed")
        host.check_empty()


def make_old(path):
    os.utime(path, (1_000_000_000, 1_000_000_000))


@as_each_user
def what_dead_workers_left_is_swept_and_nothing_else(host):
    with host.worker() as w:
        stale, fresh, kept, live = w.lease(), w.lease(), w.lease({"reuseLease": True}), None
        w.kill()
    for lease in (stale, kept):
        make_old(host.lease_dir(lease))
    half_made = os.path.join(host.state, "leases", "f" * 32)
    half_removed = os.path.join(host.state, "trash", "e" * 32)
    stranger = os.path.join(host.state, "leases", "notes of mine")
    for path in (half_made, half_removed, stranger):
        os.makedirs(os.path.join(path, "workspace"))
        if host.user is not None:
            os.chown(path, host.user, host.user)
            os.chown(os.path.join(path, "workspace"), host.user, host.user)
    make_old(half_made)
    with host.worker() as w:
        live = w.lease()
        wanted = sorted(os.path.basename(path) for path in (host.lease_dir(fresh), host.lease_dir(kept), host.lease_dir(live), stranger))
        wait_until(lambda: host.entries() == wanted and not host.entries("trash"), "only the stale ones are gone")
        check_equal(w.text(live, "echo here"), "here\n")


@as_each_user
def a_lease_in_use_by_another_worker_is_left_alone(host):
    config = {"reuseLease": True}
    with host.worker() as first, host.worker() as second:
        lease = first.lease(config)
        message = f"Local sandbox lease {lease['providerLeaseId']} is in use by another worker on this machine."
        check_equal(second.error_of(lease, "true"), message)
        for method in ("environmentResumeLease", "environmentReleaseLease", "environmentDestroyLease"):
            error = second.call_error(method, {**second.params(config=config), "providerLeaseId": lease["providerLeaseId"]})
            check_equal(error["message"], message)
        check_equal(first.text(lease, "echo mine"), "mine\n")
        first.release(lease, config)
        check_equal(second.resume(lease, config)["providerLeaseId"], lease["providerLeaseId"])
        second.destroy(lease, config)


@as_each_user
def an_acquire_that_fails_leaves_nothing(host):
    plain = os.path.join(host.top, "plain file")
    with open(plain, "wb"):
        pass
    for config, text in (({"rootfs": "/nonexistent/r"}, "rootfs /nonexistent/r cannot be used: No such file or directory."),
                         ({"binds": ["/nonexistent/b"]}, "binds[0].source /nonexistent/b cannot be used: No such file or directory."),
                         ({"binds": [f"{plain}:/usr/none/such"]}, "The sandbox could not be started: bwrap: Can't .*"),
                         ({"timeoutMs": 0}, "timeoutMs must be between 1 and 86400000."),
                         ({"network": 5, "workdir": 6}, "workdir must be a string."),
                         ({"stateDir": plain}, r"(make directory|state directory) .*plain file: Not a directory")):
        with host.worker() as w:
            error = w.call_error("environmentAcquireLease", w.params(config=config))
            check_equal(error["code"], -32002)
            check_match(error["message"], text if "*" in text else text.replace(".", r"\.").replace("[", r"\[").replace("]", r"\]"))
            host.check_empty()


@as_each_user
def many_leases_at_once_are_all_different(host):
    with host.worker() as w:
        keys = [w.send("environmentAcquireLease", w.params()) for _ in range(12)]
        leases = [w.result(key) for key in keys]
        check_equal(len({lease["providerLeaseId"] for lease in leases}), 12)
        keys = [w.send_run(lease, "uname -n") for lease in leases]
        for lease, key in zip(leases, keys):
            check_equal(w.result(key)["stdout"].strip(), lease["metadata"]["sandboxName"])
        for key in [w.send("environmentDestroyLease", {**w.params(), "providerLeaseId": lease["providerLeaseId"]}) for lease in leases]:
            check_equal(w.result(key)["state"], "destroyed")
        host.check_empty()


# --- the end that was asked for ---


@as_each_user
def a_lease_ends_by_itself_at_the_time_that_was_asked_for(host):
    number = long_sleep()
    with host.worker() as w:
        end = iso(3)
        lease = w.lease({"reuseLease": True}, requestedExpiresAt=end)
        check_equal(lease["expiresAt"], end)
        w.text(lease, f"sleep {number} >/dev/null 2>&1 &")
        running = w.send_run(lease, "echo started; sleep 1000")
        check_equal(w.error(running)["message"], f"Local sandbox lease {lease['providerLeaseId']} has expired.")
        wait_until(lambda: not processes_with(number), "its processes are gone")
        wait_until(lambda: not host.entries() and not host.entries("trash"), "its directory is gone")
        check_equal(w.error_of(lease, "true"), gone(lease))
        check_equal(w.resume(lease, {"reuseLease": True})["providerLeaseId"], None)
        check_equal(w.destroy(lease)["state"], "destroyed")


@as_each_user
def an_end_in_the_past_is_refused(host):
    with host.worker() as w:
        error = w.call_error("environmentAcquireLease", w.params(requestedExpiresAt="2020-01-01T00:00:00Z"))
        check_equal(error["message"], "requestedExpiresAt 2020-01-01T00:00:00Z is in the past.")
        host.check_empty()


@as_each_user
def a_later_worker_honours_the_end(host):
    config = {"reuseLease": True}
    with host.worker() as w:
        soon, later = w.lease(config, requestedExpiresAt=iso(1)), w.lease(config, requestedExpiresAt=iso(1000))
        w.kill()
    path = os.path.join(host.lease_dir(soon), "lease.json")
    wait_until(lambda: not os.path.exists(path) or json.loads(open(path, encoding="ascii").read())["expiresAt"] < iso(0), "it is over")
    with host.worker() as w:
        check_equal(w.resume(soon, config), {"providerLeaseId": None, "metadata": {"expired": True}})
        wait_until(lambda: host.entries() == [os.path.basename(host.lease_dir(later))], "the sweep has removed it")
        again = w.resume(later, config)
        check_equal(again["expiresAt"], later["expiresAt"])
        w.destroy(later, config)


# --- workspace ---


@with_lease()
def the_working_directory_is_made_inside_the_sandbox(w, lease):
    check_equal(w.realize(lease), {"cwd": "/workspace", "metadata": {"provider": "local", "remoteCwd": "/workspace"}})
    other = {**lease, "metadata": {**lease["metadata"], "remoteCwd": "/home/agent/a b/c"}}
    check_equal(w.realize(other)["cwd"], "/home/agent/a b/c")
    check_equal(w.text(lease, "pwd", cwd="/home/agent/a b/c"), "/home/agent/a b/c\n")
    bare = {"providerLeaseId": lease["providerLeaseId"]}
    check_equal(w.realize(bare, {"localPath": "/srv/host/project"})["cwd"], "/workspace")
    check_equal(w.realize(bare, {"remotePath": "/tmp/remote"})["cwd"], "/tmp/remote")
    check_equal(w.text(lease, "pwd", cwd="/tmp/remote"), "/tmp/remote\n")


@with_lease()
def links_planted_inside_do_not_lead_outside(w, lease):
    target = os.path.join(w.host.top, "outside")
    w.text(lease, f"ln -s '{w.host.top}' link; ln -s /usr usr")
    for cwd in ("/workspace/link/outside", "/workspace/usr/x", "/usr/x"):
        planted = {**lease, "metadata": {**lease["metadata"], "remoteCwd": cwd}}
        error = w.call_error("environmentRealizeWorkspace", w.params(planted, workspace={}))["message"]
        check_equal(error, f"The working directory {cwd} cannot be made in the sandbox: mkdir failed")
    check(not os.path.exists(target), "a directory was made outside")
    relative = {**lease, "metadata": {**lease["metadata"], "remoteCwd": "work"}}
    check_equal(w.call_error("environmentRealizeWorkspace", w.params(relative, workspace={}))["message"],
                "The working directory must be an absolute path, not work.")


# --- execute ---


@with_lease({"env": {"A": "config", "B": "config", "HOME": "/workspace"}})
def the_environment_is_ours_then_the_configs_then_the_callers(w, lease):
    config = {"env": {"A": "config", "B": "config", "C D": "", "HOME": "/workspace"}}
    result = w.command(lease, "env", config=config, env={"B": "caller", "E": "x=\n'\"$", "N": 5, "O": None})
    text = result["stdout"]
    lines = set(text.split("\n"))
    check({"A=config", "B=caller", "HOME=/workspace", "USER=agent", "LANG=C.UTF-8", "TMPDIR=/tmp", "E=x="} <= lines, text)
    check(not any(line.startswith(("N=", "O=", "C D")) for line in lines), text)
    check("E=x=\n'\"$" in text, text)


@with_lease()
def bad_environment_keys_are_refused(w, lease):
    for key in ("BAD-KEY", "", "1A", "A B", "A=B", "É"):
        check_equal(w.error_of(lease, "touch", "/workspace/ran", env={key: "x"}), f"Invalid sandbox environment variable key: {key}")
    check_equal(w.text(lease, "ls -A"), "")


@with_lease()
def arguments_and_output_pass_unchanged(w, lease):
    args = ["", " a  b ", "'\"\\$x`", "ü\u2028😀", "-n", "*"]
    result = w.command(lease, PYTHON, "-c", "import sys, os\nos.write(1, '|'.join(sys.argv[1:]).encode())\nos.write(2, b'\\xff\\x00err')", *args)
    check_equal(result["stdout"], "|".join(args))
    check_equal(result["stderr"], "\ufffd\x00err")
    check_equal((result["exitCode"], result["signal"], result["timedOut"]), (0, None, False))


@with_lease()
def exit_codes_and_signals_are_told(w, lease):
    check_equal(w.run(lease, "exit 42")["exitCode"], 42)
    result = w.run(lease, "kill -TERM $$")
    check_equal((result["exitCode"], result["signal"]), (None, "SIGTERM"))


@with_lease()
def stdin_is_streamed_and_empty_without_one(w, lease):
    data = "0123456789abcdef" * (4 << 16)
    check_equal(w.command(lease, "wc", "-c", stdin=data)["stdout"].strip(), str(len(data)))
    check_equal(w.command(lease, "cat", stdin=data)["stdout"], data)
    check_equal(w.command(lease, "cat")["stdout"], "")
    check_equal(w.command(lease, "cat", stdin="")["stdout"], "")
    check_equal(w.command(lease, "true", stdin=data)["exitCode"], 0)


@with_lease()
def output_is_sent_while_the_command_runs(w, lease):
    key = w.send_run(lease, "echo out; echo err >&2; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo end")
    w.until(lambda: w.live_text(key) == "out\n" and w.live_text(key, "stderr") == "err\n", "live output")
    w.text(lease, "touch /tmp/go")
    check_equal(w.result(key)["stdout"], "out\nend\n")


@with_lease()
def commands_that_cannot_start_end_as_in_a_shell(w, lease):
    w.text(lease, "echo x > file; printf '#!/none/such\\n' > script; printf '\\177ELFx' > elf; chmod +x script elf")
    for command, code, text in (("no-such-command", 127, "no-such-command: command not found\n"),
                                ("/no/such", 127, "/no/such: No such file or directory\n"),
                                ("./no such", 127, "./no such: No such file or directory\n"),
                                ("./script", 127, "./script: No such file or directory\n"),
                                ("./file/x", 127, "./file/x: Not a directory\n"),
                                ("./file", 126, "./file: Permission denied\n"),
                                ("/tmp", 126, "/tmp: Permission denied\n"),
                                ("./elf", 126, "./elf: Exec format error\n"),
                                ("", 127, ": command not found\n")):
        result = w.command(lease, command)
        check_equal((result["exitCode"], result["stderr"], result["stdout"], result["timedOut"]), (code, text, "", False), command)


@with_lease()
def a_working_directory_that_is_missing_is_named(w, lease):
    check_equal(w.error_of(lease, "true", cwd="/no/such"),
                "Working directory /no/such cannot be entered in the sandbox: No such file or directory.")
    check_equal(w.error_of(lease, "true", cwd="/etc/passwd"),
                "Working directory /etc/passwd cannot be entered in the sandbox: Not a directory.")
    check_equal(w.text(lease, "pwd"), "/workspace\n")
    check_equal(w.text(lease, "pwd", cwd=""), "/workspace\n")


@with_lease()
def programs_are_looked_up_in_the_callers_path(w, lease):
    w.text(lease, "mkdir ~/.local ~/.local/bin other; for d in ~/.local/bin other; do printf '#!/bin/sh\\necho '$d > $d/tool; chmod +x $d/tool; done")
    check_equal(w.command(lease, "tool")["stdout"], "/home/agent/.local/bin\n")
    check_equal(w.command(lease, "tool", env={"PATH": "/workspace/other"})["stdout"], "other\n")
    check_equal(w.command(lease, "tool", env={"PATH": "/none:/bin"})["exitCode"], 127)


@with_lease()
def a_timeout_ends_the_whole_tree_and_nothing_else(w, lease):
    bystander, stubborn = long_sleep(), long_sleep()
    w.text(lease, f"sleep {bystander} >/dev/null 2>&1 &")
    script = f"""
        trap '' TERM INT HUP
        echo before; echo problem >&2
        (setsid sh -c 'trap "" TERM; sleep {stubborn}1' &)
        setsid setsid sleep {stubborn}2 &
        sleep {stubborn}3; sleep {stubborn}4"""
    result = w.run(lease, script, timeoutMs=700)
    check_equal((result["exitCode"], result["timedOut"], result["stdout"], result["stderr"]), (None, True, "before\n", "problem\n"))
    wait_until(lambda: not processes_with(stubborn), "the tree is gone")
    check_equal(len(processes_with(bystander)), 1)
    check_equal(w.text(lease, "echo on"), "on\n")


@with_lease()
def a_command_may_tidy_up_when_its_time_is_over(w, lease):
    result = w.run(lease, "trap 'echo tidy; exit 3' TERM; while :; do sleep 0.05; done", timeoutMs=300)
    check_equal((result["timedOut"], result["exitCode"], result["stdout"]), (True, None, "tidy\n"))


@with_lease()
def without_a_timeout_of_its_own_a_command_has_the_configs(w, lease):
    for timeout in ({}, {"timeoutMs": 0}, {"timeoutMs": -5}, {"timeoutMs": 0.5}):
        result = w.run(lease, "echo x; exec sleep 1000", config={"timeoutMs": 300}, **timeout)
        check_equal((result["timedOut"], result["stdout"]), (True, "x\n"), str(timeout))


@with_lease()
def background_children_that_hold_the_pipes_do_not_hold_the_answer(w, lease):
    number = long_sleep()
    result = w.run(lease, f"echo now; sleep {number} & exit 4", timeoutMs=60000)
    check_equal((result["exitCode"], result["timedOut"], result["stdout"]), (4, False, "now\n"))
    check_equal(len(processes_with(number)), 1)
    w.text(lease, f"(while :; do echo noise; sleep 0.01; done) & sleep 0.1; true")
    check_equal(w.text(lease, "echo on"), "on\n")


@as_each_user
def release_ends_what_runs(host):
    number = long_sleep()
    with host.worker() as w:
        lease = w.lease()
        key = w.send_run(lease, f"trap '' TERM; echo up; sleep {number}")
        w.until(lambda: w.live_text(key) == "up\n", "it runs")
        check_equal(w.release(lease, cancelActiveWork=True)["state"], "destroyed")
        check_equal(w.error(key)["message"], "The command was ended: its sandbox lease was released.")
        check_equal(processes_with(number), [])
        host.check_empty()


@with_lease()
def many_commands_run_at_once(w, lease):
    keys = [w.send_run(lease, f"echo {number}; exit {number % 7}") for number in range(150)]
    for number, key in enumerate(keys):
        result = w.result(key)
        check_equal((result["stdout"], result["exitCode"]), (f"{number}\n", number % 7))


@with_lease()
def the_time_in_the_sandbox_and_before_it_is_told(w, lease):
    metadata = w.run(lease, "sleep 0.2")["metadata"]
    check_equal(sorted(metadata), ["cacheHit", "durationMs", "getDurationMs"])
    check(metadata["durationMs"] >= 200 and metadata["getDurationMs"] >= 0 and metadata["cacheHit"] is True, str(metadata))


@with_lease()
def a_sandbox_that_died_is_started_again(w, lease):
    w.text(lease, "echo kept > f")
    key = w.send_run(lease, "echo up; sleep 1000")
    w.until(lambda: w.live_text(key) == "up\n", "it runs")
    for pid, _, command in descendants(w.pid):
        if "bwrap" in command:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    check_match(w.error(key)["message"], f"The command was lost in local sandbox {ID}: .*")
    result = w.run(lease, "cat f")
    check_equal((result["stdout"], result["metadata"]["cacheHit"]), ("kept\n", False))


@with_lease()
def a_login_environment_is_read_only_where_the_config_asks_for_it(w, lease):
    w.text(lease, "echo 'export FROM_PROFILE=yes BOTH=profile; echo noise; echo noise >&2' > ~/.profile")
    script = "echo \"$FROM_PROFILE,$BOTH,$0,$1\""
    plain = w.command(lease, "sh", "-c", script, "a b", "c'd", env={"BOTH": "caller"})
    check_equal(plain["stdout"], ",caller,a b,c'd\n")
    login = w.command(lease, "sh", "-c", script, "a b", "c'd", env={"BOTH": "caller"}, config={"loginShell": True})
    check_equal((login["stdout"], login["stderr"]), ("yes,caller,a b,c'd\n", ""))
    check_equal(w.command(lease, "cat", stdin="in", config={"loginShell": True})["stdout"], "in")
    check_equal(w.command(lease, "no-such", config={"loginShell": True})["exitCode"], 127)


# --- limits ---


def limited_by_groups(host):
    return host.user is None and os.geteuid() == 0 and os.access("/sys/fs/cgroup", os.W_OK)


ALLOCATE = "import sys\nblocks = []\ntry:\n    for i in range(64):\n        blocks.append(bytearray(b'x' * (8 << 20)))\nexcept MemoryError:\n    sys.exit(9)\n"


@as_each_user
def memory_is_limited(host):
    config = {"memoryMb": 128}
    with host.worker() as w:
        lease = w.lease(config)
        check_equal(w.text(lease, "echo fine"), "fine\n")
        check_equal(w.python(w.lease(), ALLOCATE)["exitCode"], 0)
        result = w.python(lease, ALLOCATE)
        check(result["exitCode"] == 9 or result["signal"] == "SIGKILL", str(result))
        check_equal(w.text(lease, "echo still"), "still\n")
    check_equal(control_groups(), [])


FORK = "import os, sys, time\ncount = 0\ntry:\n    for i in range(200):\n        if os.fork() == 0:\n            time.sleep(1000)\n" \
       "            os._exit(0)\n        count += 1\nexcept OSError:\n    pass\nprint(count, flush=True)\nos.killpg(0, 9)\n"


@as_each_user
def processes_are_limited(host):
    config = {"maxProcesses": 30}
    with host.worker() as w:
        report = w.call("environmentProbe", w.params(config=config))
        if "maxProcesses is not enforced" in json.dumps(report):
            raise Skip("this machine offers root no limit of processes")
        lease = w.lease(config)
        count = int(w.python(lease, FORK)["stdout"])
        check(10 < count < 30, f"{count} processes")
        wait_until(lambda: w.run(lease, "true")["exitCode"] == 0, "the sandbox is usable again")
        w.send_run(lease, "bomb() { bomb | bomb & }; bomb; sleep 0.3; bomb; sleep 1000")
        w.pump(0.5)
        check_equal(w.destroy(lease, config)["state"], "destroyed")
        host.check_empty()
    check_equal(control_groups(), [])


@as_each_user
def processor_time_is_limited_for_each_command(host):
    config = {"cpuSeconds": 1}
    with host.worker() as w:
        lease = w.lease(config)
        result = w.run(lease, "while :; do :; done", config=config)
        check(result["signal"] in ("SIGXCPU", "SIGKILL"), str(result))
        check_equal(w.command(lease, "printf", "%s|", "a b", "", config=config)["stdout"], "a b||")
        check_equal(w.command(lease, "no-such", config=config)["exitCode"], 127)


@test
def the_share_of_processors_is_set_where_there_is_a_group():
    with Host() as host, host.worker() as w:
        config = {"cpus": 0.5, "maxProcesses": 100}
        lease = w.lease(config)
        groups = control_groups()
        if not groups:
            raise Skip("no control groups here")
        values = []
        for path in groups:
            for name in ("cpu.max", "cpu.cfs_quota_us"):
                with contextlib.suppress(FileNotFoundError), open(os.path.join(path, name), encoding="ascii") as file:
                    values.append(file.read().split()[0])
        check_equal(values, ["50000"])
        w.destroy(lease, config)
        check_equal(control_groups(), [])


@as_each_user
def limits_hold_in_a_sandbox_that_was_started_again(host):
    config = {"memoryMb": 128, "reuseLease": True}
    with host.worker() as w:
        lease = w.lease(config)
        w.kill()
    with host.worker() as w:
        # The host gives the lease's metadata as config; the lease itself remembers what it looks like.
        result = w.python(lease, ALLOCATE)
        check(result["exitCode"] == 9 or result["signal"] == "SIGKILL", str(result))
        w.destroy(lease)
    wait_until(lambda: not control_groups(), "the groups of both are gone")


# --- where the state lies ---


@as_each_user
def the_state_directory_is_private_and_found_without_a_home(host):
    home = os.path.join(host.top, "ho me")
    os.mkdir(home)
    if host.user is not None:
        os.chown(home, host.user, host.user)
    path = {"PATH": os.environ.get("PATH", os.defpath)}
    for env, wanted in (({"HOME": home}, f"{home}/.local/state/paperclip-sandbox-worker"),
                        ({"HOME": "/nonexistent", "XDG_STATE_HOME": f"{home}/xdg"}, f"{home}/xdg/paperclip-sandbox-worker")):
        with host.worker(env={**path, **env}) as w:
            lease = w.lease({"stateDir": None})
            check_equal(lease["metadata"]["stateDir"], wanted)
            check_equal(stat.S_IMODE(os.stat(wanted).st_mode), 0o700)
            w.destroy(lease, {"stateDir": None})
    uid = os.geteuid() if host.user is None else host.user
    places = [f"{top}/paperclip-sandbox-worker-{uid}" for top in ("/var/tmp", "/tmp")]
    there_before = [path for path in places if os.path.exists(path)]
    with host.worker(env={}) as w:
        lease = w.lease({"stateDir": None})
        check_match(lease["metadata"]["stateDir"], rf"(/var/tmp|/tmp)/paperclip-sandbox-worker-{uid}")
        check_equal(w.text(lease, "echo $HOME", config={"stateDir": None}), "/home/agent\n")
        w.destroy(lease, {"stateDir": None})
    for path in places:
        if path not in there_before:
            remove_dir(path)


@as_each_user
def a_state_directory_that_others_could_change_is_refused(host):
    open_to_all = os.path.join(host.top, "open")
    linked = os.path.join(host.top, "link")
    os.mkdir(open_to_all)
    os.chmod(open_to_all, 0o777)
    os.symlink(open_to_all, linked)
    if host.user is not None:
        os.chown(open_to_all, host.user, host.user)
    with host.worker() as w:
        for path, text in ((open_to_all, "can be written by other users"), (linked, "Not a directory|symbolic links")):
            error = w.call_error("environmentAcquireLease", w.params(config={"stateDir": path}))["message"]
            check_match(error, f".*({text}).*")
        if host.user is not None:
            foreign = temp_dir("psw foreign ")
            error = w.call_error("environmentAcquireLease", w.params(config={"stateDir": foreign}))["message"]
            remove_dir(foreign)
            check_match(error, r".*(belongs to another user|Permission denied).*")
        check_equal(os.listdir(open_to_all), [])


@as_each_user
def big_and_awkward_trees_are_removed(host):
    with host.worker() as w:
        lease = w.lease()
        w.text(lease, "mkdir -p d/e; touch 'd/new\nline'; chmod 500 d/e d; ln -s / root; mkfifo fifo; "
                      "i=0; while [ $i -lt 60 ]; do mkdir -p t$i && (cd t$i && seq 50 | xargs touch); i=$((i+1)); done")
        w.python(lease, "import os\nfor i in range(1200):\n    os.mkdir('deep'); os.chdir('deep')\n")
        check_equal(w.destroy(lease)["state"], "destroyed")
        host.check_empty()


@as_each_user
def a_tree_that_is_too_big_for_the_shutdown_goes_with_the_next_worker(host):
    with host.worker() as w:
        lease = w.lease()
        code = "import os\nfor d in range(80):\n    os.mkdir(f'd{d}')\n    for f in range(100):\n        os.mknod(f'd{d}/{f}')\n"
        check_equal(w.python(lease, code, timeoutMs=300000)["exitCode"], 0)
    check_equal(host.entries(), [])
    with host.worker() as w:
        w.lease()
        wait_until(lambda: not host.entries("trash"), "the rest is gone")


@as_each_user
def health_tells_of_the_leases(host):
    with host.worker() as w:
        lease = w.lease()
        details = json.dumps(w.call("health", {})["details"])
        check('"runningSandboxes": 1' in details, details)
        w.destroy(lease)


if __name__ == "__main__":
    main()
