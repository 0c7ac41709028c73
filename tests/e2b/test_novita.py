#!/usr/bin/python3
"""wire: e2b, Novita. The driver novita."""

import json
import os

from driver import KEY, envelope_of, session, started
from harness import COMPANY, check, check_equal, main, test

CWD = "/tmp/psw-novita-workspace"


def novita():
    return session(driver="novita")


def result(lease, code=0, stdout="", stderr="", timed_out=False, signal=None):
    return {"exitCode": code, "signal": signal, "timedOut": timed_out, "stdout": stdout, "stderr": stderr,
            "metadata": {"provider": "novita", "sandboxId": lease}}



@test
def a_config_is_normalised():
    with novita() as s:
        base = {"apiKey": KEY, "domain": None, "template": None, "requestedCwd": "/home/user/paperclip-workspace", "timeoutMs": 300000,
                "requestTimeoutMs": 30000, "secure": None, "autoPause": False, "reuseLease": False}
        for config, change in (
                ({}, {}), ({"domain": " d.test ", "template": " t "}, {"domain": "d.test", "template": "t"}), ({"timeoutMs": "", "requestTimeoutMs": None}, {}),
                ({"timeoutMs": "20000.9"}, {"timeoutMs": 20000}), ({"timeoutMs": -5}, {}), ({"timeoutMs": "x"}, {}), ({"secure": False}, {"secure": False}),
                ({"secure": "yes"}, {}), ({"autoPause": True, "reuseLease": True}, {"autoPause": True, "reuseLease": True}), ({"autoPause": 1}, {}),
                ({"requestedCwd": " /w "}, {"requestedCwd": "/w"}), ({"apiUrl": "https://a.test"}, {"apiUrl": "https://a.test"})):
            got = s.w.call("environmentValidateConfig", {"driverKey": "novita", "config": {"apiKey": KEY, **config}})
            check_equal(got, {"ok": True, "normalizedConfig": {**base, **change}}, str(config))


@test
def what_is_wrong_with_a_config_is_said_in_order():
    with novita() as s:
        got = s.w.call("environmentValidateConfig", {"driverKey": "novita", "config": {
            "requestedCwd": "w", "timeoutMs": 9999, "requestTimeoutMs": 999}})
        check_equal(got, {"ok": False, "errors": [
            "Novita sandbox environments require an API key in config or NOVITA_API_KEY.", "requestedCwd must be an absolute path.",
            "timeoutMs must be at least 10000.", "requestTimeoutMs must be at least 1000."]})


@test
def a_lease_lives_from_create_to_kill():
    with novita() as s:
        got = s.call("AcquireLease", {"runId": "run-1", "issueId": "issue-1", "requestedCwd": f" {CWD} "}, template="tpl", autoPause=True)
        lease = got["providerLeaseId"]
        check_equal(got["metadata"], {"provider": "novita", "shellCommand": "bash", "sandboxId": lease, "template": "tpl", "timeoutMs": 300000,
                                      "requestTimeoutMs": 30000, "autoPause": True, "reuseLease": False, "remoteCwd": CWD, "resumedLease": False})
        check(lease.endswith("-6532622b"), "on the old domain the id holds the client's")
        create, first, second = s.e.requests()
        body = json.loads(create["body"])
        check(body["metadata"].pop("paperclip-create-id"), "our own value")
        check_equal((create["path"], body), ("/api/sandboxes", {
            "autoPause": True, "autoResume": {"enabled": False}, "templateID": "tpl", "timeout": 300, "secure": False, "allow_internet_access": True,
            "metadata": {"paperclip-provider": "novita", "paperclip-company-id": COMPANY, "paperclip-environment-id": "env-1",
                         "paperclip-issue-id": "issue-1", "paperclip-run-id": "run-1"}}))
        for request, script in ((first, f"mkdir -p '{CWD}'"), (second, "if command -v bash >/dev/null 2>&1; then printf bash; else printf sh; fi")):
            process = envelope_of(request)["process"]
            check_equal((process["args"], process["cwd"], request["headers"]["connect-timeout-ms"]), (["-l", "-c", script], "/", "30000"))
        check_equal(s.execute(lease, "sh", ["-c", "echo out; echo err >&2; pwd; exit 3"], {"cwd": f" {CWD} "}), result(lease, 3, f"out\n{CWD}\n", "err\n"))
        check_equal(s.lease_call("DestroyLease", lease, {"cancelActiveWork": True}), {"providerLeaseId": lease, "state": "destroyed"})
        s.no_live()
        os.rmdir(CWD)


@test
def newer_domains_have_plain_ids_and_secure_sandboxes():
    with novita() as s:
        lease = s.acquire({"requestedCwd": "/tmp"}, domain="us-phx-1.sandbox.novita.ai")
        check_equal(s.e.live(), [lease])
        check_equal(json.loads(s.e.requests("POST", "/sandboxes")[0]["body"])["secure"], True)
        check_equal(s.execute(lease, "echo", ["x"], domain="us-phx-1.sandbox.novita.ai"), result(lease, 0, "x\n"))


@test
def commands_run_by_a_script_of_lines_and_stdin_is_uploaded():
    with novita() as s:
        lease = s.acquire({"requestedCwd": "/tmp"})
        since = len(s.e.requests())
        big = "x" * 300_000
        got = s.execute(lease, "sh", ["-c", "cat; echo \"$A\"; exit 5"], {"stdin": big, "env": {"A": "it's", "B": 1}})
        check_equal(got, result(lease, 5, big + "it's\n"))
        check_equal([request["path"].rpartition("/")[2] for request in s.e.requests(since=since)], ["connect", "files", "Start"])
        check_equal(s.execute(lease, "kill-me"), {**result(lease, 127), "stderr": s.execute(lease, "kill-me")["stderr"]})
        check_equal(s.execute(lease, "sh", ["-c", "kill -9 $$"])["signal"], "SIGKILL")
        got = s.execute(lease, "sh", ["-c", "echo x; sleep 1000"], {"timeoutMs": 400, "stdin": "y"})
        check_equal((got["exitCode"], got["timedOut"], got["stdout"]), (124, True, "x\n"))
        check_equal(s.e.state()["files"], [])
        check_equal(s.execute_error(lease, "true", [], {"env": {"a-b": ""}}), "Invalid sandbox environment variable key: a-b")


@test
def operations_cost_the_documented_number_of_requests():
    with novita() as s:
        def cost(action, n):
            since = len(s.e.requests())
            got = action()
            check_equal(len(s.e.requests(since=since)), n, str(s.routes(since)))
            return got
        cost(lambda: s.call("Probe", requestedCwd="/tmp"), 4)
        lease = cost(lambda: s.acquire({"requestedCwd": "/tmp"}), 3)
        cost(lambda: s.execute(lease, "true"), 2)
        cost(lambda: s.execute(lease, "cat", [], {"stdin": "x"}), 3)
        cost(lambda: s.call("RealizeWorkspace", {"lease": {"providerLeaseId": lease}, "workspace": {"remotePath": "/tmp"}}), 2)
        cost(lambda: s.call("RealizeWorkspace", {"lease": {}, "workspace": {}}), 0)
        cost(lambda: s.lease_call("ReleaseLease", lease, reuseLease=True), 1)
        cost(lambda: s.lease_call("ResumeLease", lease, {"leaseMetadata": {"remoteCwd": "/tmp"}}), 4)
        cost(lambda: s.lease_call("DestroyLease", lease), 1)
        for method in ("ReleaseLease", "DestroyLease"):
            cost(lambda: s.call(method, {"providerLeaseId": None}), 0)


@test
def faults_of_the_service_are_told_and_output_is_shown_and_kept():
    with novita() as s:
        lease = s.acquire({"requestedCwd": "/tmp"})
        s.e.fault(path="/connect$", status=401, reply={"code": 401, "message": "M"})
        check_equal(s.execute_error(lease, "true"), "Unauthorized, please check your credentials. - M")
        s.e.fault(path="/connect$", status=404, reply="<html>no page</html>")
        check_equal(s.execute_error(lease, "true"), "404: <html>no page</html>")
        s.e.fault(path="Process/Start", skip=1, status=500, times=None)
        check_equal(s.lease_call("ResumeLease", lease, {"leaseMetadata": {"remoteCwd": "/tmp"}})["metadata"]["shellCommand"], "sh")
        s.e.clear_faults()
        got = s.execute(lease, "sh", ["-c", "echo live; sleep 100000"], {"timeoutMs": 400})
        check_equal((got["exitCode"], got["timedOut"], got["stdout"]), (124, True, "live\n"))
        key = s.send_execute(lease, "sh", ["-c", "echo live; sleep 100000"])
        s.w.until(lambda: s.w.live_text(key) == "live\n", "live output")
        check_equal(s.lease_call("DestroyLease", lease, {"cancelActiveWork": True}), {"providerLeaseId": lease, "state": "destroyed"})
        check("error" in s.w.answer(key), "the command has no result")


@test
def a_lease_that_is_gone_is_a_result():
    with novita() as s:
        none = {"exitCode": 1, "signal": None, "timedOut": False, "stdout": "", "stderr": "No provider lease ID available for execution.\n"}
        check_equal(s.execute(None, "true"), none)
        lease = s.acquire({"requestedCwd": "/tmp"})
        for action in (lambda: s.e.destroy(lease), lambda: s.lease_call("DestroyLease", lease)):
            action()
            check_equal(s.execute(lease, "true"), {**none, "stderr": "Novita sandbox lease is no longer available.\n",
                                                   "metadata": {"provider": "novita", "sandboxId": lease, "expired": True}})
        for lost in (lease, ""):
            check_equal(s.lease_call("ResumeLease", lost), {"providerLeaseId": None, "metadata": {"provider": "novita", "expired": True}})
        got = s.call("RealizeWorkspace", {"lease": {"providerLeaseId": lease}, "workspace": {}})
        check_equal(got, {"cwd": "/home/user/paperclip-workspace", "metadata": {"provider": "novita", "remoteCwd": "/home/user/paperclip-workspace"}})


@test
def a_lease_is_paused_and_resumed():
    with novita() as s:
        lease = s.acquire({"requestedCwd": "/tmp"}, reuseLease=True)
        check_equal(s.lease_call("ReleaseLease", lease, {"cancelActiveWork": True}, reuseLease=True), {"providerLeaseId": lease, "state": "stopped"})
        check_equal(s.e.requests("POST", "/pause")[0]["body"], "")
        s.e.fault(path="/timeout$", status=400, times=None)
        got = s.lease_call("ResumeLease", lease, {"leaseMetadata": {"remoteCwd": "/tmp"}}, reuseLease=True)
        check_equal((got["providerLeaseId"], got["metadata"]["resumedLease"], got["metadata"]["remoteCwd"]), (lease, True, "/tmp"))
        key = s.send_execute(lease, "sleep", ["100000"])
        s.e.wait_for(started("100000"), "it runs")
        s.lease_call("ReleaseLease", lease)
        check("error" in s.w.answer(key), "the command has no result")
        s.no_live()


@test
def a_second_token_is_sent_and_a_probe_tells_what_it_met():
    with session(driver="novita", env={"NOVITA_ACCESS_TOKEN": "second-token", "NOVITA_API_KEY": KEY}) as s:
        got = s.call("Probe", apiKey=..., requestedCwd="/tmp")
        check_equal((got["ok"], got["summary"].startswith("Connected to Novita sandbox i")), (True, True))
        check_equal(s.e.requests("POST", "/sandboxes")[0]["headers"]["authorization"], "Bearer second-token")
        got = s.call("Probe", template="none")
        check_equal((got["ok"], got["summary"], got["metadata"]), (False, "Novita sandbox probe failed.", {
            "provider": "novita", "template": "none", "timeoutMs": 300000, "requestTimeoutMs": 30000, "reuseLease": False,
            "error": "404: template 'none' not found"}))
        s.no_live()


main()
