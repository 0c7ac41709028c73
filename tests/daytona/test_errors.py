#!/usr/bin/python3
"""wire: daytona, Errors, Waiting for a state: each row, by name, with what is asked again and what never is."""

from driver import result, session
from harness import check, check_equal, check_match, main, test

CREATE_LATE = r"Failed to create and start sandbox within 1 seconds\. Operation timed out\."
FOR_EVER = 5000  # looks, of a state that does not end


def rules(rows, path, method=None):
    """Each case has an environment of its own, which its fault goes by."""
    return [{"of": f"env-{number}", "method": method, "path": path, **way} for number, (way, _) in enumerate(rows)]


def asked(s, method, path, environment=None):
    found = s.e.requests(method, path)
    return len([request for request in found if environment is None or f'"{environment}"' in request["body"]])


@test
def each_status_of_a_command_is_an_error_that_is_not_asked_again():
    statuses = (400, 401, 403, 404, 409, 410, 422, 500, 502)
    with session() as s:
        lease = s.acquire()
        for status in statuses:
            since = len(s.e.requests())
            s.e.fault(path="process/execute", status=status, reply={"message": f"no {status}"})
            error = s.w.error(s.send_execute(lease, "true"))
            check_equal((error["code"], error["message"]), (-32002, f"no {status}"))
            check_equal(len(s.e.requests(since=since)), 1, f"requests with {status}")


@test
def a_command_without_an_answer_says_what_happened_to_the_connection():
    with session() as s:
        lease = s.acquire()
        for way, text in (({"reset": True}, "read ECONNRESET.*"), ({"close": True, "after": True}, "socket hang up.*"),
                          ({"truncate": 5}, "the connection to .* was closed in the middle of the answer")):
            s.e.fault(path="process/execute", times=None, **way)
            check_match(s.w.error(s.send_execute(lease, "true"))["message"], text, f"{way}")
            s.e.clear_faults()
        check_match(s.error("AcquireLease", {"runId": "r"}, apiUrl="http://127.0.0.1:1")["message"], r"connect ECONNREFUSED 127\.0\.0\.1:1.*")


@test
def a_create_is_asked_again_only_where_it_was_refused_and_one_that_is_late_says_so():
    rows = (({"status": 429, "headers": {"Retry-After": "0"}}, None), ({"status": 503, "headers": {"Retry-After": "0"}}, None),
            ({"status": 500, "reply": {"message": "m"}}, "m"), ({"status": 502, "reply": {"message": "m"}, "after": True}, "m"),
            ({"status": 409, "reply": {"message": "m"}}, "m"), ({"reset": True, "after": True}, "read ECONNRESET.*"),
            ({"truncate": 9}, "the connection to .* was closed in the middle of the answer"), ({"status": 408}, CREATE_LATE), ({"status": 504}, CREATE_LATE), ({"stall": True}, CREATE_LATE),
            ({"stall": True, "after": True}, CREATE_LATE))
    with session() as s:
        s.e.faults(rules(rows, "/api/sandbox$", "POST"))
        keys = [s.send("AcquireLease", {"runId": "r"}, environment=f"env-{number}", timeoutMs=1000) for number in range(len(rows))]
        kept = []
        for number, (key, (way, text)) in enumerate(zip(keys, rows)):
            answer = s.w.answer(key)
            check_equal(asked(s, "POST", "/api/sandbox", f"env-{number}"), 1 if text else 2, f"creations with {way}")
            if text:
                check_match(answer["error"]["message"], text, f"{way}")
            else:
                kept.append(answer["result"]["providerLeaseId"])
        check_equal(sorted(s.e.live()), sorted(kept))


@test
def a_start_that_fails_or_is_late_says_which_state_and_why():
    with session() as s:
        for state, plan, recoverable, text in (
                ("stopped", {"start": ["starting", "error"]}, False, "Sandbox <id> failed to start with status: error, error reason: no disk"),
                ("error", {"recover": ["starting", "build_failed"]}, True, "Sandbox <id> failed to start with status: build_failed, error reason: no disk"),
                ("stopped", {"start": ["starting"] * FOR_EVER}, False, "Sandbox failed to become ready within the timeout period"),
                ("archived", {"restore": ["restoring"] * FOR_EVER}, False, "Sandbox failed to become ready within the timeout period")):
            sandbox = s.sandbox()
            s.e.behave(plans=plan, errorReason="no disk")
            s.e.set_state(sandbox, state, recoverable=recoverable)
            check_equal(s.error("ResumeLease", {"providerLeaseId": sandbox}, timeoutMs=1000)["message"], text.replace("<id>", sandbox))
            check(sandbox in s.e.live(), "it stays")
            s.e.behave()
            s.e.set_state(sandbox, "stopped")
            check_equal(s.lease_call("DestroyLease", sandbox), None)


@test
def a_stop_that_fails_or_is_late_says_why_and_the_sandbox_is_deleted():
    with session() as s:
        for plan, text in ((["stopping", "error"], "Sandbox failed to stop with status: error, error reason: no disk"),
                           (["stopping"] * 12 + ["paused"], "Sandbox failed to become stopped within the timeout period")):
            s.e.behave(plans={"stop": plan}, errorReason="no disk")
            sandbox = s.sandbox()
            got = s.lease_call("ReleaseLease", sandbox, {"cancelActiveWork": True}, reuseLease=True, timeoutMs=1000)
            check_equal(got, {"providerLeaseId": sandbox, "state": "destroyed"})
            warning = s.w.notes[-1]["params"]
            check_equal((warning["level"], warning["message"]), ("warn", f"Daytona sandbox {sandbox} could not be stopped and is deleted instead: {text}"))
            s.no_live()


@test
def a_snapshot_that_is_late_says_so():
    with session() as s:
        s.e.behave(plans={"capture": ["snapshotting"] * FOR_EVER})
        sandbox = s.sandbox()
        check_equal(s.error("CaptureTemplate", {"providerLeaseId": sandbox}, timeoutMs=1000)["message"],
                    "Sandbox snapshot did not complete within the timeout period")


@test
def an_answer_with_another_sandbox_is_an_error():
    with session() as s:
        sandbox = s.sandbox()
        s.e.fault(method="GET", path="/api/sandbox/", merge={"id": "another"})
        check_equal(s.w.error(s.send_execute(sandbox, "true", environment="env-2"))["message"],
                    f"Daytona sandbox handle mismatch: handle another does not belong to lease {sandbox}.")


@test
def not_found_is_an_error_where_it_does_not_end_the_lease():
    with session() as s:
        for method, more in (("Execute", {"command": "true"}), ("RealizeWorkspace", {"workspace": {}})):
            error = s.error(method, {"lease": {"providerLeaseId": "none", "metadata": {}}, **more})
            check_equal(error["message"], "Sandbox with ID or name none not found")


@test
def a_whole_life_keeps_its_connection():
    with session() as s:
        before = s.e.state()["connections"]["total"]
        lease = s.acquire()
        for _ in range(3):
            check_equal(s.execute(lease, "cat", [], {"stdin": "x"}), result(stdout="x"))
        s.lease_call("DestroyLease", lease)
        total = s.e.state()["connections"]["total"] - before
        # One for short calls and one for commands; those of the tests themselves are two.
        check(total <= 4, f"{total} connections")


@test
def a_session_ends_with_its_lease():
    with session() as s:
        for more in ({}, {"reuseLease": True}):
            lease = s.acquire(useSessions=True, **more)
            check_equal(s.execute(lease, "echo", ["x"], useSessions=True, **more), result(stdout="x\n"))
            s.lease_call("ReleaseLease", lease, useSessions=True, **more)
            s.e.wait_for(lambda e: e.state()["running"] == 0, "no session is left")
        check_equal(len([request for request in s.e.requests("DELETE") if "/process/session/" in request["path"]]), 1, "sessions deleted by name")
        lease = s.lease_call("ResumeLease", lease, {"leaseMetadata": {"workspaceSentinel": {}}}, useSessions=True, reuseLease=True)
        check_equal(lease["metadata"]["workspaceSentinel"]["result"], "missing")


main()
