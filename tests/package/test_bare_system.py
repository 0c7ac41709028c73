#!/usr/bin/python3
"""The packed plugin in a system that has the C library and Node and little else: Debian's minimal installation (debootstrap).

test_bare_system.py BUILD-DIRECTORY [PART-OF-A-TEST'S-NAME]
"""

import concurrent.futures
import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "worker"))

from harness import Skip, Worker, check, check_equal, check_match, main, remove_dir, test  # noqa: E402
from node24 import find_node24  # noqa: E402
from packing import binary_of, pack, skip_all  # noqa: E402

RELEASE = "bookworm"
HOST_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "NODE_PATH": "", "PAPERCLIP_PLUGIN_ID": "1",
                    "NODE_ENV": "production", "TZ": "UTC", "PAPERCLIP_DEPLOYMENT_MODE": "local_trusted",
                    "PAPERCLIP_DEPLOYMENT_EXPOSURE": ""}
# In a mount namespace of its own, so that nothing stays mounted: /proc as a container has it, the root directory, the plugin.
ENTER = 'mount -t proc proc "$1/proc" && exec chroot "$1" node /opt/plugin/worker.cjs'


class Bare:
    root = None


def archive():
    """The Debian archive that this machine's apt uses."""
    fields = "$(ORIGIN)|$(CREATED_BY)|$(CODENAME)|$(REPO_URI)"
    lines = subprocess.run(["apt-get", "indextargets", "--format", fields], stdout=subprocess.PIPE, check=True).stdout.decode()
    for line in lines.splitlines():
        origin, kind, release, address = line.split("|", 3)
        if (origin, kind, release) == ("Debian", "Packages", RELEASE):
            return address
    raise Skip(f"apt here knows no archive of Debian {RELEASE}")


def make_root(root):
    """Debian's minimal system at root, made once. debootstrap takes no blank in the path, so it is made elsewhere and moved."""
    if os.path.exists(os.path.join(root, "etc", "debian_version")):
        return
    work = tempfile.mkdtemp(prefix="psw-bare-", dir="/var/tmp")
    try:
        run = subprocess.run(["debootstrap", "--variant=minbase", RELEASE, os.path.join(work, "root"), archive()],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if run.returncode != 0:
            raise Skip("debootstrap: " + run.stdout.decode("utf-8", "replace").strip().split("\n")[-1])
        remove_dir(root)
        subprocess.run(["mv", os.path.join(work, "root"), root], check=True)
    finally:
        remove_dir(work)


def prepare(build_root):
    if os.geteuid() != 0:
        raise Skip("chroot needs root")
    if shutil.which("debootstrap") is None:
        raise Skip("debootstrap is not installed")
    if subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
        raise Skip("mount namespaces are not allowed here")
    package = pack(build_root)
    node = find_node24(os.path.join(build_root, "node24"))
    Bare.root = os.path.join(build_root, f"bare-{RELEASE}")
    make_root(Bare.root)
    shutil.copy(node, os.path.join(Bare.root, "usr/local/bin/node"))
    remove_dir(os.path.join(Bare.root, "opt/plugin"))
    shutil.copytree(package, os.path.join(Bare.root, "opt/plugin"))
    return os.path.join(Bare.root, "opt/plugin", os.path.relpath(binary_of(package), package))


@contextlib.contextmanager
def worker_in_bare_system(transport):
    with Worker(transport, binary=shutil.which("unshare"), argv=["--mount", "sh", "-c", ENTER, "sh", Bare.root],
                env=HOST_ENVIRONMENT) as worker:
        yield worker
    check_equal(os.listdir(os.path.join(Bare.root, "tmp")), [], "what is left in the system's /tmp")


@test
def the_system_is_bare():
    for name in ("libuv.so.1", "libjansson.so.4", "libcurl.so.4", "libssl.so.3", "libnghttp2.so.14"):
        check(not os.path.exists(os.path.join(Bare.root, f"usr/lib/{os.uname().machine}-linux-gnu", name)), f"{name} is not there")


@test
def a_whole_job_runs_over_sockets_and_pipes():
    for transport in ("socket", "pipe"):
        with worker_in_bare_system(transport) as worker:
            check_equal(worker.initialize()["ok"], True)
            check_equal(worker.call("health")["status"], "ok")
            lease = worker.acquire()
            check_match(lease["metadata"]["remoteCwd"], "/tmp/paperclip-fake-sandbox-[A-Za-z0-9]{6}/workspace")
            result = worker.sh("cat; pwd; cat /etc/debian_version >&2", lease=lease, cwd=lease["metadata"]["remoteCwd"], stdin="hä\n")
            check_equal((result["exitCode"], result["stdout"]), (0, f"hä\n{lease['metadata']['remoteCwd']}\n"))
            check_match(result["stderr"], r"12\.\d+\n")
            released = worker.call("environmentReleaseLease", {**worker.base(), "providerLeaseId": lease["providerLeaseId"]})
            check_equal(released, None)


@test
def two_hundred_commands_at_once_are_served():
    with worker_in_bare_system("socket") as worker:
        worker.initialize()
        asked = [worker.send_sh(f"echo {number}") for number in range(200)]
        check_equal([worker.result(id)["stdout"] for id in asked], [f"{number}\n" for number in range(200)])


def refused_by_tls(listener, context):
    """Serves until a client has refused the certificate."""
    while True:
        connection, _ = listener.accept()
        try:
            context.wrap_socket(connection, server_side=True).close()
        except ssl.SSLError as error:
            return error
        except OSError:
            pass


@test
def tls_is_verified_with_the_certificates_of_the_package():
    check(not os.path.exists(os.path.join(Bare.root, "etc/ssl/certs/ca-certificates.crt")), "the system has no certificates")
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        key, certificate = os.path.join(folder, "key.pem"), os.path.join(folder, "cert.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
                        "-subj", "/CN=localhost"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        with concurrent.futures.ThreadPoolExecutor(1) as pool, worker_in_bare_system("socket") as worker:
            refusal = pool.submit(refused_by_tls, listener, context)
            worker.initialize()
            config = {"apiKey": "k", "apiUrl": f"https://localhost:{listener.getsockname()[1]}", "timeoutMs": 20000}
            report = worker.call("environmentProbe", {**worker.base("daytona"), "config": config})
            check_equal(report["ok"], False)
            check_match(json.dumps(report), r".*is not trusted: it is self-signed.*")
            check("ALERT_UNKNOWN_CA" in str(refusal.result(30)), "the certificate was refused by the client")


@test
def the_local_driver_says_that_bubblewrap_is_missing():
    with worker_in_bare_system("socket") as worker:
        worker.initialize()
        report = worker.call("environmentProbe", worker.base("local"))
        check_equal(report["ok"], False)
        errors = [entry["message"] for entry in report["diagnostics"] if entry["severity"] == "error"]
        check(any("bubblewrap" in text for text in errors), f"bubblewrap is named: {report}")


if __name__ == "__main__":
    try:
        sys.argv[1] = prepare(os.path.abspath(sys.argv[1]))
    except Skip as reason:
        skip_all(f"THE PLUGIN IS NOT TESTED IN A BARE SYSTEM: {reason}")
    main()
