#!/usr/bin/python3
"""Whatever request of a lease's life fails, and however: the answer is the right one, and what lives is what the host was told of."""

import time

from driver import session
from harness import check, check_equal, main, test

# The bridge never learns of the request, or carries it out and its answer is lost.
BEFORE = [{"close": True}, {"reset": True}, {"stall": True}] + [
    {"status": status, "reply": {"message": "no luck"}} for status in (400, 401, 403, 429, 500, 502, 503, 504)] + [
    {"status": 502, "reply": "<html>"}, {"status": 200, "reply": "<html>Log in</html>"}, {"status": 200, "reply": []}]
AFTER = [{"close": True, "after": True}, {"reset": True, "after": True}, {"stall": True, "after": True}, {"truncate": 5}, {"stallBody": 5},
         {"status": 502, "reply": "<html>", "after": True}]
LIMIT_MS = 1500


def broken(s, path, ways, send):
    """Sends for each way, all at once; [(way, run, answer)]. The run's name is in the body or path that the fault looks for."""
    keys = []
    started = time.monotonic()
    for at, way in enumerate(ways):
        run = f"case{at}x"
        s.e.fault(**{path: run}, times=None, **way)
        keys.append((way, run, send(run)))
    answers = [(way, run, s.w.answer(key)) for way, run, key in keys]
    check(time.monotonic() - started < LIMIT_MS / 1000 + 30, "long after the deadline")
    s.e.clear_faults()
    return answers


@test
def an_acquire_that_fails_is_an_error_and_says_so_if_a_sandbox_may_be_left():
    with session() as s:
        answers = broken(s, "body", BEFORE + AFTER, lambda run: s.send("AcquireLease", {"runId": run}, bridgeRequestTimeoutMs=LIMIT_MS))
        notes = [note["params"]["message"] for note in s.w.notes if "was lost" in note["params"].get("message", "")]
        left = s.e.live()
        for way, run, answer in answers:
            check(answer["error"]["message"].strip(), f"{way}: {answer}")
            if any(sandbox.startswith(f"pc-{run}-") for sandbox in left):
                check(any(f"pc-{run}-" in note for note in notes), f"{way}: nobody was told of a sandbox that is left")
            if way.get("status") in (400, 401, 403, 429, 500):
                check(not any(f"pc-{run}-" in note for note in notes), f"{way}: a refusal is no loss")
        check_equal(len(left), len(AFTER), "only lost answers leave a sandbox, which goes to sleep by itself")


@test
def an_acquire_that_the_bridge_refuses_leaves_nothing():
    with session() as s:
        error = s.error("AcquireLease", {"runId": "r", "requestedCwd": "/proc/x/y"})
        check("ensure workspace /proc/x/y failed with exit code 1: mkdir: " in error["message"], error)
        s.no_live()


@test
def a_sandbox_made_for_a_worker_that_is_shut_down_is_destroyed():
    with session() as s:
        s.e.fault(path="/acquire", delayMs=1500)
        key = s.send("AcquireLease", {"runId": "r"})
        s.e.wait_for(lambda b: b.live(), "the bridge has made it")
        check_equal(s.w.shutdown(), 0)
        check("error" in s.w.answer(key), "no lease")
        s.no_live()


@test
def a_lost_acquire_of_a_reused_sandbox_is_found_by_the_next():
    with session() as s:
        more = {"reuseLease": True, "keepAlive": True}
        s.e.fault(path="/acquire", truncate=9)
        check(s.error("AcquireLease", {"runId": "r"}, **more)["message"], "an error")
        check_equal(s.e.live(), [s.acquire(**more)])


@test
def a_release_or_destroy_that_fails_is_an_error_and_can_be_asked_for_again():
    for method, path in (("ReleaseLease", "body"), ("DestroyLease", "path")):
        with session() as s:
            ways = BEFORE + AFTER
            leases = {}

            def send(run):
                return s.send(method, {"providerLeaseId": leases[run], "cancelActiveWork": method == "DestroyLease"}, bridgeRequestTimeoutMs=LIMIT_MS)

            for at in range(len(ways)):
                leases[f"case{at}x"] = s.acquire(f"case{at}x")
            for way, run, answer in broken(s, path, ways, send):
                check("error" in answer, f"{method} {way}: {answer}")
                got = s.lease_call(method, leases[run], {"cancelActiveWork": True})
                check_equal(got, {"providerLeaseId": leases[run], "state": "destroyed"}, f"{way}")
            s.no_live()


@test
def a_resume_that_fails_is_an_error_that_leaves_the_sandbox_and_not_found_is_none():
    with session() as s:
        ways = BEFORE + AFTER
        leases = {f"case{at}x": s.acquire(f"case{at}x") for at in range(len(ways))}
        answers = broken(s, "body", ways, lambda run: s.send("ResumeLease", {"providerLeaseId": leases[run]}, bridgeRequestTimeoutMs=LIMIT_MS))
        for way, run, answer in answers:
            check("error" in answer, f"{way}: {answer}")
            check_equal(s.lease_call("ResumeLease", leases[run])["providerLeaseId"], leases[run])
        check_equal(s.e.live(), sorted(leases.values()))


@test
def a_realize_or_command_that_fails_is_an_error_and_is_not_sent_twice():
    with session() as s:
        lease = s.acquire()
        for send in (lambda run: s.send("RealizeWorkspace", {"lease": {"providerLeaseId": lease, "metadata": {"remoteCwd": f"/workspace/{run}"}},
                                                             "workspace": {}}, bridgeRequestTimeoutMs=LIMIT_MS, timeoutMs=100),
                     lambda run: s.send_plain(lease, "sh", ["-c", "true", run], {"timeoutMs": 100}, bridgeRequestTimeoutMs=LIMIT_MS)):
            since = len(s.e.requests())
            for way, run, answer in broken(s, "body", BEFORE + AFTER, send):
                check("error" in answer, f"{way}: {answer}")
            is_command = any("-bridge" in request["body"] for request in s.e.requests(since=since))
            if is_command:
                check_equal(len(s.e.requests(since=since)), len(BEFORE + AFTER), "requests")
        check_equal(s.e.live(), [lease])


@test
def a_probe_leaves_nothing_whatever_fails():
    with session() as s:
        ways = BEFORE + AFTER
        for way, _, answer in broken(s, "body", ways, lambda run: s.send("Probe", requestedCwd=f"/workspace/{run}", bridgeRequestTimeoutMs=LIMIT_MS)):
            got = answer["result"]
            check_equal((got["ok"], got["summary"]), (False, "Cloudflare sandbox bridge probe failed."), f"{way}")
            check(got["metadata"]["error"].strip() and got["diagnostics"], f"{way}: {got}")
        s.no_live()


main()
