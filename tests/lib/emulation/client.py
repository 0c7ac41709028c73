"""A test's hold on an emulator: starts it, scripts its faults, looks at what it has."""

import http.client
import json
import os
import subprocess
import sys
import time
import urllib.request

ASK = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Emulator:
    """with Emulator() as e: ... e.url, e.fault(path="Process/Start", status=500), e.live()

    program, of a subclass, is the path of the emulator.
    """

    program = None

    def __init__(self, *options, temp=None):
        environment = {"PATH": os.environ.get("PATH", os.defpath), **({"TMPDIR": temp} if temp else {})}
        self.process = subprocess.Popen([sys.executable, "-B", self.program, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self.urls = json.loads(self.process.stdout.readline())
        self.url = self.urls["url"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.process.stdin.close()
        status = self.process.wait(60)
        self.process.stdout.close()
        if status != 0:
            raise AssertionError(f"the emulator ended with status {status}")

    def control(self, method, what, body=None):
        data = None if body is None else json.dumps(body).encode()
        with ASK.open(urllib.request.Request(f"{self.url}/control/{what}", data=data, method=method), timeout=60) as answer:
            return json.load(answer)

    def ask(self, method, path, body=None, headers=None, limit_s=60):
        """As a client would that hides nothing: (status, body), or what the connection did. A body that is no bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", int(self.url.rpartition(":")[2]), timeout=limit_s)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.IncompleteRead as cut:
            return "cut", cut.partial
        except http.client.RemoteDisconnected:
            return "closed", b""
        except ConnectionResetError:
            return "reset", b""
        except TimeoutError:
            return "stalled", b""
        finally:
            connection.close()

    def fault(self, **rule):
        self.control("POST", "faults", rule)

    def faults(self, rules):
        self.control("POST", "faults", rules)

    def clear_faults(self):
        self.control("DELETE", "faults")

    def behave(self, **text):
        self.control("POST", "behave", text)

    def destroy(self, sandbox):
        """Behind its owner's back."""
        self.control("POST", "destroy", {"id": sandbox})

    def reset(self):
        self.control("POST", "reset", {})

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
