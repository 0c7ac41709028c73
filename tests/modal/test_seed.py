#!/usr/bin/python3
"""The cases that the driver was first specified by, each under its own name."""

import os
import re

from driver import CONFIG_KEYS, check_includes, result, session
from harness import check, check_equal, check_match, main, test

BASE = {"appName": "paperclip-app", "image": "node:20", "sandboxTimeoutMs": 3600000, "execTimeoutMs": 300000, "reuseLease": False}
MKDIR_FAILS = {"rpc": "TaskExecStart", "body": "mkdir -p", "status": [3, "mkdir failed"]}


def validate(s, config):
    return s.w.call("environmentValidateConfig", {"driverKey": "modal", "config": config})


@test
def declares_environment_lifecycle_handlers():
    with session() as s:
        check_equal(s.w.call("health")["status"], "ok")
        methods = s.w.initialize()["supportedMethods"]
        for method in ("AcquireLease", "Execute", "ReleaseLease", "ResumeLease", "DestroyLease"):
            check(f"environment{method}" in methods, f"{method} is not among {methods}")


@test
def normalizes_config_when_both_tokens_are_provided():
    with session() as s:
        got = validate(s, {"appName": " app-1 ", "image": " node:20 ", "tokenId": " token-id ", "tokenSecret": " token-secret ",
                           "environment": " main ", "workdir": " /srv/work ", "sandboxTimeoutMs": "1800000", "idleTimeoutMs": "60000",
                           "execTimeoutMs": "120000", "reuseLease": True, "blockNetwork": False, "cidrAllowlist": ["10.0.0.0/8"]})
        check_equal(got, {"ok": True, "normalizedConfig": {
            "appName": "app-1", "image": "node:20", "tokenId": "token-id", "tokenSecret": "token-secret", "environment": "main",
            "workdir": "/srv/work", "sandboxTimeoutMs": 1800000, "idleTimeoutMs": 60000, "execTimeoutMs": 120000, "blockNetwork": False,
            "cidrAllowlist": ["10.0.0.0/8"], "reuseLease": True}})
        check_equal(list(got["normalizedConfig"]), CONFIG_KEYS)


@test
def ignores_host_MODAL_TOKEN_env_vars_plugin_worker_does_not_inherit_them():
    with session(env={"MODAL_TOKEN_ID": "host-id", "MODAL_TOKEN_SECRET": "host-secret"}) as s:
        check_equal(validate(s, BASE), {"ok": False, "errors": ["Modal sandbox environments require tokenId and tokenSecret."]})


@test
def rejects_invalid_config():
    with session() as s:
        got = validate(s, {"appName": "", "image": "", "sandboxTimeoutMs": 1500, "idleTimeoutMs": 1500, "execTimeoutMs": 0, "blockNetwork": True,
                           "cidrAllowlist": ["1.2.3.4/32"], "tokenId": "only-id"})
        check_equal(got, {"ok": False, "errors": [
            "Modal sandbox environments require an appName.",
            "Modal sandbox environments require an image reference.",
            "sandboxTimeoutMs must be a positive multiple of 1000 between 1000 and 86400000.",
            "idleTimeoutMs must be a positive multiple of 1000 when provided.",
            "execTimeoutMs must be a positive multiple of 1000.",
            "cidrAllowlist cannot be combined with blockNetwork.",
            "tokenId and tokenSecret must both be provided when either is set."]})


@test
def requires_both_tokens_in_config():
    with session() as s:
        check_equal(validate(s, BASE), {"ok": False, "errors": ["Modal sandbox environments require tokenId and tokenSecret."]})


@test
def probes_by_creating_executing_and_terminating_a_sandbox():
    with session() as s:
        got = s.call("Probe")
        create, = s.e.requests("SandboxCreate")
        check_equal(s.e.requests("AppGetOrCreate")[0]["request"], {"app_name": "paperclip-app", "object_creation_type": 1})
        check_equal(s.e.requests("ImageGetOrCreate")[0]["request"]["image"], {"dockerfile_commands": ["FROM node:20"]})
        tags = s.e.requests("SandboxTagsSet")[0]["request"]["tags"]
        check_equal([tag["tag_name"] for tag in tags], ["paperclip-provider", "paperclip-company-id", "paperclip-environment-id",
                                                        "paperclip-reuse-lease"])
        check_equal(s.scripts(), [f"mkdir -p '{s.workdir}'", "printf paperclip-probe"])
        check_equal(len(s.e.requests("SandboxTerminate")), 1)
        s.no_live()
        check_includes(got, {"ok": True, "summary": "Connected to Modal sandbox in app paperclip-app.", "metadata": {
            "provider": "modal", "sandboxId": s.e.state()["sandboxes"][0]["id"], "remoteCwd": s.workdir, "reuseLease": False}})
        check_equal(create["request"]["definition"]["workdir"], s.workdir)


@test
def returns_a_failure_probe_result_when_the_probe_command_exits_non_zero():
    with session() as s:
        s.e.fault(rpc="TaskExecWait", skip=1, answer={"code": 7}, after=True)
        got = s.call("Probe")
        check_equal((got["ok"], got["summary"]), (False, 'Modal sandbox probe failed: exit 7, stdout="paperclip-probe"'))
        check_equal(set(got["metadata"]), {"provider", "sandboxId", "appName", "image"})
        s.no_live()


@test
def closes_the_Modal_client_when_probe_fails_before_sandbox_creation():
    with session() as s:
        s.e.fault(rpc="AppGetOrCreate", status=[7, "app lookup failed"])
        got = s.call("Probe")
        error = "/modal.client.ModalClient/AppGetOrCreate PERMISSION_DENIED: app lookup failed"
        check_includes(got, {"ok": False, "summary": "Modal sandbox probe failed.", "metadata": {
            "provider": "modal", "appName": "paperclip-app", "image": "node:20", "reuseLease": False, "error": error}})
        check_equal(s.e.state()["created"], 0)


@test
def acquires_a_lease_applies_tags_and_ensures_the_workspace_directory():
    with session() as s:
        lease = s.acquire(reuseLease=True)
        check_includes(lease, {"providerLeaseId": s.e.live()[0], "metadata": {
            "provider": "modal", "sandboxId": s.e.live()[0], "remoteCwd": s.workdir, "reuseLease": True, "resumedLease": False}})
        tags = {tag["tag_name"]: tag["tag_value"] for tag in s.e.requests("SandboxTagsSet")[0]["request"]["tags"]}
        check_includes(tags, {"paperclip-run-id": "run-1", "paperclip-reuse-lease": "true"})
        check_equal(s.e.requests("TaskExecStart")[0]["request"]["command_args"], ["sh", "-lc", f"mkdir -p '{s.workdir}'"])
        check(os.path.isdir(s.workdir), "no directory was made")


@test
def terminates_the_sandbox_if_acquire_workspace_setup_throws():
    with session() as s:
        s.e.fault(**MKDIR_FAILS)
        check_match(s.error("AcquireLease", {"runId": "run-1"})["message"], ".*mkdir failed")
        check_equal(len(s.e.requests("SandboxTerminate")), 1)
        s.no_live()


@test
def fails_acquire_when_workspace_creation_exits_non_zero():
    with session() as s:
        s.e.fault(rpc="TaskExecWait", answer={"code": 17})
        error = s.error("AcquireLease", {"runId": "run-1"})
        check_equal((error["code"], error["message"]),
                    (-32002, f"Failed to create remote workspace directory '{s.workdir}': mkdir exited with code 17"))
        check_equal(len(s.e.requests("SandboxTerminate")), 1)
        s.no_live()


@test
def closes_the_Modal_client_when_acquire_fails_before_sandbox_creation():
    with session() as s:
        s.e.fault(rpc="AppGetOrCreate", status=[7, "app lookup failed"])
        error = s.error("AcquireLease", {"runId": "run-1"})
        check_equal((error["code"], error["message"]), (7, "/modal.client.ModalClient/AppGetOrCreate PERMISSION_DENIED: app lookup failed"))
        check_equal(s.e.calls(), ["AuthTokenGet", "AppGetOrCreate"])


@test
def treats_missing_leases_as_expired_on_resume():
    with session() as s:
        check_equal(s.lease_call("ResumeLease", "sb-missing", reuseLease=True), {"providerLeaseId": None, "metadata": {"expired": True}})


@test
def resumes_a_reusable_lease_by_reconnecting_via_fromId():
    with session() as s:
        lease_id = s.sandbox()
        since = len(s.e.calls())
        lease = s.lease_call("ResumeLease", lease_id, reuseLease=True, environment="env-2")
        check_includes(lease, {"providerLeaseId": lease_id, "metadata": {
            "provider": "modal", "sandboxId": lease_id, "resumedLease": True, "reuseLease": True}})
        check_equal(s.e.calls(since), ["SandboxWait", "SandboxGetTaskId", "TaskGetCommandRouterAccess", "TaskExecStart", "TaskExecWait"])


@test
def detaches_the_sandbox_if_resumed_workspace_setup_fails():
    with session() as s:
        lease_id = s.sandbox()
        s.e.fault(**MKDIR_FAILS)
        check_match(s.error("ResumeLease", {"providerLeaseId": lease_id}, reuseLease=True)["message"], ".*mkdir failed")
        check_equal(s.e.live(), [lease_id])


@test
def detaches_reusable_leases_and_terminates_ephemeral_leases_on_release():
    with session() as s:
        reusable, ephemeral = s.acquire(reuseLease=True), s.acquire()
        check_equal(s.lease_call("ReleaseLease", reusable, reuseLease=True), None)
        check_equal(s.e.requests("SandboxTerminate"), [])
        check_equal(s.lease_call("ReleaseLease", ephemeral), None)
        check_equal(s.e.live(), [reusable["providerLeaseId"]])


@test
def destroys_leases_by_terminating_ignoring_missing_sandboxes():
    with session() as s:
        check_equal(s.lease_call("DestroyLease", s.acquire(reuseLease=True), reuseLease=True), None)
        s.no_live()
        check_equal(s.lease_call("DestroyLease", "sb-missing"), None)


@test
def realizes_the_workspace_using_the_lease_metadata_cwd_when_available():
    with session() as s:
        lease_id = s.sandbox()
        path = s.workdir + "/from-metadata"
        got = s.call("RealizeWorkspace", {"lease": {"providerLeaseId": lease_id, "metadata": {"remoteCwd": path}},
                                          "workspace": {"localPath": "/local", "remotePath": "/remote"}})
        check_equal(s.scripts()[-1], f"mkdir -p '{path}'")
        check_equal(got, {"cwd": path, "metadata": {"provider": "modal", "remoteCwd": path}})


@test
def executes_commands_with_a_login_shell_wrapper_that_injects_env_after_profile_sourcing():
    with session() as s:
        lease = s.acquire()
        os.mkdir(s.workdir + "/srv")
        since = len(s.e.calls())
        got = s.execute(lease, "sh", ["-c", "printf stdout-output; printf stderr-output >&2; exit 5"],
                        {"cwd": s.workdir + "/srv", "env": {"FOO": "bar"}, "timeoutMs": 12000})
        check_equal(got, result(5, "stdout-output", "stderr-output"))
        start, = s.e.requests("TaskExecStart", since=since)
        shell, flag, script = start["request"]["command_args"]
        check_equal((shell, flag), ("sh", "-lc"))
        for pattern in (r"/etc/profile", rf"cd '{s.workdir}/srv'", r"&& exec env FOO='bar' 'sh' '-c' 'printf stdout-output; .*'$"):
            check(re.search(pattern, script), f"{pattern} is not in {script}")
        check_includes(start["request"], {"timeout_secs": 12, "stdout_config": 1, "stderr_config": 1})


@test
def stages_stdin_in_the_sandbox_filesystem_when_execution_needs_redirected_input():
    with session() as s:
        lease = s.acquire()
        since = len(s.e.calls())
        check_equal(s.execute(lease, "cat", [], {"stdin": "input payload"}), result(stdout="input payload"))
        opened = s.e.requests("ContainerFilesystemExec", since=since)
        path = opened[0]["request"]["file_open_request"]["path"]
        check_match(path, r"/tmp/paperclip-stdin-\d+-[0-9a-z]{8}")
        check_equal(opened[0]["request"]["file_open_request"]["mode"], "w")
        check_equal(opened[1]["request"]["file_write_request"]["data"], {"base64": "aW5wdXQgcGF5bG9hZA==", "bytes": 13})
        check_equal([[key for key in one["request"] if key != "task_id"][0] for one in opened],
                    ["file_open_request", "file_write_request", "file_flush_request", "file_close_request"])
        command, cleanup = s.scripts(since)
        check(re.search(rf"&& exec 'cat' < '{path}'$", command), command)
        check_equal(cleanup, f"rm -f '{path}'")
        s.e.wait_for(lambda m: not os.path.exists(path) and m.state()["openFiles"] == 0, "the file is removed")


@test
def rejects_invalid_shell_env_keys_before_execution():
    with session() as s:
        lease = s.acquire()
        since = len(s.e.calls())
        error = s.w.error(s.send_execute(lease, "printf", ["hello"], {"env": {"BAD-KEY": "v"}, "stdin": "x"}))
        check_equal((error["code"], error["message"]), (-32002, "Invalid sandbox environment variable key: BAD-KEY"))
        check_equal(s.e.calls(since), [])


@test
def returns_an_error_result_when_execute_is_called_for_an_expired_sandbox_lease():
    with session() as s:
        gone = result(1, "", "Modal sandbox lease is no longer available.\n")
        check_equal(s.execute("sb-expired", "printf", ["hello"]), gone)
        lease = s.acquire()
        s.e.end(lease["providerLeaseId"])
        check_equal(s.execute(lease, "printf", ["hello"]), gone)
        check_equal(s.execute(lease, "cat", [], {"stdin": "x"}), gone)


@test
def returns_a_timedOut_result_when_Modal_raises_a_TimeoutError_during_exec():
    with session() as s:
        lease = s.acquire()
        got = s.execute(lease, "sleep", ["60"], {"timeoutMs": 1000})
        check_match(got.pop("stderr"), r"Deadline exceeded while waiting for exec [0-9a-f-]{36}\n")
        check_equal(got, {"exitCode": None, "timedOut": True, "stdout": ""})


@test
def returns_an_error_result_when_execute_is_called_without_a_provider_lease_id():
    with session() as s:
        check_equal(s.execute(None, "printf", ["hello"]), result(1, "", "No provider lease ID available for execution."))
        check_equal(s.execute("", "printf", ["hello"])["exitCode"], 1)


main()
