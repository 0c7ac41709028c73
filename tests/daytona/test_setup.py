#!/usr/bin/python3
"""wire: daytona, Interactive setup and templates."""

from driver import check_includes, session
from harness import check, check_equal, check_match, main, test

MISSING = {"providerLeaseId": None, "status": "missing", "connectionSummary": None, "connectionPayload": None,
           "metadata": {"provider": "daytona", "missing": True}}


def start(s, more=None, **config):
    return s.call("StartInteractiveSetup", {"sessionId": "setup-1", **(more or {})}, **config)


@test
def setup_makes_a_sandbox_that_a_person_reaches_over_ssh():
    with session() as s:
        got = start(s, {"connectionExpiresInMinutes": 30.9, "sourceTemplateRef": "base-snapshot"}, snapshot=..., image="node:20")
        sandbox, = s.e.live()
        labels = s.json(s.e.requests("POST", "/api/sandbox")[0])["labels"]
        check_includes(labels, {"paperclip-purpose": "interactive_setup", "paperclip-setup-session-id": "setup-1"})
        check_equal(s.e.requests("POST", "/ssh-access")[0]["query"], {"expiresInMinutes": "30"})
        token = got["connectionPayload"]["token"]
        expires = "2030-01-01T00:30:00.000Z"
        cwd = got["metadata"]["remoteCwd"]
        check_equal(got, {
            "providerLeaseId": sandbox, "status": "waiting_for_user", "expiresAt": expires,
            "connectionSummary": {"type": "ssh", "username": "token", "hostRedacted": True, "portRedacted": True, "commandRedacted": True,
                                  "expiresAt": expires, "metadata": {"provider": "daytona", "expiresInMinutes": 30}},
            "connectionPayload": {"type": "ssh", "command": f"ssh {token}@ssh.app.daytona.io", "token": token, "expiresAt": expires,
                                  "metadata": {"provider": "daytona", "sensitive": True}},
            "metadata": {"provider": "daytona", "sandboxId": sandbox, "sandboxState": "started", "shellCommand": "bash",
                         "imageConfigured": False, "snapshotConfigured": True, "sourceTemplateRefRedacted": True, "target": "us",
                         "timeoutMs": 30000, "remoteCwd": cwd, "connectionRedacted": True}})
        again = s.call("GetInteractiveSetup", {"providerLeaseId": sandbox})
        check_equal((again["connectionPayload"], "expiresAt" in again, "expiresAt" in again["connectionSummary"]), (None, False, False))
        check_match(s.call("GetInteractiveSetup", {"providerLeaseId": sandbox, "includeConnectionPayload": True})["connectionPayload"]["token"], ".+")
        cancelled = s.call("CancelInteractiveSetup", {"providerLeaseId": sandbox, "reason": "timed_out"})
        check_equal(cancelled, {"status": "timed_out", "metadata": {"provider": "daytona", "sandboxId": sandbox, "reason": "timed_out"}})
        s.no_live()


@test
def setup_that_fails_at_any_step_leaves_no_sandbox():
    with session() as s:
        for path in ("/work-dir", "/files/folder", "/ssh-access"):
            for way in ({"status": 400, "reply": {"message": "no"}}, {"reset": True, "after": True}, {"status": 500}):
                s.e.fault(path=path, times=None, **way)
                s.error("StartInteractiveSetup", {"sessionId": "setup-1"})
                s.e.clear_faults()
                s.no_live()
        s.e.fault(path="/ssh-access", status=200, reply={})
        check_equal(s.error("StartInteractiveSetup", {"sessionId": "x"})["message"], "Daytona SSH access did not return a token or SSH command.")
        s.no_live()


@test
def the_way_to_a_setup_is_what_the_service_says_for_as_long_as_it_allows():
    with session() as s:
        for minutes, want in ((..., "60"), (1.9, "1"), (5000, "1440"), ("x", "60")):
            start(s, {} if minutes is ... else {"connectionExpiresInMinutes": minutes})
            check_equal(s.e.requests("POST", "/ssh-access")[-1]["query"], {"expiresInMinutes": want})
        for reply, command in (({"command": "ssh a"}, "ssh a"), ({"sshCommand": " ssh b ", "token": "t"}, "ssh b"), ({"token": "t"}, "ssh t@ssh.app.daytona.io")):
            s.e.fault(path="/ssh-access", status=200, reply=reply)
            got = start(s, {"expiresAt": "2030-01-01T00:00:00.000Z"})
            check_equal((got["connectionPayload"]["command"], got["expiresAt"]), (command, "2030-01-01T00:00:00.000Z"))
        check_equal(s.error("StartInteractiveSetup", {"sessionId": "s", "sourceTemplateRef": "x", "sourceTemplateKind": "disk"})["message"],
                    "Daytona interactive setup can start from image or snapshot templates only, not disk.")
        got = start(s, {"sourceTemplateRef": "node:22", "sourceTemplateKind": "image"})
        check_equal((got["metadata"]["imageConfigured"], got["metadata"]["snapshotConfigured"]), (True, False))
        check_equal(s.json(s.e.requests("POST", "/api/sandbox")[-1])["buildInfo"], {"dockerfileContent": "FROM node:22\n"})


@test
def a_setup_that_is_gone_is_missing():
    with session() as s:
        for lease in ("none", None):
            check_equal(s.call("GetInteractiveSetup", {"providerLeaseId": lease}), MISSING)
            check_equal(s.call("CancelInteractiveSetup", {"providerLeaseId": lease}),
                        {"status": "missing", "metadata": {"provider": "daytona", "missing": True, "reason": None}})


@test
def a_captured_template_is_a_snapshot_until_it_is_deleted():
    with session() as s:
        sandbox = start(s)["providerLeaseId"]
        for label, name in ((" My Snapshot! v1.0 ", "my-snapshot-v1.0"), ("x" * 200, "x" * 96), ("!!!", None), (None, None)):
            got = s.call("CaptureTemplate", {"providerLeaseId": sandbox, **({"templateLabel": label} if label else {})})
            check_match(got["templateRef"], name or r"paperclip-env-1-[0-9a-f]{8}")
            check_includes(got, {"templateKind": "snapshot", "metadata": {"provider": "daytona", "sandboxId": sandbox, "timeoutMs": 30000}})
            check(got["templateRef"] in s.e.state()["snapshots"], "the snapshot is there")
            check_equal(s.call("DeleteTemplate", {"templateRef": got["templateRef"]}),
                        {"deleted": True, "metadata": {"provider": "daytona", "templateKind": "snapshot", "templateRefRedacted": True, "reason": None}})
            check(got["templateRef"] not in s.e.state()["snapshots"], "the snapshot is gone")
        check_equal(s.error("DeleteTemplate", {"templateRef": "none"})["message"], "Snapshot none not found")
        check_equal(s.error("DeleteTemplate", {"templateRef": "x", "templateKind": "image"})["message"],
                    "Daytona can delete snapshot templates only, not image.")
        check_equal(s.error("CaptureTemplate")["message"], "Cannot capture a Daytona template without a setup sandbox lease.")
        s.e.behave(plans={"capture": ["snapshotting", "error"]}, errorReason="disk")
        check_equal(s.error("CaptureTemplate", {"providerLeaseId": sandbox})["message"],
                    f"Sandbox {sandbox} snapshot failed with state: error, error reason: disk")


main()
