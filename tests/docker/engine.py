#!/usr/bin/python3
"""Runs a test with a real Podman service beside it: engine.py PYTHON TEST ARGUMENT...

The service has mounts, control groups, processes and network of its own (namespaces), a storage of its own, and one image of busybox,
localhost/sandbox:latest. The test finds its folder in $PSW_DOCKER: api.sock, control (see inside.py). At the end the namespaces are
killed, and with them every container; the control groups and the folder are removed.

An ordinary user gets a rootless one, with a single user id and without limits ($PSW_DOCKER/rootless is there then). Where Podman cannot run,
the test is skipped with a line that says so.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
GROUP = "psw-docker-"
NEEDED = ("podman", "crun", "busybox", "unshare", "nsenter", "ip", "mount", "tar")
START_S = 60
GONE_S = 10


class Unavailable(Exception):
    pass


# --- control groups ---


def v1_folders():
    """The folder of this process in each hierarchy of version 1."""
    mounts = {}
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            left, right = line.split(" - ")
            if right.split()[0] == "cgroup":
                for option in right.split()[2].split(","):
                    mounts[option] = left.split()[4].replace("\\040", " ")
    folders = set()
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            _, names, path = line.rstrip("\n").split(":", 2)
            for name in filter(None, names.split(",")):
                if name in mounts:
                    folders.add(os.path.realpath(mounts[name] + "/" + path if os.path.isdir(mounts[name] + "/" + path) else mounts[name]))
    return sorted(folders)


def kind_of_cgroups():
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        with open("/sys/fs/cgroup/cgroup.controllers", encoding="ascii") as file:
            return "as-is" if file.read().strip() else "none"
    return "v1" if v1_folders() else "none"


def copy_cpuset(parent, group):
    for name in ("cpuset.cpus", "cpuset.mems"):
        if os.path.exists(f"{parent}/{name}"):
            with open(f"{parent}/{name}", encoding="ascii") as file:
                value = file.read()
            with open(f"{group}/{name}", "w", encoding="ascii") as file:
                file.write(value)


def make_groups(name):
    groups = []
    for folder in v1_folders():
        group = f"{folder}/{name}"
        os.makedirs(group, exist_ok=True)
        copy_cpuset(folder, group)
        groups.append(group)
    return groups


def remove_group(group):
    """Its processes have been killed, and may take a moment to be gone."""
    end = time.monotonic() + GONE_S
    while os.path.exists(group) and time.monotonic() < end:
        for path, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)
        if os.path.exists(group):
            time.sleep(0.02)


def sweep():
    """What a test that was killed has left."""
    for folder in v1_folders():
        for name in os.listdir(folder):
            pid = name.removeprefix(GROUP)
            if name.startswith(GROUP) and not os.path.exists(f"/proc/{pid}"):
                remove_group(f"{folder}/{name}")


# --- the engine ---


class Engine:
    def __init__(self):
        missing = [name for name in NEEDED if not shutil.which(name)]
        if missing:
            raise Unavailable(f"not installed: {', '.join(missing)}")
        self.folder = tempfile.mkdtemp(prefix="psw docker ", dir=os.environ.get("PSW_TEST_TMP", "/tmp"))
        os.chmod(self.folder, 0o755)
        self.groups = []
        self.process = None

    def start(self):
        kind = kind_of_cgroups() if os.geteuid() == 0 else "rootless"
        if kind == "v1":
            sweep()
            self.groups = make_groups(f"{GROUP}{os.getpid()}")

        def enter():
            for group in self.groups:
                with open(f"{group}/cgroup.procs", "w", encoding="ascii") as file:
                    file.write("0")

        log = open(f"{self.folder}/start.log", "wb")
        self.process = subprocess.Popen(
            ["unshare", *(["--user", "--map-root-user"] if kind == "rootless" else []), "--mount", "--propagation", "private", "--cgroup", "--net",
             "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL", sys.executable, "-B",
             f"{HERE}/inside.py", self.folder, kind],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, preexec_fn=enter, text=True, cwd=self.folder,
            env={"PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"})
        signal.signal(signal.SIGALRM, lambda *_: self.process.kill())
        signal.alarm(START_S)
        line = self.process.stdout.readline()
        signal.alarm(0)
        if line.strip() != "ready":
            self.process.wait()
            with open(f"{self.folder}/start.log", encoding="utf-8", errors="replace") as file:
                lines = file.read().strip().splitlines()
            raise Unavailable(lines[-1] if lines else "it did not start")

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        for group in self.groups:
            remove_group(group)
        shutil.rmtree(self.folder, ignore_errors=True)


def main():
    engine = None
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(130))
    try:
        engine = Engine()
        engine.start()
        status = subprocess.run(sys.argv[1:], check=False, env={**os.environ, "PSW_DOCKER": engine.folder}).returncode
    except Unavailable as reason:
        print(f"1..0 # SKIP PODMAN CANNOT RUN HERE: {reason}")
        print(f"SKIPPED: {os.path.basename(sys.argv[2])}: PODMAN CANNOT RUN HERE: {reason}", file=sys.stderr)
        status = 0
    finally:
        if engine:
            engine.stop()
    sys.exit(status)


main()
