#!/usr/bin/python3
"""What a sandbox that is not wanted any more may still do, and that it ends all the same (the table of all faults is in test_faults.py)."""

from driver import session
from harness import check, check_equal, main, test

# Each fault twice where it makes a difference: the service has carried the request out, or it has not.
LOSSES = [{"close": True}, {"close": True, "after": True}, {"reset": True}, {"reset": True, "after": True}, {"truncate": 9}]


def play(s, method, path, way, action, times=None):
    """The action with that fault; afterwards the service is well again. Returns the answer."""
    s.e.fault(method=method, path=path, times=times, **way)
    try:
        return action()
    finally:
        s.e.clear_faults()


@test
def an_image_that_cannot_be_built_or_started_leaves_no_sandbox():
    with session() as s:
        for plan, text in ((["pending_build", "build_failed"], "failed to start with status: build_failed, error reason: no such image"),
                           (["pending_build", "building_snapshot", "creating", "error"],
                            "failed to start with status: error, error reason: no such image")):
            s.e.behave(plans={"image": plan}, errorReason="no such image")
            error = s.error("AcquireLease", {"runId": "r"}, snapshot=..., image="none:1")
            check(error["message"].endswith(text), error["message"])
            s.no_live()


@test
def a_start_that_failed_is_cleaned_up_by_name():
    with session() as s:
        s.e.fault(method="POST", path="/api/sandbox$", status=400, reply={"message": "Sandbox failed to start: out of disk"}, after=True)
        error = s.error("AcquireLease", {"runId": "r"})
        check_equal(error["message"], "Sandbox failed to start: out of disk")
        s.no_live()


@test
def one_bad_poll_fails_no_create():
    with session() as s:
        for way in [{"status": 500}, {"status": 429}, {"reset": True}, {"truncate": 5}, {"status": 502, "reply": "<html>"}]:
            lease = play(s, "GET", "/api/sandbox/", way, lambda: s.acquire(snapshot=..., image="node:20"), times=1)
            check_equal(s.e.live(), [lease["providerLeaseId"]])
            s.lease_call("DestroyLease", lease)


@test
def a_sandbox_that_does_not_start_in_time_is_deleted():
    with session() as s:
        s.e.behave(plans={"image": ["pending_build", "building_snapshot", "creating", "stopped"]})
        error = s.error("AcquireLease", {"runId": "r"}, snapshot=..., image="node:20", timeoutMs=900)
        check_equal(error["message"], "Failed to create and start sandbox within 1 seconds. Operation timed out.")
        s.no_live()


@test
def a_delete_that_fails_at_first_is_repeated():
    ways = LOSSES + [{"status": 409}, {"status": 429, "headers": {"Retry-After": "0"}}, {"status": 500}, {"status": 502}, {"status": 503}]
    with session() as s:
        cases = [(f"{method}-{number}", method, way) for method in ("ReleaseLease", "DestroyLease") for number, way in enumerate(ways)]
        keys = [s.send("AcquireLease", {"runId": "r"}, environment=environment) for environment, _, _ in cases]
        leases = [s.w.result(key)["providerLeaseId"] for key in keys]
        s.e.faults([{"of": environment, "method": "DELETE", "path": "/api/sandbox/", "times": 2, **way} for environment, _, way in cases])
        keys = [s.send(method, {"providerLeaseId": lease}, environment=environment) for (environment, method, _), lease in zip(cases, leases)]
        for key, case in zip(keys, cases):
            check_equal(s.w.result(key), None, f"{case}")
        s.no_live()


@test
def a_sandbox_that_is_gone_or_going_is_released_without_an_error():
    with session() as s:
        for method in ("ReleaseLease", "DestroyLease"):
            lease = s.acquire()
            check_equal(play(s, "DELETE", "/api/sandbox/", {"status": 404, "after": True}, lambda: s.lease_call(method, lease), times=1), None)
            for _ in range(3):
                check_equal(s.lease_call(method, lease), None)
            s.no_live()


@test
def a_delete_that_is_refused_for_good_is_an_error_and_can_be_asked_for_again():
    with session() as s:
        lease = s.acquire()
        error = play(s, "DELETE", "/api/sandbox/", {"status": 403, "reply": {"message": "not yours"}},
                     lambda: s.error("DestroyLease", {"providerLeaseId": lease["providerLeaseId"]}))
        check_equal(error["message"], "not yours")
        s.lease_call("DestroyLease", lease)
        s.no_live()


@test
def a_resume_whose_setup_fails_leaves_no_sandbox_and_one_that_could_not_look_leaves_it_alone():
    with session() as s:
        for path in ("/work-dir", "/files/folder"):
            sandbox = s.sandbox("stopped")
            play(s, None, path, {"status": 400, "reply": {"message": "no"}}, lambda: s.error("ResumeLease", {"providerLeaseId": sandbox}))
            s.no_live()
        sandbox = s.sandbox("stopped")
        for method, path in (("GET", "/api/sandbox/"), ("POST", "/start")):
            play(s, method, path, {"status": 500, "reply": {"message": "no"}}, lambda: s.error("ResumeLease", {"providerLeaseId": sandbox}))
            check_equal(s.e.live(), [sandbox])


main()
