#!/usr/bin/python3
"""Whatever step of a lease's life fails, and however: what lives at the service afterwards is what the host was told of.

All cases of a table run at once in one worker. A case is known by its template, which the emulator's faults go by.
"""

import time

from driver import session
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
TIMEOUT = ("POST", "/timeout$")
START = ("POST", "Process/Start")


def cases(steps, ways=WAYS, times=(1, None)):
    return [(f"t{number}", {"method": method, "path": path, "times": count, **way})
            for number, (method, path, way, count) in enumerate(
                (method, path, way, count) for method, path in steps for way in ways for count in times)]


def lives(s):
    """Sandboxes that live, by template."""
    found = {}
    for sandbox in s.e.state()["sandboxes"]:
        found.setdefault(sandbox["templateID"], []).append(sandbox["sandboxID"])
    return found


def answers(s, table, ask):
    """Asks for all at once; the answers by template."""
    s.e.faults([{"of": template, **rule} for template, rule in table])
    began = time.monotonic()
    keys = {template: ask(template) for template, _ in table}
    got = {template: s.w.answer(key) for template, key in keys.items()}
    check(time.monotonic() - began < LIMIT_S, "long after the deadline")
    return got


def all_acquires(driver, steps, **config):
    with session(driver=driver) as s:
        config = {**CONFIG, **config}
        table = cases(steps)
        got = answers(s, table, lambda template: s.send("AcquireLease", {"runId": "r", "requestedCwd": "/tmp"}, template=template, **config))
        s.e.clear_faults()
        live = lives(s)
        for template, rule in table:
            lease = got[template].get("result", {}).get("providerLeaseId")
            bare = lease and lease.partition("-")[0]
            check_equal(live.get(template, []), [bare] if bare else [], f"live sandboxes after {rule} and {got[template]}")
            check(lease or got[template]["error"]["message"].strip(), f"an error without a word: {rule}")
            if lease:
                s.w.send("environmentDestroyLease", {**s.base(**config), "providerLeaseId": lease})
        s.e.wait_for(lambda e: not e.live(), "all are destroyed")


@test
def an_acquire_of_e2b_that_fails_in_any_way_leaves_no_sandbox():
    all_acquires("e2b", [CREATE, TIMEOUT, START])


@test
def an_acquire_of_novita_that_fails_in_any_way_leaves_no_sandbox():
    all_acquires("novita", [CREATE, START])


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
        table = [(template, rule) for template, rule in cases([("DELETE", "/sandboxes/")], LOST[:5] + [
            {"status": 429}, {"status": 500}, {"status": 502, "reply": "<html>"}, {"status": 503}, {"status": 409, "reply": {"code": 409, "message": "is being killed"}, "after": True}], times=(2,))]
        leases = {template: s.acquire(template=template) for template, _ in table}
        got = answers(s, table, lambda template: s.send("DestroyLease", {"providerLeaseId": leases[template]}))
        check_equal([message for message in got.values() if "error" in message], [])
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
def a_probe_leaves_nothing_whatever_fails():
    with session() as s:
        table = cases([CREATE, TIMEOUT, START], LOST[:6] + ANSWERS[6:], times=(1,))
        got = answers(s, table, lambda template: s.send("Probe", template=template, **CONFIG))
        for template, rule in table:
            result = got[template]["result"]
            check(result["ok"] or result["metadata"]["error"], f"{rule}: {result}")
        s.no_live()


@test
def a_resume_keeps_the_sandbox_whatever_fails():
    with session() as s:
        table = cases([("POST", "/connect$"), TIMEOUT, START], LOST + [way for way in ANSWERS if way["status"] != 404] + NONSENSE[:1], times=(1, None))
        leases = {template: s.acquire(template=template) for template, _ in table}
        got = answers(s, table, lambda template: s.send("ResumeLease", {"providerLeaseId": leases[template]}, template=template, **CONFIG))
        for template, rule in table:
            answered = got[template].get("result", {"providerLeaseId": leases[template]})
            check_equal(answered["providerLeaseId"], leases[template], f"{rule}")
        check_equal(sorted(s.e.live()), sorted(leases.values()))


@test
def a_release_that_cannot_pause_leaves_no_sandbox():
    with session() as s:
        table = cases([("POST", "/pause$")], LOST[:5] + ANSWERS[:3] + NONSENSE[3:], times=(None,))
        leases = {template: s.acquire(template=template) for template, _ in table}
        got = answers(s, table, lambda template: s.send("ReleaseLease", {"providerLeaseId": leases[template], "cancelActiveWork": True},
                                                        reuseLease=True, **CONFIG))
        states = {got[template]["result"]["state"] for template, _ in table}
        check(states <= {"stopped", "destroyed"}, f"{states}")
        check_equal(sorted(s.e.live()), sorted(s.e.state()["paused"]))


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
