"""E2B's two HTTP services on a loopback port, for tests (tests/lib/emulation/server.py). Novita's are the same without /v2.

The API is below /api, or at a host whose name begins with api.; envd is at the root, its sandbox named by the header E2b-Sandbox-Id. Over
TLS they are https://e2b.test, or where their domain says. Commands really run.

    POST   /control/behave       {"envdVersion", "split", "forgets", "domain", "page", "ignoresFilter"} (sandboxes.py)
    POST   /control/destroy      {"id"}: a sandbox is killed behind its owner's back
    POST   /control/pause        {"id"}: the same, paused
    POST   /control/cut          {"id"}: its streams are reset
    GET    /control/state        {"live": [ids], "paused": [ids], "running": [scripts], "files": [paths], "sandboxes": [details]}

Of a stream, truncate (the connection ends), stallBody and dropStream (a reset) count the envelopes' bytes. A request is its template's.
"""

import json
import os
import sys
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from emulation.connection import Answer  # noqa: E402
from emulation.server import Refused, Server, serve  # noqa: E402
from sandboxes import Service  # noqa: E402

DEAD = "The sandbox was not found"


class E2b(Server):
    names = ("e2b.test", "*.e2b.test", "api.e2b.app", "sandbox.e2b.app", "*.sandbox.novita.ai")

    def begin(self):
        self.service = Service(self.place)

    def end_work(self):
        for sandbox in list(self.service.sandboxes.values()):
            sandbox.end()

    def owner_of(self, request):
        """The template of its sandbox."""
        if request.method == "POST" and request.parts[-1] == "sandboxes":
            return json.loads(request.body).get("templateID")
        name = request.headers.get("e2b-sandbox-id") or next((part for part in request.parts if part.partition("-")[0] in self.service.sandboxes), "")
        sandbox = self.service.sandboxes.get(name.partition("-")[0])
        return sandbox and sandbox.template

    # --- the two services ---

    def answer(self, request):
        try:
            if request.parts[:1] == ["api"] or request.headers.get("host", "").startswith("api."):
                if request.headers.get("x-api-key") != self.key:
                    raise Refused(401, "Invalid API key, please visit https://e2b.dev/docs/api-key for more information.\n"
                                       "Cannot get the team for the given API key")
                with self.service.lock:
                    status, body, *headers = self.api(request)
                return Answer(status, body, *headers)
        except Refused as refused:
            return Answer(refused.status, {"code": refused.status, "message": refused.message}, refused.headers)
        except (ValueError, KeyError) as error:
            return Answer(400, {"code": 400, "message": f"Error parsing body: {error}"})
        return self.envd(request)

    def envd(self, request):
        name = request.headers.get("e2b-sandbox-id")
        if name is None:
            name = next(iter(self.service.live()), "")
        try:
            with self.service.lock:
                sandbox = self.service.find(name)
            if sandbox.state == "paused":
                raise Refused(502, DEAD)
        except Refused:
            return Answer(502, {"sandboxId": name, "message": DEAD, "code": 502})
        return sandbox.envd.answer(request)

    def api(self, request):
        service, parts = self.service, request.parts[request.parts[0] == "api":]
        new = parts[:1] == ["v2"]
        if new:
            parts = parts[1:]
        if parts[:1] != ["sandboxes"] or len(parts) > 3:
            raise Refused(404, "no such path")
        what = (request.method, *parts[2:])
        if len(parts) == 1 and request.method == "GET" and new:
            return service.list(request.query, dict(urllib.parse.parse_qsl(request.query.get("metadata", ""))))
        if len(parts) == 1 and request.method == "POST":
            body = request.json()
            return service.create(body, new or body.get("secure", False))
        name = parts[1] if len(parts) > 1 else ""
        if what == ("POST", "connect"):
            return service.connect(name, request.json())
        if new:
            raise Refused(404, "no such path")
        if what == ("POST", "timeout"):
            return service.set_timeout(name, request.json())
        if what == ("POST", "pause"):
            return service.pause(name)
        if what == ("DELETE",):
            return service.kill(name)
        if what == ("GET",):
            return service.look(name)
        raise Refused(405, "method not allowed")

    # --- what tests steer and look at ---

    def steer(self, what, request):
        functions = {("POST", "behave"): lambda: self.service.behave(request.json()),
                     ("POST", "destroy"): lambda: self.service.kill(request.json()["id"]),
                     ("POST", "pause"): lambda: self.service.pause(request.json()["id"]),
                     ("POST", "cut"): lambda: self.service.find(request.json()["id"]).cut_streams()}
        if what not in functions:
            return False
        with self.service.lock:
            functions[what]()
        return True

    def state(self):
        with self.service.lock:
            boxes = list(self.service.sandboxes.values())
        return {"live": [box.id for box in boxes], "paused": [box.id for box in boxes if box.state == "paused"],
                "running": [script for box in boxes for script in box.envd.running()],
                "files": [path for box in boxes for path in box.envd.leftovers()],
                "sandboxes": [{**box.details(), "token": box.token, "home": box.home, "endsIn": box.end_at} for box in boxes]}


serve(E2b, "e2b_0123456789abcdef")
