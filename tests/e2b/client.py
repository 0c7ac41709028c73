"""A test's hold on the emulator: starts it, scripts its faults, looks at what it has."""

import json
import os
import subprocess
import sys
import time
import urllib.request


class Emulator:
    """with Emulator() as e: ... e.urls["apiUrl"], e.fault(path="Process/Start", status=500), e.live()"""

    def __init__(self, *options):
        environment = {"PATH": os.environ.get("PATH", os.defpath)}
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "emulator.py")
        self.process = subprocess.Popen([sys.executable, "-B", program, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env=environment)
        self.urls = json.loads(self.process.stdout.readline())

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
        request = urllib.request.Request(f"{self.urls['controlUrl']}/control/{what}", data=data, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return json.load(answer)

    def fault(self, **rule):
        self.control("POST", "faults", rule)

    def faults(self, rules):
        self.control("POST", "faults", rules)

    def clear_faults(self):
        self.control("DELETE", "faults")

    def behave(self, **text):
        self.control("POST", "behave", text)

    def destroy(self, sandbox):
        self.control("POST", "destroy", {"id": sandbox})

    def pause(self, sandbox):
        self.control("POST", "pause", {"id": sandbox})

    def cut(self, sandbox):
        self.control("POST", "cut", {"id": sandbox})

    def state(self):
        return self.control("GET", "state")

    def live(self):
        return self.state()["live"]

    def requests(self, method=None, path="", since=0):
        """What was asked, in order; only this method, only paths that end so."""
        return [request for request in self.control("GET", f"requests?since={since}")
                if method in (None, request["method"]) and request["path"].endswith(path)]

    def wait_for(self, condition, what, limit_s=60):
        """condition(self) comes true."""
        end = time.monotonic() + limit_s
        while not condition(self):
            if time.monotonic() > end:
                raise AssertionError(f"never came true: {what}")
            time.sleep(0.01)
