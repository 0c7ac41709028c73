"""A test's hold on the emulator: starts it, scripts its faults, looks at what it has."""

import json
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[1:1] = [os.path.join(HERE, "..", "lib"), os.path.join(HERE, "..", "worker")]

from emulation import client  # noqa: E402
from harness import Skip  # noqa: E402


def node():
    """The path of a Node that can run the emulator."""
    path = os.environ.get("PSW_NODE") or shutil.which("node")
    if not path:
        raise Skip("node is not installed")
    return path


def make_certificate(directory):
    """(certificate, key) for 127.0.0.2, signed by itself."""
    names = [os.path.join(directory, name) for name in ("modal.pem", "modal.key")]
    if not os.path.exists(names[0]):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", names[1],
                        "-out", names[0], "-subj", "/CN=127.0.0.2", "-days", "30", "-addext", "subjectAltName=IP:127.0.0.2", "-addext",
                        "basicConstraints=critical,CA:TRUE"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
    return names


class Emulator(client.Emulator):
    """with Emulator() as modal: ... modal.server_url, modal.fault(rpc="SandboxCreate", status=[14, "busy"]), modal.live()"""

    def __init__(self, *certificate):
        environment = {"PATH": os.environ.get("PATH", os.defpath)}
        if "TMPDIR" in os.environ:
            environment["TMPDIR"] = os.environ["TMPDIR"]
        self.process = subprocess.Popen([node(), os.path.join(HERE, "emulator.mjs"), *certificate], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env=environment)
        self.urls = json.loads(self.process.stdout.readline())
        self.url, self.server_url, self.tls_url, self.directory = (self.urls[key] for key in ("url", "serverUrl", "tlsUrl", "directory"))

    def reset(self):
        self.directory = self.control("POST", "reset", {})["directory"]

    def end(self, sandbox_id, **result):
        self.control("POST", "end", {"id": sandbox_id, "result": {"status": 4, **result}})

    def forget(self, sandbox_id):
        self.control("POST", "forget", {"id": sandbox_id})

    def move(self, sandbox_id):
        self.control("POST", "task", {"id": sandbox_id})

    def drop_tokens(self):
        self.control("POST", "tokens", {})

    def go_away(self):
        self.control("POST", "goaway", {})

    def requests(self, rpc=".*", since=0):
        """What was called, in order; only these."""
        return [request for request in self.control("GET", f"requests?since={since}") if re.fullmatch(rpc, request["rpc"])]

    def calls(self, since=0):
        return [request["rpc"] for request in self.requests(since=since)]
