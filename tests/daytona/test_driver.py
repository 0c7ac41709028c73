#!/usr/bin/python3
"""wire: daytona. What a command costs, what happens when the service misbehaves, sessions."""

import hashlib
import json

from driver import KEY, check_includes, result, session
from harness import OTHER_COMPANY, check, check_equal, check_match, main, test

METHODS = ("ReleaseLease", "DestroyLease")


def ended(result):
    return {key: result[key] for key in ("exitCode", "timedOut", "stdout", "stderr")}


# --- requests ---


@test
def a_command_in_a_known_lease_costs_one_request():
    with session() as s:
        lease = s.acquire()
        since = len(s.e.requests())
        for _ in range(3):
            check_equal(s.execute(lease, "echo", ["hi"]), result(stdout="hi\n"))
        check_equal([request["path"].rpartition("/")[2] for request in s.e.requests(since=since)], ["execute"] * 3)


@test
def a_lease_of_another_worker_is_looked_up_once():
    with session() as s:
        sandbox = s.sandbox()
        since = len(s.e.requests())
        for _ in range(2):
            check_equal(s.execute(sandbox, "true", environment="env-2"), result())
        check_equal([request["method"] for request in s.e.requests(since=since)], ["GET", "POST", "POST"])


@test
def each_operation_costs_the_documented_requests():
    with session() as s:
        def cost(what, count, action):
            since = len(s.e.requests())
            got = action()
            asked = [f"{request['method']} {request['path']}" for request in s.e.requests(since=since)]
            check_equal(len(asked), count, f"requests of {what}: {asked}")
            return got

        s.e.toolbox(idleLooks=2)
        lease = cost("acquire: create, two looks, work dir, folder, shell", 6, s.acquire)
        cost("realize", 1, lambda: s.call("RealizeWorkspace", {"lease": {"providerLeaseId": lease["providerLeaseId"],
                                                                        "metadata": lease["metadata"]}, "workspace": {}}))
        cost("execute", 1, lambda: s.execute(lease, "true"))
        cost("execute with stdin", 3, lambda: s.execute(lease, "cat", [], {"stdin": "x"}))
        stream = {"useSessions": True, "useLogStream": True}
        cost("the first streamed execute: session, start, stream, look", 4, lambda: s.execute(lease, "true", **stream))
        cost("a streamed execute: start, stream, look", 3, lambda: s.execute(lease, "true", **stream))
        cost("release", 2, lambda: s.lease_call("ReleaseLease", lease))
        cost("a call in a lease that has ended", 0, lambda: s.w.error(s.send_execute(lease, "true")))


@test
def every_request_carries_the_key_and_a_version_and_the_key_is_in_no_answer():
    with session() as s:
        lease = s.acquire(reuseLease=True)
        s.lease_call("DestroyLease", lease)
        for request in s.e.requests():
            check_includes(request["headers"], {"authorization": f"Bearer {KEY}", "x-daytona-sdk-version": "0.203.0",
                                                "x-daytona-source": "sdk-typescript", "user-agent": "sdk-typescript/0.203.0"})
        s.e.fault(path="/api/sandbox$", status=400, reply={"message": f"bad token {KEY}!"})
        check_equal(s.error("AcquireLease", {"runId": "r"})["message"], "bad token ***!")


@test
def the_create_body_is_the_documented_one():
    with session() as s:
        s.acquire(snapshot=..., image="node:20", target="eu", cpu=2, memory="4", disk=10, gpu=1, reuseLease=True)
        s.acquire(cpu=2, target="us", autoStopInterval=0, autoDeleteInterval=-1)
        bodies = [s.json(request) for request in s.e.requests("POST", "/api/sandbox")]
        for body in bodies:
            check_match(body.pop("name"), r"paperclip-[0-9a-f-]{36}")
        labels = {"paperclip-provider": "daytona", "paperclip-company-id": s.base()["companyId"], "paperclip-environment-id": "env-1",
                  "paperclip-reuse-lease": "true", "paperclip-run-id": "run-1", "code-toolbox-language": "python"}
        check_equal(bodies, [
            {"buildInfo": {"dockerfileContent": "FROM node:20\n"}, "env": {}, "labels": labels, "target": "eu", "cpu": 2, "memory": 4,
             "disk": 10, "gpu": 1, "autoStopInterval": 15, "autoArchiveInterval": 60, "autoDeleteInterval": 10080},
            {"snapshot": "base-snapshot", "env": {}, "labels": {**labels, "paperclip-reuse-lease": "false"}, "target": "us",
             "autoStopInterval": 0, "autoArchiveInterval": 60, "autoDeleteInterval": -1}])


@test
def what_cannot_be_created_is_refused_before_any_request():
    with session() as s:
        for config, text in (
                ({"snapshot": ..., "cpu": 1}, "Daytona resource settings require image-backed sandbox creation; default sandbox creation "
                                               "cannot override CPU, memory, disk, or GPU."),
                ({"language": "cobol"}, "Invalid code-toolbox-language: cobol. Supported languages: python, typescript, javascript"),
                ({"apiKey": ...}, "Daytona sandbox environments require an API key in config or DAYTONA_API_KEY.")):
            check_equal(s.error("AcquireLease", {"runId": "r"}, **config)["message"], text)
            check_equal(s.call("Probe", **config)["metadata"]["error"], text)
        check_equal(s.e.requests(), [])


@test
def a_toolbox_that_no_answer_names_is_asked_for_once():
    with session() as s:
        s.e.behave(toolboxInAnswers=False)
        lease = s.acquire()
        check_equal(s.execute(lease, "echo", ["hi"])["stdout"], "hi\n")
        check_equal(len(s.e.requests("GET", "/toolbox-proxy-url")), 1)


@test
def a_blank_work_dir_is_the_home_directory_and_a_blank_home_the_default():
    with session() as s:
        s.e.fault(path="/work-dir", merge={"dir": " "})
        check_match(s.acquire()["metadata"]["remoteCwd"], r"/.+/home/daytona/paperclip-workspace")
        s.e.toolbox(workDir="")
        s.e.fault(path="/files/folder", status=201)
        check_equal(s.acquire()["metadata"]["remoteCwd"], "/home/daytona/paperclip-workspace")


# --- errors ---


@test
def the_message_of_a_failed_request_is_the_services_own():
    with session() as s:
        lease = s.acquire()
        for reply, text in (({"message": "m", "error": "e"}, "m"), ({"error": "e"}, "e"), ({"odd": 1}, '{"odd":1}'), ("plain", "plain"),
                            ("<html>x</html>", "<html>x</html>"), ("", "Request failed with status code 400")):
            s.e.fault(path="process/execute", status=400, reply=reply)
            error = s.w.error(s.send_execute(lease, "true"))
            check_equal((error["code"], error["message"]), (-32002, text))


@test
def an_answer_without_an_exit_code_is_an_error():
    with session() as s:
        lease = s.acquire()
        for reply in ({}, "[]", '{"exitCode":"7"}', '{"exitCode":', {"result": "x"}, {"exitCode": 1.5}):
            s.e.fault(path="process/execute", status=200, reply=reply)
            check_equal(s.w.error(s.send_execute(lease, "true"))["message"], "Daytona answered a command without its exit code.")
        s.e.fault(path="process/execute", status=200, reply="<html>Log in</html>")
        check_equal(s.w.error(s.send_execute(lease, "true"))["message"],
                    "Daytona's answer is a web page: something in between answers, such as the login page of a proxy.")
        s.e.fault(path="process/execute", status=200, reply={"code": 5, "result": "old"})
        check_equal(s.execute(lease, "true"), result(5, "old"))


@test
def a_command_whose_answer_is_lost_is_not_run_again():
    with session() as s:
        lease = s.acquire()
        for way in ({"reset": True, "after": True}, {"close": True, "after": True}, {"truncate": 5}, {"status": 500}, {"status": 502, "after": True}):
            since = len(s.e.requests())
            s.e.fault(path="process/execute", **way)
            check(s.w.error(s.send_execute(lease, "true"))["message"], "no text")
            check_equal(len(s.e.requests(since=since)), 1, f"requests with {way}")


@test
def a_command_that_was_refused_for_the_rate_is_run_once_the_service_allows_it():
    with session() as s:
        lease = s.acquire()
        for status in (429, 503):
            s.e.fault(path="process/execute", status=status, headers={"Retry-After": "0"})
            check_equal(s.execute(lease, "echo", ["hi"]), result(stdout="hi\n"))


@test
def timeouts_of_the_service_of_its_gateway_and_of_its_silence_are_results():
    with session() as s:
        lease = s.acquire()
        s.e.fault(path="process/execute", body="silent", stall=True)
        silent = s.send_execute(lease, "silent", more={"timeoutMs": 1000})
        for status in (408, 504):
            s.e.fault(path="process/execute", body="true", status=status, reply={"message": "late"})
            check_equal(s.execute(lease, "true"), result(None, "", "late\n", True))
        got = s.w.result(silent)
        check_includes(got, {"exitCode": None, "timedOut": True, "stdout": ""})
        check_match(got["stderr"], r"HTTP request timed out after 6000ms waiting for a response\. .*\n")


@test
def a_sandbox_that_was_stopped_behind_our_back_is_started_and_the_command_runs_once():
    with session() as s:
        lease = s.acquire()
        for state in ("stopped", "archived"):
            s.e.set_state(lease["providerLeaseId"], state)
            check_equal(s.execute(lease, "echo", ["hi"]), result(stdout="hi\n"))


@test
def a_recoverable_sandbox_is_recovered_and_another_says_why_not():
    with session() as s:
        sandbox = s.sandbox("error", recoverable=True, errorReason="disk")
        check_equal(s.execute(sandbox, "true", environment="env-2"), result())
        s.e.set_state(sandbox, "error", recoverable=False, errorReason="disk")
        for environment in ("env-3", "env-4"):
            check_equal(s.w.error(s.send_execute(sandbox, "true", environment=environment))["message"],
                        f"Daytona sandbox {sandbox} is in an unrecoverable error state: disk")


@test
def a_probe_that_fails_says_at_which_step_and_what_to_do():
    with session() as s:
        for rule, done, hint in (({"path": "/api/sandbox$", "status": 401, "reply": {"message": "Invalid credentials"}}, 1, "Check apiKey"),
                                 ({"path": "/api/sandbox$", "status": 403, "reply": {"message": "no"}}, 1, "Check apiKey"),
                                 ({"path": "/api/sandbox$", "status": 429, "times": None, "headers": {"Retry-After": "0"}}, 1, "Daytona limits"),
                                 ({"path": "/api/sandbox$", "status": 400, "reply": {"message": "Snapshot x not found."}}, 1, "The service refuses"),
                                 ({"path": "/api/sandbox$", "status": 200, "reply": "<html>"}, 1, "Something else than Daytona"),
                                 ({"path": "/work-dir$", "reset": True, "times": None}, 2, "The service cannot be reached")):
            s.e.fault(**rule)
            got = s.call("Probe")
            s.e.clear_faults()
            check_equal((got["ok"], [each["code"] for each in got["diagnostics"]]), (False, ["step_done"] * done + ["step_failed", "hint"]))
            check(got["metadata"]["error"] in got["diagnostics"][done]["message"], f"{got}")
            check(got["diagnostics"][-1]["message"].startswith(hint), f"{got}")
        check_equal(s.call("Probe", apiKey=...)["diagnostics"][-1]["message"][:12], "Check apiKey")
        s.no_live()


# --- commands ---


@test
def git_that_talks_to_a_remote_has_two_minutes_at_most():
    with session() as s:
        lease = s.acquire()
        for command, args, timeout in (("git", ["push"], 120), ("/usr/bin/git", ["-C", "/x", "--bare", "fetch", "o"], 120),
                                       ("git", ["remote", "update"], 120), ("git", ["remote", "-v"], 200), ("git", ["commit", "push"], 200),
                                       ("gitk", ["push"], 200), ("git", [], 200)):
            s.e.fault(path="process/execute", status=200, reply={"exitCode": 0, "result": ""})
            s.execute(lease, command, args, {"timeoutMs": 200000})
            check_equal(s.json(s.e.requests("POST", "/process/execute")[-1])["timeout"], timeout, f"{command} {args}")
        s.e.fault(path="process/execute", status=408)
        check_equal(s.execute(lease, "git", ["clone", "x"], {"timeoutMs": 1700})["stderr"],
                    "Git network operation timed out after 2 s — the remote may be unreachable or noninteractive credentials are not "
                    "configured.\n")


@test
def words_arrive_as_they_were_sent():
    with session() as s:
        lease = s.acquire()
        words = ["it's", "a b", "$HOME", "`id`", "ü", "", "-n", "\n", "\\", '"']
        got = s.execute(lease, "printf", ["%s|", *words], {"env": {"A": "x'y\n"}, "cwd": "/"})
        check_equal(got["stdout"], "".join(f"{word}|" for word in words))


@test
def empty_stdin_is_an_empty_file_and_every_end_removes_it():
    with session() as s:
        lease = s.acquire()
        check_equal(s.execute(lease, "cat", [], {"stdin": ""}), result())
        big = "line ü\n" * 200_000
        check_equal(s.execute(lease, "cat", [], {"stdin": big})["stdout"], big)
        for way in ({"status": 500}, {"status": 408}, {"reset": True}, {"truncate": 3}):
            s.e.fault(path="process/execute", **way)
            s.w.answer(s.send_execute(lease, "cat", [], {"stdin": "x"}))
        for way in ({"status": 400, "reply": {"errors": ["disk full"], "files": None}, "after": True}, {"reset": True, "after": True}):
            s.e.fault(path="bulk-upload", **way)
            check(s.w.error(s.send_execute(lease, "cat", [], {"stdin": "x"})), "an error")
        check_equal(s.e.state()["files"], [])


# --- the ends of leases ---


@test
def release_and_destroy_end_a_running_command_with_proof():
    for sessions in (False, True):
        for method in METHODS:
            with session() as s:
                lease = s.acquire(useSessions=sessions)
                key = s.send_execute(lease, "sleep", ["100000"], useSessions=sessions)
                s.e.wait_for(lambda d: d.state()["running"] > 0 and (not sessions or d.requests("POST", "/exec")), "the command runs")
                got = s.lease_call(method, lease, {"cancelActiveWork": True}, useSessions=sessions)
                check_equal(got, {"providerLeaseId": lease["providerLeaseId"], "state": "destroyed"})
                check("error" in s.w.answer(key), "the command has no result")
                s.no_live()
                s.e.wait_for(lambda d: d.state()["running"] == 0, "the command has ended")


@test
def a_lease_that_has_ended_takes_no_commands_until_it_is_resumed():
    with session() as s:
        lease = s.acquire(reuseLease=True, more={"agentId": "a", "executionWorkspaceId": "w"})
        lease_id = lease["providerLeaseId"]
        s.lease_call("ReleaseLease", lease, reuseLease=True)
        check_equal(s.w.error(s.send_execute(lease, "true"))["message"], f"Daytona sandbox lease {lease_id} is no longer active.")
        resumed = s.lease_call("ResumeLease", lease, {"leaseMetadata": lease["metadata"]}, reuseLease=True)
        check_includes(resumed, {"providerLeaseId": lease_id, "metadata": {"resumedLease": True, "workspaceSentinel": {"result": "matched"}}})
        check_equal(s.execute(lease, "true"), result())


@test
def leases_of_one_company_are_not_known_to_another():
    with session() as s:
        lease = s.acquire()
        s.lease_call("DestroyLease", lease)
        error = s.w.error(s.send_execute(lease, "true", company=OTHER_COMPANY))
        check_match(error["message"], "Sandbox with ID or name .* not found|bad request: .*")


@test
def an_archived_lease_is_stopped_set_to_be_deleted_and_archived():
    with session() as s:
        lease = s.acquire(archiveOnRelease=True)
        check_equal(lease["metadata"]["archiveOnRelease"], True)
        s.lease_call("ReleaseLease", lease, archiveOnRelease=True)
        sandbox, = s.e.state()["sandboxes"]
        check_equal((sandbox["desiredState"], sandbox["autoDeleteInterval"]), ("archived", 60))


@test
def a_reused_sandbox_proves_that_it_is_the_right_one():
    with session() as s:
        ids = {"agentId": "agent-1", "executionWorkspaceId": "ws-1", "adapterType": "claude_local"}
        lease = s.acquire(ids, reuseLease=True)
        sentinel = lease["metadata"]["workspaceSentinel"]
        with open(sentinel["path"], encoding="utf-8") as file:
            content = json.load(file)
        identity = {**ids, "companyId": s.base()["companyId"], "cpu": None, "disk": None, "environmentId": "env-1", "gpu": None, "image": None,
                    "memory": None, "provider": "daytona", "snapshot": "base-snapshot", "target": None}
        token = hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
        check_equal((sentinel["token"], sentinel["result"], content["token"], content["version"]), (token, "written", token, 1))
        with open(sentinel["path"], "w", encoding="utf-8") as file:
            file.write('{"token":"other"}')
        for metadata, want in ((lease["metadata"], "mismatch"), ({}, "missing")):
            got = s.lease_call("ResumeLease", lease, {"leaseMetadata": metadata}, reuseLease=True)
            check_equal((got["providerLeaseId"], got["metadata"]["expired"], got["metadata"]["workspaceSentinel"]["result"]), (None, True, want))
        check_equal(len(s.e.live()), 1)


@test
def realize_makes_the_directory():
    with session() as s:
        lease = s.acquire()
        path = lease["metadata"]["remoteCwd"] + "/sub"
        got = s.call("RealizeWorkspace", {"lease": {"providerLeaseId": lease["providerLeaseId"], "metadata": {"remoteCwd": f" {path} "}}, "workspace": {}})
        check_equal(got, {"cwd": path, "metadata": {"provider": "daytona", "remoteCwd": path}})
        check_equal(s.execute(lease, "pwd", [], {"cwd": path})["stdout"], path + "\n")
        check_equal(s.call("RealizeWorkspace", {"lease": {}, "workspace": {}})["cwd"], "/paperclip-workspace")


# --- sessions ---


@test
def a_session_keeps_the_streams_apart_and_is_made_once():
    with session() as s:
        lease = s.acquire(useSessions=True)
        keys = [s.send_execute(lease, "sh", ["-c", "echo out; echo err >&2; exit 3"], useSessions=True) for _ in range(3)]
        for key in keys:
            check_equal(s.w.result(key), result(3, "out\n", "err\n"))
        check_equal(len(s.e.requests("POST", "/process/session")), 1)
        check_equal(s.execute(lease, "cat", useSessions=True), result())
        check_equal(s.execute(lease, "cat", [], {"stdin": "in\n"}, useSessions=True), result(stdout="in\n"))
        since = len(s.e.requests())
        check_equal(s.execute(lease, "echo", ["x"], {"bypassSession": True}, useSessions=True), result(stdout="x\n"))
        check_equal(len(s.e.requests(since=since)), 1)


@test
def a_session_that_was_lost_is_replaced_and_the_command_runs():
    with session() as s:
        lease = s.acquire(useSessions=True)
        for _ in range(2):
            check_equal(s.execute(lease, "echo", ["hi"], useSessions=True), result(stdout="hi\n"))
            s.e.end_sessions(lease["providerLeaseId"])
        s.e.fault(path="/exec$", status=500, reply={"message": "failed to execute command: failed to write command: broken pipe"})
        check_equal(s.execute(lease, "echo", ["hi"], useSessions=True), result(stdout="hi\n"))


@test
def a_command_of_a_session_past_its_time_is_ended_and_does_not_delay_the_next():
    with session() as s:
        lease = s.acquire(useSessions=True)
        check_equal(s.execute(lease, "sleep", ["100000"], {"timeoutMs": 1200}, useSessions=True),
                    result(None, "", "Command timed out after 1 s.\n", True))
        check_equal(s.execute(lease, "echo", ["next"], useSessions=True), result(stdout="next\n"))
        check_equal(s.e.state()["running"], 1)


@test
def bad_polls_of_a_session_are_survived():
    with session() as s:
        lease = s.acquire(useSessions=True)
        for way in ({"status": 500}, {"reset": True}, {"truncate": 4}, {"status": 429}):
            s.e.fault(method="GET", path="/command/[^/]*$", times=2, **way)
            s.e.fault(method="GET", path="/logs$", **way)
            check_equal(s.execute(lease, "echo", ["hi"], useSessions=True), result(stdout="hi\n"))


main()
