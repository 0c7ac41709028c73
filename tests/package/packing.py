"""Packs the plugin for a test, in the build directory, where a second run costs seconds."""

import os
import subprocess
import sys

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
os.environ.setdefault("PATH", "/usr/local/bin:/usr/bin:/bin")  # gcc does not find its parts without

NAME = "paperclip-sandbox-worker"
ARCHITECTURE = {"x86_64": "x64", "aarch64": "arm64"}.get(os.uname().machine)
UNAVAILABLE = 69  # of the scripts: packages cannot be had here


def skip_all(reason):
    print(f"1..0 # SKIP {reason}")
    sys.exit(0)


def fail_all(reason, output):
    print("1..1\nnot ok 1 - " + reason)
    for line in output.decode("utf-8", "replace").rstrip().split("\n")[-40:]:
        print(f"# {line}")
    sys.exit(1)


def run_pack(build, out):
    """Runs scripts/pack-plugin: (status, stdout, stderr)."""
    run = subprocess.run([os.path.join(ROOT, "scripts", "pack-plugin"), "--build", build, "--out", out], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    return run.returncode, run.stdout, run.stderr


def pack(build_root):
    """The package's directory, or no return: the test file is skipped or fails."""
    build = os.path.join(build_root, "pack")
    out = os.path.join(build, "the plugin")
    status, _, errors = run_pack(build, out)
    if status == UNAVAILABLE:
        skip_all("THE PACKED PLUGIN IS NOT TESTED: " + errors.decode("utf-8", "replace").strip().split("\n")[-1])
    if status != 0:
        fail_all("scripts/pack-plugin makes the package", errors)
    return out


def binary_of(package):
    return os.path.join(package, "bin", f"linux-{ARCHITECTURE}", NAME)
