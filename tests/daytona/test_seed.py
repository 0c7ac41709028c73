#!/usr/bin/python3
"""The cases that the driver was first specified by, each under its own name."""

import re

from driver import KEY, SEED_KEYS, check_includes, session
from harness import check, check_equal, check_match, main, test


@test
def declares_environment_lifecycle_handlers():
    with session() as s:
        health = s.w.call("health")
        check_equal(health["status"], "ok")
        methods = s.w.initialize()["supportedMethods"]
        for method in ("environmentAcquireLease", "environmentExecute"):
            check(method in methods, f"{method} is not among {methods}")


@test
def normalizes_config_and_validates_the_API_key_fallback():
    with session(env={"DAYTONA_API_KEY": "host-key"}) as s:
        result = s.w.call("environmentValidateConfig", {"driverKey": "daytona", "config": {
            "apiKey": " explicit-key ", "apiUrl": " https://app.daytona.io/api ", "target": " us ", "snapshot": " base-snapshot ",
            "language": " typescript ", "timeoutMs": "450000.9", "autoStopInterval": "15", "autoArchiveInterval": "60",
            "autoDeleteInterval": "-1", "reuseLease": True}})
        check_equal(result, {"ok": True, "normalizedConfig": {
            "apiKey": "explicit-key", "apiUrl": "https://app.daytona.io/api", "target": "us", "snapshot": "base-snapshot", "image": None,
            "language": "typescript", "timeoutMs": 450000, "cpu": None, "memory": None, "disk": None, "gpu": None,
            "autoStopInterval": 15, "autoArchiveInterval": 60, "autoDeleteInterval": -1, "reuseLease": True}})
        check_equal(list(result["normalizedConfig"]), SEED_KEYS)
        check_equal(s.w.call("environmentValidateConfig", {"driverKey": "daytona", "config": {}})["ok"], True)


@test
def rejects_ambiguous_or_invalid_config():
    with session() as s:
        result = s.w.call("environmentValidateConfig", {"driverKey": "daytona", "config": {
            "apiUrl": "not-a-url", "image": "node:20", "snapshot": "snapshot-a", "timeoutMs": 0}})
        check_equal(result, {"ok": False, "errors": [
            "Daytona sandbox environments must set either image or snapshot, not both.",
            "apiUrl must be a valid URL.",
            "timeoutMs must be between 1 and 86400000.",
            "Daytona sandbox environments require an API key in config or DAYTONA_API_KEY."]})


@test
def probes_by_creating_and_then_deleting_a_sandbox():
    with session(env={"DAYTONA_API_KEY": KEY}) as s:
        result = s.call("Probe", apiKey=..., timeoutMs=300000)
        created = s.json(s.e.requests("POST", "/api/sandbox")[0])
        check_equal(created["snapshot"], "base-snapshot")
        sandbox = s.e.state()["sandboxes"][0]
        folder = s.e.requests("POST", "/files/folder")[0]
        check_equal(folder["query"], {"path": result["metadata"]["remoteCwd"], "mode": "755"})
        check_equal(len(s.e.requests("DELETE", f"/api/sandbox/{sandbox['id']}")), 1)
        s.no_live()
        check_includes(result, {"ok": True, "summary": f"Connected to Daytona sandbox {created['name']}.", "metadata": {
            "provider": "daytona", "shellCommand": "bash", "sandboxId": sandbox["id"]}})
        check_match(result["metadata"]["remoteCwd"], r"/.*/home/daytona/paperclip-workspace")


@test
def acquires_a_lease_from_a_created_sandbox():
    with session() as s:
        lease = s.acquire(snapshot=..., image="node:20", reuseLease=True)
        sandbox, = s.e.live()
        check_equal(s.json(s.e.requests("POST", "/api/sandbox")[0])["buildInfo"], {"dockerfileContent": "FROM node:20\n"})
        check_includes(lease, {"providerLeaseId": sandbox, "metadata": {
            "provider": "daytona", "shellCommand": "bash", "sandboxId": sandbox, "reuseLease": True}})
        check_match(lease["metadata"]["remoteCwd"], r"/.*/home/daytona/paperclip-workspace")


@test
def deletes_the_sandbox_if_lease_setup_throws_after_sandbox_creation():
    with session() as s:
        s.e.fault(path="/work-dir", status=400, reply={"message": "workdir lookup failed"})
        error = s.error("AcquireLease", {"runId": "run-1"})
        check_equal((error["code"], error["message"]), (-32002, "workdir lookup failed"))
        s.no_live()
        check_equal(len(s.e.requests("DELETE")), 1)


@test
def falls_back_to_sh_metadata_when_bash_is_not_present_in_the_sandbox_image():
    with session() as s:
        s.e.fault(path="process/execute", merge={"result": "sh"})
        check_equal(s.acquire(snapshot=..., image="busybox:latest")["metadata"]["shellCommand"], "sh")
        s.e.fault(path="process/execute", status=500)
        check_equal(s.acquire()["metadata"]["shellCommand"], "sh")


@test
def deletes_the_sandbox_if_resume_setup_throws_after_the_sandbox_starts():
    with session() as s:
        sandbox = s.sandbox("stopped")
        s.e.fault(path="/work-dir", status=400, reply={"message": "workdir lookup failed"})
        error = s.error("ResumeLease", {"providerLeaseId": sandbox}, reuseLease=True)
        check_equal(error["message"], "workdir lookup failed")
        check_equal(len(s.e.requests("POST", f"/sandbox/{sandbox}/start")), 1)
        s.no_live()


@test
def marks_missing_reusable_leases_as_expired_on_resume():
    with session() as s:
        check_equal(s.lease_call("ResumeLease", "sandbox-123", reuseLease=True), {"providerLeaseId": None, "metadata": {"expired": True}})


@test
def stops_reusable_leases_and_deletes_ephemeral_leases_on_release():
    with session() as s:
        reusable, ephemeral = s.sandbox(), s.sandbox()
        check_equal(s.lease_call("ReleaseLease", reusable, reuseLease=True), None)
        check_equal(s.lease_call("ReleaseLease", ephemeral), None)
        check_equal(s.e.live(), [reusable])
        check_equal(s.e.state()["sandboxes"][0]["state"], "stopped")
        check_equal(s.e.requests("POST", "/stop")[0]["query"], {"force": "false"})


@test
def falls_back_to_delete_when_stopping_a_reusable_lease_from_an_error_state_fails():
    with session() as s:
        sandbox = s.sandbox("error")
        check_equal(s.lease_call("ReleaseLease", sandbox, reuseLease=True), None)
        check_equal(len(s.e.requests("POST", "/stop")), 1)
        s.no_live()


@test
def falls_back_to_delete_when_stopping_a_healthy_reusable_lease_fails_mid_call():
    with session() as s:
        sandbox = s.sandbox()
        s.e.fault(path="/stop", status=500, reply={"message": "api timeout"})
        check_equal(s.lease_call("ReleaseLease", sandbox, reuseLease=True), None)
        s.no_live()
        warnings = [note["params"]["message"] for note in s.w.notes if note["params"]["level"] == "warn"]
        check_equal(warnings, [f"Daytona sandbox {sandbox} could not be stopped and is deleted instead: api timeout"])


@test
def executes_commands_one_shot_and_returns_combined_output_via_stdout():
    with session() as s:
        lease = s.acquire()
        s.e.fault(path="process/execute", merge={"exitCode": 7, "result": "stdout\nstderr\n"})
        since = len(s.e.requests())
        result = s.execute(lease, "printf", ["hello"], {"cwd": "/workspace", "env": {"FOO": "bar"}, "timeoutMs": 1000})
        check_equal(result, {"exitCode": 7, "timedOut": False, "stdout": "stdout\nstderr\n", "stderr": ""})
        request, = s.e.requests(since=since)
        body = s.json(request)
        command = body["command"]
        for pattern in (r"/etc/profile", r'"\$HOME/\.profile"', r"cd '/workspace'", r"&& env FOO='bar' 'printf' 'hello'$"):
            check(re.search(pattern, command), f"{pattern} is not in {command}")
        check(not re.search(r"(?:^|&& )exec ", command), command)
        check_equal({key: body[key] for key in body if key != "command"}, {"timeout": 1})


@test
def stages_stdin_in_the_sandbox_filesystem_when_execution_needs_redirected_input():
    with session() as s:
        lease = s.acquire()
        result = s.execute(lease, "cat", [], {"cwd": "/", "stdin": "input payload", "timeoutMs": 60000})
        check_equal(result, {"exitCode": 0, "timedOut": False, "stdout": "input payload", "stderr": ""})
        upload, = s.e.requests("POST", "/files/bulk-upload")
        path = re.search(r"(/tmp/paperclip-stdin-\S+)\r\n", upload["body"])[1]
        check("input payload" in upload["body"], upload["body"])
        command = s.scripts()[-1]
        for pattern in (r"/etc/profile", r"cd '/'", rf"&& 'cat' < '{path}'$"):
            check(re.search(pattern, command), f"{pattern} is not in {command}")
        check_equal([request["query"] for request in s.e.requests("DELETE", "/files")], [{"path": path}])
        check_equal(s.e.state()["files"], [])


@test
def rejects_invalid_shell_env_keys_before_execution():
    with session() as s:
        lease = s.acquire()
        since = len(s.e.requests())
        error = s.w.error(s.send_execute(lease, "printf", ["hello"], {"env": {"BAD-KEY": "bar"}, "stdin": "x"}))
        check_equal((error["code"], error["message"]), (-32002, "Invalid sandbox environment variable key: BAD-KEY"))
        check_equal(s.e.requests(since=since), [])


@test
def returns_a_timed_out_execute_result_when_the_Daytona_SDK_times_out():
    with session() as s:
        lease = s.acquire()
        s.e.fault(path="process/execute", status=408, reply={"message": "command timed out", "code": "REQUEST_TIMEOUT"})
        check_equal(s.execute(lease, "sleep", ["60"], {"timeoutMs": 1000}),
                    {"exitCode": None, "timedOut": True, "stdout": "", "stderr": "command timed out\n"})
        check_equal(s.execute(lease, "sleep", ["1000"], {"timeoutMs": 1000}),
                    {"exitCode": None, "timedOut": True, "stdout": "", "stderr": "request timeout: command execution timeout\n"})


main()
