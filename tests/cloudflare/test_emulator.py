#!/usr/bin/python3
"""The emulated bridge against the documented exchanges (exchanges.json; there is no SDK that speaks to a bridge), and its own faults.

In an expected answer "/…/" is a pattern, and members that are not named may be there.
"""

import http.client
import json
import os
import re

from client import Emulator
from harness import check_equal, main, test

ROOT = "/api/paperclip-sandbox/v1"


def ask(emulator, method, path, body=None, token="test-token", limit_s=60):
    return emulator.ask(method, ROOT + path, body, {"Authorization": f"Bearer {token}"}, limit_s)


def matches(got, want, what):
    if isinstance(want, dict):
        for key, value in want.items():
            matches(got.get(key, "missing"), value, f"{what}, {key}")
    elif isinstance(want, str) and len(want) > 2 and want[0] == want[-1] == "/":
        if not re.fullmatch(want[1:-1], str(got), re.S):
            raise AssertionError(f"{what}: {got!r} is not {want}")
    else:
        check_equal(got, want, what)


@test
def every_documented_exchange_goes_as_documented():
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "exchanges.json"), encoding="utf-8") as file:
        text = file.read()
    kept = {}
    with Emulator() as emulator:
        for at in range(len(json.loads(text))):
            exchange = json.loads(text.replace('"LEASE"', json.dumps(kept.get("LEASE", "LEASE"))) if kept else text)[at]
            name, request = exchange["name"], exchange["request"]
            body = request["text"].encode() if "text" in request else request.get("body")
            status, got = ask(emulator, request["method"], request["path"], body, exchange.get("token", "test-token"))
            check_equal(status, exchange["status"], name)
            if "stream" in exchange:
                check_equal(got.decode(), exchange["stream"], name)
            else:
                matches(json.loads(got), exchange["answer"], name)
            if "keep" in exchange:
                kept[exchange["keep"]] = json.loads(got)["providerLeaseId"]
            if "live" in exchange:
                check_equal(emulator.live(), sorted(exchange["live"]), name)


@test
def plain_commands_of_one_session_wait_for_each_other_and_others_do_not():
    with Emulator() as emulator:
        def body(session, script):
            return json.dumps({"providerLeaseId": "pc-1", "command": "sh", "args": ["-c", script], "sessionStrategy": "named",
                               "sessionId": session}).encode()
        connection = http.client.HTTPConnection(*emulator.url.removeprefix("http://").split(":"), timeout=60)
        connection.request("POST", ROOT + "/exec", body("a", "while [ ! -e $HOME/go ]; do sleep 0.01; done"),
                           {"Authorization": "Bearer test-token"})
        emulator.wait_for(lambda e: e.state()["running"] == 1, "the first runs")
        check_equal(ask(emulator, "POST", "/exec", body("a", "true"), limit_s=0.3)[0], "stalled")
        check_equal(ask(emulator, "POST", "/exec", body("b", "touch $HOME/go"))[0], 200)
        check_equal(json.loads(connection.getresponse().read())["exitCode"], 0)
        connection.close()


@test
def each_fault_does_what_it_says_before_or_after_the_work():
    with Emulator() as emulator:
        body = json.dumps({"providerLeaseId": "pc-1", "command": "sh", "args": ["-c", "echo x >> $HOME/ran"]}).encode()
        streamed = json.dumps({"providerLeaseId": "pc-1", "command": "echo", "args": ["0123456789"], "streamOutput": True}).encode()
        count = json.dumps({"providerLeaseId": "pc-1", "command": "sh", "args": ["-c", "cat $HOME/ran | wc -l"]}).encode()
        done = 0
        for rule, want, ran in (({"status": 500}, 500, 0), ({"close": True}, "closed", 0), ({"close": True, "after": True}, "closed", 1),
                                ({"reset": True, "after": True}, "reset", 1), ({"stall": True, "after": True}, "stalled", 1),
                                ({"truncate": 5}, "cut", 1), ({"stallBody": 5}, "stalled", 1), ({"delayMs": 1}, 200, 1)):
            emulator.fault(path="/exec", **rule)
            check_equal(ask(emulator, "POST", "/exec", body, limit_s=0.5 if want == "stalled" else 60)[0], want, f"{rule}")
            done += ran
        check_equal(json.loads(ask(emulator, "POST", "/exec", count)[1])["stdout"].strip(), str(done))
        for rule, want in (({"truncate": 30}, "cut"), ({"dropStream": 30}, "reset"), ({"stallBody": 30}, "stalled")):
            emulator.fault(path="/exec", **rule)
            check_equal(ask(emulator, "POST", "/exec", streamed, limit_s=0.5 if want == "stalled" else 60)[0], want, f"{rule}")
        emulator.behave(split=1, keepalive=True)
        status, text = ask(emulator, "POST", "/exec", streamed)
        check_equal((status, text.count(b": keepalive\n\n")), (200, 2))


main()
