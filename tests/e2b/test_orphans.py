#!/usr/bin/python3
"""Whatever step of a lease's life fails, and however: what lives at the service afterwards is what the host was told of.

All cases of a table run at once in one worker. A case is known by its template, which the emulator's faults go by.
"""

import time

from driver import Novita, session
from harness import check, check_equal, main, test

CONFIG = {"requestTimeoutMs": 2500}
LIMIT_S = 60

ERROR = {"code": 500, "message": "no luck"}
LOST = [{"close": True}, {"close": True, "after": True}, {"reset": True}, {"reset": True, "after": True}, {"truncate": 9}, {"stall": True},
        {"stall": True, "after": True}, {"stallBody": 5}]
ANSWERS = [{"status": status, "reply": {"code": status, "message": "no luck"}} for status in (400, 401, 403, 404, 409, 429, 500, 502, 503)]
NONSENSE = [{"status": 200, "reply": "<html>Log in</html>"}, {"status": 201, "reply": {}}, {"status": 201, "reply": "{", "after": True},
            {"status": 502, "reply": "<html>", "after": True}, {"status": 500, "reply": ERROR, "after": True}, {"status": 504, "after": True}]
WAYS = LOST + ANSWERS + NONSENSE
CREATE = ("POST", "/sandboxes$")
CONNECT = ("POST", "/connect$")
TIMEOUT = ("POST", "/timeout$")
START = ("POST", "Process/Start")
UPLOAD = ("POST", "/files")
REMOVE = ("POST", "Filesystem/Remove")
PAUSE = ("POST", "/pause$")
KILL = ("DELETE", "/sandboxes/")


class Case:
    """s: the session of its driver. Its sandboxes are of a template of its own."""

    def __init__(self, s, number, step, way, times):
        self.s = s
        self.template = f"t{number}"
        self.rule = {"of": self.template, "method": step[0], "path": step[1], "times": times, **way}
        self.name = f"{s.driver}: {self.rule}"
        self.lease = self.key = self.answer = None


def cases(steps, ways=WAYS, times=(1, None)):
    """steps: [(session, step)]"""
    return [Case(s, number, step, way, count) for number, (s, step, way, count) in enumerate(
        (s, step, way, count) for s, step in steps for way in ways for count in times)]


def both(s, *steps, only_e2b=()):
    other = Novita(s.w, s.e)
    return [(s, step) for step in (*steps, *only_e2b)] + [(other, step) for step in steps]


def acquire_all(table):
    keys = [case.s.send("AcquireLease", {"runId": "r", "requestedCwd": "/tmp"}, template=case.template) for case in table]
    for case, key in zip(table, keys):
        case.lease = case.s.w.result(key)["providerLeaseId"]


def play(s, table, ask):
    """Asks for all at once, each with its fault; then the service is well again."""
    s.e.faults([case.rule for case in table])
    began = time.monotonic()
    for case in table:
        case.key = ask(case)
    for case in table:
        case.answer = s.w.answer(case.key)
        if "error" in case.answer:
            check(case.answer["error"]["message"].strip(), f"an error without a word: {case.name}")
    check(time.monotonic() - began < LIMIT_S, "long after the deadline")
    s.e.clear_faults()


def lives(s):
    """Sandboxes that live, by template."""
    found = {}
    for sandbox in s.e.state()["sandboxes"]:
        found.setdefault(sandbox["templateID"], []).append(sandbox["sandboxID"])
    return found


def bare(lease):
    return lease.partition("-")[0]


@test
def an_acquire_that_fails_in_any_way_leaves_no_sandbox():
    with session() as s:
        table = cases(both(s, CREATE, START, only_e2b=[TIMEOUT]))
        play(s, table, lambda case: case.s.send("AcquireLease", {"runId": "r", "requestedCwd": "/tmp"}, template=case.template, **CONFIG))
        live = lives(s)
        for case in table:
            lease = case.answer.get("result", {}).get("providerLeaseId")
            check_equal(live.get(case.template, []), [bare(lease)] if lease else [], f"live sandboxes after {case.name} and {case.answer}")
            if lease:
                case.s.send("DestroyLease", {"providerLeaseId": lease})
        s.e.wait_for(lambda e: not e.live(), "all are destroyed")


@test
def a_probe_leaves_nothing_whatever_fails():
    with session() as s:
        table = cases(both(s, CREATE, START, only_e2b=[TIMEOUT]), LOST[:6] + ANSWERS[6:], times=(1,))
        play(s, table, lambda case: case.s.send("Probe", template=case.template, requestedCwd="/tmp", **CONFIG))
        for case in table:
            result = case.answer["result"]
            check(result["ok"] or result["metadata"]["error"], f"{case.name}: {result}")
        s.no_live()


@test
def a_resume_or_a_call_in_a_lease_keeps_the_sandbox_whatever_fails():
    with session() as s:
        ways = LOST + [way for way in ANSWERS if way["status"] != 404] + NONSENSE[:1]
        resumes = cases(both(s, CONNECT, TIMEOUT, START), ways)
        calls = cases(both(s, CONNECT, START, UPLOAD, only_e2b=[TIMEOUT, REMOVE]), ways, times=(1,))
        for number, case in enumerate(calls):
            case.template = case.rule["of"] = f"c{number}"
        acquire_all(resumes + calls)

        def ask(case):
            if case in resumes:
                return case.s.send("ResumeLease", {"providerLeaseId": case.lease, "leaseMetadata": {"remoteCwd": "/tmp"}}, template=case.template, **CONFIG)
            return case.s.send_execute(case.lease, "cat", [], {"stdin": "x", "timeoutMs": 20000}, **CONFIG)

        play(s, resumes + calls, ask)
        for case in resumes:
            check_equal(case.answer.get("result", {"providerLeaseId": case.lease})["providerLeaseId"], case.lease, case.name)
        for case in calls:
            if "result" in case.answer:
                got = case.answer["result"]
                check_equal((got["exitCode"], got["timedOut"]), (0, False), f"{case.name}: {got}")
        check_equal(sorted(s.e.live()), sorted(bare(case.lease) for case in resumes + calls))
        s.e.wait_for(lambda e: not e.state()["running"], "no command goes on unseen")


@test
def a_release_or_destroy_without_an_error_has_ended_the_lease_whatever_fails():
    with session() as s:
        ways = LOST + ANSWERS + NONSENSE
        kills, pauses = cases(both(s, KILL), ways), cases(both(s, PAUSE), ways)
        for number, case in enumerate(pauses):
            case.template = case.rule["of"] = f"p{number}"
        acquire_all(kills + pauses)
        play(s, kills + pauses, lambda case: case.s.send("ReleaseLease" if case in pauses or case.rule["times"] else "DestroyLease", {
            "providerLeaseId": case.lease, "cancelActiveWork": True}, reuseLease=case in pauses, **CONFIG))
        live, paused = lives(s), s.e.state()["paused"]
        for case in kills + pauses:
            if "error" in case.answer:
                continue
            check_equal(case.answer["result"]["providerLeaseId"], case.lease, case.name)
            left = live.get(case.template, [])
            if case.answer["result"]["state"] == "stopped":
                check(bare(case.lease) in paused or case.rule.get("status") in (200, 201, 409), f"{case.name}: not paused")
            elif case.rule.get("status") not in (200, 201, 404, 409):  # the service itself said so
                check_equal(left, [], case.name)
        for case in kills + pauses:
            check_equal(case.s.lease_call("DestroyLease", case.lease), None, case.name)
        s.no_live()


@test
def a_service_that_ignores_the_filter_loses_no_sandbox_of_another():
    with session() as s:
        s.e.behave(ignoresFilter=True, page=1)
        leases = {s.acquire() for _ in range(3)}
        s.e.fault(method="POST", path="/v2/sandboxes$", reset=True, after=True)
        s.error("AcquireLease", {"runId": "r"})
        check_equal(set(s.e.live()), leases)


@test
def a_create_that_is_answered_after_a_refusal_leaves_one_sandbox():
    with session() as s:
        s.e.fault(method="POST", path="/v2/sandboxes$", status=503, after=True)
        lease = s.acquire()
        check_equal(s.e.live(), [lease])


@test
def kills_that_fail_at_first_are_repeated():
    with session() as s:
        table = cases(both(s, KILL), LOST[:5] + [{"status": 429}, {"status": 500}, {"status": 502, "reply": "<html>"}, {"status": 503},
                                                 {"status": 409, "reply": {"code": 409, "message": "is being killed"}, "after": True}], times=(2,))
        acquire_all(table)
        play(s, table, lambda case: case.s.send("DestroyLease", {"providerLeaseId": case.lease}))
        check_equal([case.answer for case in table if "error" in case.answer], [])
        s.no_live()


@test
def a_kill_that_is_refused_for_good_is_an_error_and_can_be_asked_for_again():
    with session() as s:
        lease = s.acquire()
        s.e.fault(method="DELETE", path="/sandboxes/", status=403, reply={"code": 403, "message": "not yours"})
        check_equal(s.error("DestroyLease", {"providerLeaseId": lease}), "403: not yours")
        check_equal([note["params"]["message"] for note in s.w.notes], ["Failed to kill E2B sandbox during lease destroy: 403: not yours"])
        s.lease_call("DestroyLease", lease)
        s.no_live()


@test
def a_worker_that_is_shut_down_in_a_create_leaves_no_sandbox():
    with session() as s:
        s.e.fault(method="POST", path="/v2/sandboxes$", delayMs=700)
        key = s.send("AcquireLease", {"runId": "r"})
        s.e.wait_for(lambda e: e.requests("POST", "/v2/sandboxes"), "the request is there")
        s.w.shutdown()
        check("error" in s.w.answer(key), "no lease was answered")
        s.no_live()


main()
