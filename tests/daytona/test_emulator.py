#!/usr/bin/python3
"""The emulator's own behaviour: each fault on each side of the work, states that move with each look, nothing left at the end."""

import http.client
import json
import os

from client import Emulator
from harness import check, check_equal, main, test


class Raw:
    """A client of the emulator that hides nothing."""

    def __init__(self, emulator):
        self.emulator = emulator

    def ask(self, method, path, body=None, **more):
        return self.emulator.ask(method, path, body, {"Authorization": "Bearer test-key"}, **more)

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", int(self.emulator.url.rpartition(":")[2]), timeout=60)

    def create(self):
        status, body = self.ask("POST", "/api/sandbox", {"snapshot": "base-snapshot", "env": {}, "labels": {}})
        assert status == 200, body
        sandbox = json.loads(body)["id"]
        while json.loads(self.ask("GET", f"/api/sandbox/{sandbox}")[1])["state"] != "started":
            pass
        return sandbox

    def execute(self, sandbox, command, **more):
        return self.ask("POST", f"/toolbox/{sandbox}/process/execute", {"command": command}, **more)


@test
def each_fault_before_the_work_leaves_the_work_undone():
    with Emulator() as emulator:
        raw = Raw(emulator)
        sandbox = raw.create()
        ways = [({"status": 500, "reply": {"message": "no"}}, (500, b'{"message":"no"}')), ({"close": True}, ("closed", b"")),
                ({"reset": True}, ("reset", b""))]
        for rule, want in ways:
            emulator.fault(path="process/execute", **rule)
            check_equal(raw.execute(sandbox, "echo x > ran"), want)
            check_equal(raw.execute(sandbox, "test ! -e ran && echo undone")[1], b'{"exitCode":0,"result":"undone\\n"}')


@test
def each_fault_after_the_work_leaves_it_done():
    with Emulator() as emulator:
        raw = Raw(emulator)
        sandbox = raw.create()
        whole = b'{"exitCode":0,"result":""}'
        ways = [({"status": 502, "reply": "<html>", "after": True}, (502, b"<html>")), ({"close": True, "after": True}, ("closed", b"")),
                ({"reset": True, "after": True}, ("reset", b"")), ({"truncate": 5}, ("cut", whole[:5])), ({"delayMs": 10}, (200, whole)),
                ({"merge": {"exitCode": 9}}, (200, b'{"exitCode":9,"result":""}'))]
        for rule, want in ways:
            emulator.fault(path="process/execute", **rule)
            check_equal(raw.execute(sandbox, "echo x > ran"), want)
            check_equal(raw.execute(sandbox, "cat ran; rm ran")[1], b'{"exitCode":0,"result":"x\\n"}')


@test
def a_stalled_answer_comes_never_and_a_cleared_fault_ends_the_connection():
    with Emulator() as emulator:
        raw = Raw(emulator)
        sandbox = raw.create()
        emulator.fault(path="process/execute", stall=True, times=2)
        check_equal(raw.execute(sandbox, "true", limit_s=0.2)[0], "stalled")
        emulator.fault(path="work-dir", stallBody=3)
        check_equal(raw.ask("GET", f"/toolbox/{sandbox}/work-dir", limit_s=0.2)[0], "stalled")
        emulator.clear_faults()
        check_equal(raw.execute(sandbox, "true")[0], 200)


@test
def a_fault_hits_the_requests_it_names_and_no_others():
    with Emulator() as emulator:
        raw = Raw(emulator)
        sandbox = raw.create()
        emulator.fault(method="POST", path="process/execute$", body="needle", skip=1, times=2, status=418)
        got = [raw.execute(sandbox, command)[0] for command in ("echo hay", "echo needle", "echo needle", "true", "echo needle", "echo needle")]
        check_equal(got, [200, 200, 418, 200, 418, 200])
        log = emulator.requests("POST", "process/execute")
        check_equal([entry["fault"] for entry in log], [None, None, "status", None, "status", None])
        check_equal([entry["status"] for entry in log], got)


@test
def a_fault_that_makes_no_sense_is_refused():
    with Emulator() as emulator:
        raw = Raw(emulator)
        for rule in ({}, {"status": 1, "close": True}, {"statsu": 1}, {"truncate": 1, "after": False}):
            check_equal(raw.ask("POST", "/control/faults", rule)[0], 400)


@test
def a_lost_create_leaves_a_sandbox_that_its_name_finds():
    with Emulator() as emulator:
        raw = Raw(emulator)
        for rule in ({"reset": True, "after": True}, {"truncate": 9}):
            emulator.fault(method="POST", path="/api/sandbox$", **rule)
            raw.ask("POST", "/api/sandbox", {"name": "mine"})
            check_equal(len(emulator.live()), 1)
            check_equal(raw.ask("DELETE", "/api/sandbox/mine")[0], 409)  # still being created; the look brings it on
            check_equal(raw.ask("DELETE", "/api/sandbox/mine")[0], 200)
            check_equal(emulator.live(), [])
            check_equal([raw.ask("GET", "/api/sandbox/mine")[0] for _ in range(2)], [200, 404])


@test
def states_follow_the_plan():
    with Emulator() as emulator:
        raw = Raw(emulator)
        emulator.behave(plans={"image": ["pending_build", "building_snapshot", "error"]}, errorReason="broken")
        _, body = raw.ask("POST", "/api/sandbox", {"buildInfo": {"dockerfileContent": "FROM x\n"}, "cpu": 1})
        views = [json.loads(body)]
        views += [json.loads(raw.ask("GET", f"/api/sandbox/{views[0]['id']}")[1]) for _ in range(4)]
        check_equal([view["state"] for view in views], ["pending_build", "pending_build", "building_snapshot", "error", "error"])
        check_equal(views[-1]["errorReason"], "broken")


@test
def a_stopped_sandbox_answers_no_command_and_its_running_ones_end():
    with Emulator() as emulator:
        raw = Raw(emulator)
        sandbox = raw.create()
        connection = raw.connect()
        connection.request("POST", f"/toolbox/{sandbox}/process/execute", b'{"command":"sleep 100000"}', {"Authorization": "Bearer test-key"})
        emulator.wait_for(lambda e: e.state()["running"] == 1, "the command runs")
        check_equal(raw.ask("POST", f"/api/sandbox/{sandbox}/stop?force=false")[0], 200)
        check_equal(json.loads(connection.getresponse().read())["exitCode"], -1)
        connection.close()
        status, body = raw.execute(sandbox, "true")
        check_equal((status, json.loads(body)["message"]), (400, "bad request: no IP address found. Is the Sandbox started?"))


@test
def uploads_to_tmp_are_listed_until_they_are_deleted():
    with Emulator() as emulator:
        raw = Raw(emulator)
        sandbox = raw.create()
        path = f"/tmp/paperclip-stdin-test-{os.getpid()}"
        connection = raw.connect()
        body = (f'--B\r\nContent-Disposition: form-data; name="files[0].path"\r\n\r\n{path}\r\n--B\r\nContent-Disposition: form-data; '
                'name="files[0].file"; filename="x"\r\nContent-Type: application/octet-stream\r\n\r\nin\r\nput\r\n--B--\r\n').encode()
        connection.request("POST", f"/toolbox/{sandbox}/files/bulk-upload", body,
                           {"Authorization": "Bearer test-key", "Content-Type": "multipart/form-data; boundary=B"})
        check_equal(json.loads(connection.getresponse().read()), {"files": [{"path": path, "bytes": 7}]})
        connection.close()
        check_equal(emulator.state()["files"], [path])
        check_equal(json.loads(raw.execute(sandbox, f"cat < {path}")[1])["result"], "in\r\nput")
        check_equal(raw.ask("DELETE", f"/toolbox/{sandbox}/files?path={path}")[0], 204)
        check_equal(emulator.state()["files"], [])


@test
def without_the_key_there_is_nothing():
    with Emulator() as emulator:
        raw = Raw(emulator)
        sandbox = raw.create()
        for path, text in ((f"/api/sandbox/{sandbox}", "Invalid credentials"),
                           (f"/toolbox/{sandbox}/work-dir", "unauthorized: authentication failed: Bearer token is invalid")):
            connection = raw.connect()
            connection.request("GET", path)
            answer = connection.getresponse()
            check_equal((answer.status, json.loads(answer.read())["message"]), (401, text))
            connection.close()


@test
def nothing_is_left_when_the_emulator_ends():
    temp = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"daytona emulator test {os.getpid()}")
    os.mkdir(temp)
    with Emulator(temp=temp) as emulator:
        raw = Raw(emulator)
        sandbox = raw.create()
        raw.ask("POST", f"/toolbox/{sandbox}/process/session", {"sessionId": "s"})
        raw.ask("POST", f"/toolbox/{sandbox}/process/session/s/exec", {"command": "echo $$ > pid; sleep 100000", "runAsync": True})
        pid = json.loads(raw.execute(sandbox, "until test -s pid; do sleep 0.01; done; cat pid")[1])["result"].strip()
    os.rmdir(temp)
    check(not os.path.exists(f"/proc/{pid}"), "the session's shell outlives the emulator")


main()
