#!/usr/bin/python3
"""What Docker's engine answers where it differs from Podman's service: exchanges after its documentation, played to the driver.

docker_exchanges.json has them; each scenario is a test. Podman itself is tested for real (engine.py).
"""

import contextlib
import json
import os
import re
import socket
import struct
import tempfile
import threading

from driver import Session, check_includes
from harness import Worker, check, check_match, main, remove_dir, test
from relay import Ended, read_head

LEASE = "paperclip-00000000-0000-4000-8000-000000000000"

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "docker_exchanges.json"), encoding="utf-8") as recorded:
    DATA = json.load(recorded)


class Player:
    """An engine's socket at which the rules answer: the first that matches and is not used up."""

    def __init__(self, rules):
        self.folder = tempfile.mkdtemp(prefix="psw docker ")
        self.socket = f"{self.folder}/api.sock"
        self.rules = [{"times": -1, "skip": 0, **rule} for rule in rules]
        self.asked = []
        self.lock = threading.Lock()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.socket)
        self.listener.listen(50)
        self.clients = []
        self.threads = []

    def __enter__(self):
        self.thread = threading.Thread(target=self.accept)
        self.thread.start()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        for client in self.clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        for client in self.clients:
            client.close()
        self.listener.close()
        remove_dir(self.folder)

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.clients.append(client)
            self.threads.append(threading.Thread(target=self.serve, args=(client,)))
            self.threads[-1].start()

    def rule_for(self, method, path):
        with self.lock:
            self.asked.append(path)
            for rule in self.rules:
                found = re.search(rule["path"], path)
                if rule["method"] != method or not found or rule["times"] == 0:
                    continue
                if rule["skip"]:
                    rule["skip"] -= 1
                    continue
                rule["times"] -= 1
                return rule, found
        return {"status": 404, "json": {"message": "page not found"}}, None

    def serve(self, client):
        with contextlib.suppress(OSError, Ended), contextlib.closing(client.makefile("rb")) as stream:
            while True:
                (method, path, _), headers, _ = read_head(stream)
                stream.read(int(headers.get("content-length") or 0))
                rule, found = self.rule_for(method, path)
                if "stream" in rule:
                    self.play_stream(client, stream, rule)
                    return
                body = rule.get("text") or (json.dumps(rule["json"]) if "json" in rule else "")
                for number, group in enumerate(found.groups() if found else (), 1):
                    body = body.replace(f"${number}", group)
                head = [f"HTTP/1.1 {rule['status']} Status", f"Content-Length: {len(body.encode())}"]
                head += [f"{name}: {value}" for name, value in {"Content-Type": "application/json", **rule.get("headers", {})}.items()]
                client.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body.encode())

    def play_stream(self, client, stream, rule):
        kind = rule.get("headers", {}).get("Content-Type", "application/vnd.docker.raw-stream")
        client.sendall(f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {kind}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode())
        for item in rule["stream"]:
            if item == "hold":
                while stream.read1(65536):
                    pass
            else:
                client.sendall(bytes([item[0], 0, 0, 0]) + struct.pack(">I", len(item[1].encode())) + item[1].encode())
        client.shutdown(socket.SHUT_RDWR)


CALLS = {
    "acquire": ("AcquireLease", {"runId": "run-1"}),
    "resume": ("ResumeLease", {"providerLeaseId": LEASE}),
    "destroy": ("DestroyLease", {"providerLeaseId": LEASE}),
    "execute": ("Execute", {"lease": {"providerLeaseId": LEASE, "metadata": {}}, "command": "x", "args": []}),
}


def play(scenario):
    with Player(scenario.get("rules", []) + DATA["usual"]) as player, Worker() as worker:
        s = Session(worker, player, **scenario.get("config", {}))
        method, params = CALLS[scenario["call"]]
        message = worker.answer(s.send(method, {**params, **scenario.get("more", {})}))
        if "error" in scenario:
            check("error" in message, f"a result: {message}")
            check_match(message["error"]["message"], f".*{scenario['error']}.*")
        else:
            check("result" in message, message)
            check_includes(message["result"], scenario.get("result", {}))
        for pattern in scenario.get("asked", []):
            check(any(re.search(pattern, path) for path in player.asked), f"{pattern} was not asked: {player.asked}")
        for pattern in scenario.get("not_asked", []):
            check(not any(re.search(pattern, path) for path in player.asked), f"{pattern} was asked: {player.asked}")
        if "log" in scenario:
            check(any(scenario["log"] in line for line in s.logs()), s.logs())


def add(scenario):
    def run():
        play(scenario)

    run.__name__ = scenario["name"]
    test(run)


for each in DATA["scenarios"]:
    add(each)
main()
