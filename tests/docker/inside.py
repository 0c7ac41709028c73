#!/usr/bin/python3
"""PID 1 of the namespaces that engine.py makes: sets up what Podman needs, and starts and kills its service as it is told.

Run as root: inside.py DIRECTORY CGROUPS, with CGROUPS "v1" (its hierarchies are mounted anew), "as-is", "none" or "rootless" (root is an
ordinary user in a namespace with this one id). Listens on DIRECTORY/control;
a connection sends one line, "start" or "kill", and gets "ok". Podman itself keeps no daemon: containers outlive its service. "registry"
starts a registry of images at 127.0.0.1:5000 of the namespace (registry.py).
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

READY_S = 20
CONTAINERS_CONF = """[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
netns = "none"
init_path = "{init}"
{cgroups}
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
[network]
"""
POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}\n'
REGISTRIES = """unqualified-search-registries = []
[[registry]]
location = "127.0.0.1:5000"
insecure = true
"""


def run(*argv, **more):
    return subprocess.run(argv, check=True, **more)


def hierarchies():
    """The v1 hierarchies of this process, as mount(8) names them."""
    with open("/proc/self/cgroup", encoding="ascii") as file:
        names = [line.split(":")[1] for line in file]
    return [name for name in names if name]


def mount_v1():
    """The hierarchies of version 1 alone: beside a "unified" folder Podman takes the machine for one of version 2."""
    run("mount", "-t", "tmpfs", "-o", "mode=755", "cgroups", "/sys/fs/cgroup")
    for names in hierarchies():
        folder = "/sys/fs/cgroup/" + names.removeprefix("name=")
        os.makedirs(folder)
        run("mount", "-t", "cgroup", "-o", "none," + names if names.startswith("name=") else names, "cgroup", folder)


def be_rootless(folder):
    """As podman's own re-execution in a user namespace leaves it."""
    run("mount", "-t", "tmpfs", "-o", "mode=755", "cgroups", "/sys/fs/cgroup")
    run("mount", "-t", "tmpfs", "-o", "mode=755", "run", "/run")
    write(f"{folder}/storage.conf", f"""[storage]
driver = "vfs"
runroot = "{folder}/run"
graphroot = "{folder}/root"
[storage.options.vfs]
ignore_chown_errors = "true"
""")
    os.environ.update(CONTAINERS_STORAGE_CONF=f"{folder}/storage.conf", XDG_RUNTIME_DIR=folder, _CONTAINERS_USERNS_CONFIGURED="done",
                      _CONTAINERS_ROOTLESS_UID="1", _CONTAINERS_ROOTLESS_GID="1")
    write(f"{folder}/rootless", "")


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def configure(folder, cgroups):
    os.makedirs("/etc/containers", exist_ok=True)
    run("mount", "-t", "tmpfs", "shm", "/dev/shm")  # Podman's locks
    run("mount", "-t", "tmpfs", "-o", "mode=755", "containers", "/etc/containers")
    write("/etc/containers/policy.json", POLICY)
    write("/etc/containers/registries.conf", REGISTRIES)
    os.makedirs("/var/lib/cni", exist_ok=True)
    run("mount", "-t", "tmpfs", "cni", "/var/lib/cni")
    init = shutil.which("catatonit") or "/usr/libexec/podman/catatonit"
    write(f"{folder}/containers.conf", CONTAINERS_CONF.format(init=init, cgroups=cgroups))
    os.environ["CONTAINERS_CONF"] = f"{folder}/containers.conf"
    os.environ["HOME"] = folder
    run("ip", "link", "set", "lo", "up")


def podman(folder, *argv):
    return ["podman", "--root", f"{folder}/root", "--runroot", f"{folder}/run", "--tmpdir", f"{folder}/tmp", "--storage-driver=vfs", *argv]


def import_image(folder):
    """A system of busybox alone."""
    root = f"{folder}/image"
    os.makedirs(f"{root}/bin")
    for name in ("etc", "proc", "sys", "dev", "tmp", "root", "home/agent"):
        os.makedirs(f"{root}/{name}")
    os.chmod(f"{root}/tmp", 0o1777)
    with contextlib.suppress(OSError):  # rootless: there is one user
        os.chown(f"{root}/home/agent", 1000, 1000)
    shutil.copy(shutil.which("busybox"), f"{root}/bin/busybox")
    names = subprocess.run([f"{root}/bin/busybox", "--list"], check=True, capture_output=True, text=True).stdout.split()
    for name in names:
        if name != "busybox":
            os.symlink("busybox", f"{root}/bin/{name}")
    write(f"{root}/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nagent:x:1000:1000::/home/agent:/bin/sh\n")
    write(f"{root}/etc/group", "root:x:0:\nagent:x:1000:\n")
    os.symlink("ls", f"{root}/bin/no-shell")
    run("tar", "-C", root, "-cf", f"{folder}/image.tar", ".")
    for tag, leave in (("latest", ()), ("shell-less", ("sh", "ash"))):
        for name in leave:
            os.unlink(f"{root}/bin/{name}")
        tar = subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE)
        run(*podman(folder, "import", "-", f"localhost/sandbox:{tag}"), stdin=tar.stdout, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if tar.wait() != 0:
            raise SystemExit("tar failed")
    shutil.rmtree(root)


class Service:
    def __init__(self, folder):
        self.folder = folder
        self.path = f"{folder}/api.sock"
        self.process = None

    def answers(self):
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(self.path)
                client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b"200" in client.recv(64)
            except OSError:
                return False

    def start(self):
        if os.path.exists(self.path):
            os.unlink(self.path)
        log = open(f"{self.folder}/service.log", "ab")
        self.process = subprocess.Popen(podman(self.folder, "system", "service", "--time", "0", f"unix://{self.path}"), stdin=subprocess.DEVNULL,
                                        stdout=log, stderr=log)
        end = time.monotonic() + READY_S
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit("podman's service does not answer")
            time.sleep(0.01)
        os.chmod(self.path, 0o666)

    def kill(self):
        self.process.kill()
        self.process.wait()


def start_registry(folder):
    here = os.path.dirname(os.path.abspath(__file__))
    registry = subprocess.Popen([sys.executable, "-B", f"{here}/registry.py", folder], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    registry.stdout.readline()


def reap(service):
    """Orphans of containers' monitors are ours."""
    while True:
        try:
            info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if info is None or info.si_pid == service.process.pid:
            return
        os.waitpid(info.si_pid, os.WNOHANG)


def main():
    folder, cgroups = sys.argv[1:]
    if cgroups == "v1":
        mount_v1()
    if cgroups == "rootless":
        be_rootless(folder)
    configure(folder, 'cgroups = "disabled"' if cgroups in ("none", "rootless") else "")
    import_image(folder)
    service = Service(folder)
    service.start()
    signal.signal(signal.SIGCHLD, lambda *_: reap(service))
    orders = {"start": service.start, "kill": service.kill, "registry": lambda: start_registry(folder)}
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(f"{folder}/control")
        control.listen()
        print("ready", flush=True)
        while True:
            client, _ = control.accept()
            with client:
                orders[client.makefile().readline().strip()]()
                client.sendall(b"ok\n")


main()
