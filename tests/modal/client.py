"""A test's hold on the emulator: starts it, scripts its faults, looks at what it has."""

import json
import os
import re
import shutil
import subprocess
import time
import urllib.request

from harness import Skip

HERE = os.path.dirname(os.path.abspath(__file__))


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


class Emulator:
    """with Emulator() as modal: ... modal.server_url, modal.fault(rpc="SandboxCreate", status=[14, "busy"]), modal.live()"""

    def __init__(self, certificate=()):
        environment = {"PATH": os.environ.get("PATH", os.defpath)}
        if "TMPDIR" in os.environ:
            environment["TMPDIR"] = os.environ["TMPDIR"]
        self.process = subprocess.Popen([node(), os.path.join(HERE, "emulator.mjs"), *certificate], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env=environment)
        urls = json.loads(self.process.stdout.readline())
        self.url, self.server_url, self.tls_url, self.directory = urls["control"], urls["serverUrl"], urls["tlsUrl"], urls["directory"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        status = self.process.wait(60)
        self.process.stdout.close()
        if status != 0:
            raise AssertionError(f"the emulator ended with status {status}")

    def control(self, method, what, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/{what}", data=data, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return json.load(answer)

    def fault(self, **rule):
        self.control("POST", "faults", rule)

    def clear_faults(self):
        self.control("DELETE", "faults")

    def behave(self, **text):
        self.control("POST", "behave", text)

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

    def state(self):
        return self.control("GET", "state")

    def live(self):
        return self.state()["live"]

    def requests(self, rpc=".*", since=0):
        """What was called, in order; only these."""
        return [request for request in self.control("GET", f"requests?since={since}") if re.fullmatch(rpc, request["rpc"])]

    def calls(self, since=0):
        return [request["rpc"] for request in self.requests(since=since)]

    def wait_for(self, condition, what, limit_s=60):
        """condition(self) comes true."""
        end = time.monotonic() + limit_s
        while not condition(self):
            if time.monotonic() > end:
                raise AssertionError(f"never came true: {what}")
            time.sleep(0.01)
