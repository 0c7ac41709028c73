#!/usr/bin/python3
"""Whatever step of a lease's life fails, and however: what lives at the service afterwards is what the host was told of. The cases of a
table run at once, each in a sandbox of its own: a fault is found by the name of its case in the call."""

from driver import session
from harness import check, check_equal, check_match, main, test

# Each twice where it makes a difference: the service has carried the call out, or it has not.
LOST = [{"reset": True}, {"reset": True, "after": True}, {"rst": 2}, {"rst": 8, "after": True}, {"goaway": 0}, {"goaway": 2, "after": True},
        {"end": True}, {"end": True, "after": True}, {"half": True}, {"empty": True}, {"empty": True, "after": True}, {"compressed": True},
        {"garbage": True}, {"http": 502}, {"http": 503, "after": True}]
REFUSED = [{"status": [code, f"no luck {code}"]} for code in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)]
WAYS = LOST + REFUSED + [{"status": [14, "lost"], "after": True}, {"status": [13, "lost"], "after": True}]
# Steps of an acquire that come after the sandbox is there. What the case is called by comes with the create alone: these are hit one by one.
LATER = ["SandboxTagsSet", "SandboxGetTaskId", "TaskGetCommandRouterAccess", "TaskExecStart", "TaskExecWait"]


def acquire_all(s, cases):
    """The answers of acquires that run at once, one a case, each with its fault in SandboxCreate."""
    s.e.behave(idle=True)
    for n, (way, times) in enumerate(cases):
        s.e.fault(rpc="SandboxCreate", body=f'case-{n}"', times=times, **way)
    return [s.w.answer(s.send_acquire({"runId": f"case-{n}"}, environment=f"env-{n}")) for n in range(len(cases))]


def check_answers(s, answers, what):
    leases = [answer["result"]["providerLeaseId"] for answer in answers if "result" in answer]
    for answer in answers:
        check("result" in answer or answer["error"]["message"].strip(), f"an error without a word: {answer}")
    check_equal(sorted(s.e.live()), sorted(leases), what)
    return leases


@test
def a_creation_that_fails_in_any_way_once_leaves_what_was_answered():
    with session() as s:
        answers = acquire_all(s, [(way, 1) for way in WAYS])
        leases = check_answers(s, answers, "sandboxes after one failure each")
        check(len(leases) >= len(LOST) // 2, f"too few of them succeeded: {len(leases)}")


@test
def a_creation_that_fails_more_often_than_it_is_repeated_leaves_nothing():
    with session() as s:
        answers = acquire_all(s, [(way, 4) for way in LOST + [{"status": [14, "lost"], "after": True}]])
        s.e.wait_for(lambda m: len(m.live()) == sum("result" in answer for answer in answers), "nothing else lives")
        check_answers(s, answers, "sandboxes after four failures each")


@test
def a_creation_that_is_not_answered_in_time_leaves_nothing():
    with session() as s:
        keys = []
        for n, way in enumerate(({"stall": True}, {"stall": True, "after": True}, {"delayMs": 3000})):
            s.e.fault(rpc="SandboxCreate", body=f'case-{n}"', **way)
            keys.append(s.send_acquire({"runId": f"case-{n}"}, environment=f"env-{n}", timeoutMs=1))
        s.e.wait_for(lambda m: len(m.requests("SandboxCreate")) >= 3, "the creations are under way")
        # The host goes away: its worker ends with everything it has begun.
        check_equal(s.w.call("shutdown"), None)
        s.w.wait_end()
        for key in keys:
            s.w.asked.pop(key, None)
        s.e.clear_faults()
        s.e.wait_for(lambda m: not m.live(), "nothing lives")


@test
def each_later_step_that_fails_leaves_no_sandbox():
    with session() as s:
        for rpc in LATER:
            for way in ({"status": [7, "no"]}, {"garbage": True}, {"empty": True}):
                s.e.fault(rpc=rpc, **way)
                answer = s.w.answer(s.send_acquire())
                check(rpc == "SandboxTagsSet" or "error" in answer, f"{rpc} {way}: {answer}")
                lease = answer.get("result", {}).get("providerLeaseId")
                check_equal(s.e.live(), [lease] if lease else [], f"after {rpc} {way}")
                if lease:
                    s.lease_call("DestroyLease", lease)
            s.e.fault(rpc=rpc, reset=True)
            s.lease_call("DestroyLease", s.acquire())
            s.no_live()


@test
def a_sandbox_that_is_dead_from_the_start_is_an_error():
    with session() as s:
        s.e.fault(rpc="SandboxGetTaskId", answer={"task_id": "ta-1", "task_result": {"status": 2, "exception": "no capacity"}})
        check_match(s.error("AcquireLease", {"runId": "r"})["message"], r'Sandbox sb-\w+ has already completed with result: exception:"no capacity"')
        s.no_live()
        s.e.fault(rpc="SandboxGetTaskId", answer={"task_id": "ta-1", "task_result": {"status": 1}})
        check_match(s.call("Probe")["metadata"]["error"], r"Sandbox sb-\w+ has already completed")
        s.no_live()


@test
def an_end_that_fails_at_first_is_repeated():
    with session() as s:
        cases = [(method, way) for method in ("ReleaseLease", "DestroyLease") for way in ({"reset": True}, {"reset": True, "after": True},
                 {"status": [14, ""]}, {"status": [13, ""], "after": True}, {"end": True}, {"status": [8, ""]}, {"http": 503}, {"goaway": 1})]
        leases = [s.w.result(key)["providerLeaseId"] for key in [s.send_acquire(environment=f"env-{n}") for n in range(len(cases))]]
        for lease, (_, way) in zip(leases, cases):
            s.e.fault(rpc="SandboxTerminate", body=lease, times=2, **way)
        keys = [s.send(method, {"providerLeaseId": lease}, environment=f"env-{n}") for n, (lease, (method, _)) in enumerate(zip(leases, cases))]
        check_equal([s.w.result(key) for key in keys], [None] * len(cases))
        s.no_live()
        for n, lease in enumerate(leases):
            check_equal(s.lease_call("DestroyLease", lease, environment=f"env-{n}"), None)


@test
def an_end_that_is_refused_for_good_is_an_error_and_can_be_asked_for_again():
    with session() as s:
        lease = s.acquire()["providerLeaseId"]
        s.e.fault(rpc="SandboxTerminate", status=[7, "not yours"])
        error = s.error("DestroyLease", {"providerLeaseId": lease})
        check_equal((error["code"], error["message"]), (7, "/modal.client.ModalClient/SandboxTerminate PERMISSION_DENIED: not yours"))
        s.lease_call("DestroyLease", lease)
        s.no_live()


@test
def a_sandbox_that_the_service_forgot_is_released_without_an_error():
    with session() as s:
        for method in ("ReleaseLease", "DestroyLease"):
            lease = s.acquire()
            s.e.forget(lease["providerLeaseId"])
            check_equal(s.lease_call(method, lease, {"cancelActiveWork": True})["state"], "destroyed")


@test
def a_probe_leaves_nothing_whatever_fails():
    with session() as s:
        for rpc in ["SandboxCreate", *LATER, "TaskExecStdioRead"]:
            for way in ({"status": [7, "no"]}, {"reset": True, "after": True}, {"garbage": True}):
                s.e.fault(rpc=rpc, **way)
                got = s.call("Probe")
                check(got["ok"] or got["metadata"].get("error"), f"{rpc} {way}: {got}")
                s.no_live()
                s.e.clear_faults()


@test
def a_resume_that_fails_leaves_the_sandbox_alone_and_doubt_is_an_error():
    with session() as s:
        lease = s.acquire(reuseLease=True)["providerLeaseId"]
        for rpc, way in (("SandboxWait", {"status": [7, "no"]}), ("SandboxWait", {"http": 403}), ("SandboxWait", {"empty": True}),
                         ("TaskGetCommandRouterAccess", {"status": [9, "no"]}), ("TaskExecStart", {"status": [3, "no"]})):
            s.e.fault(rpc=rpc, **way)
            error = s.error("ResumeLease", {"providerLeaseId": lease}, reuseLease=True, environment="env-2")
            check(error["message"], "no text")
            check_equal(s.e.live(), [lease])
        s.e.fault(rpc="SandboxWait", status=[14, "x"], times=None)
        check("UNAVAILABLE" in s.error("ResumeLease", {"providerLeaseId": lease}, reuseLease=True, environment="env-2")["message"], "the status")
        s.e.clear_faults()


main()
