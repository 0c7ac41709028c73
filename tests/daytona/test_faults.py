#!/usr/bin/python3
"""Every request of every operation fails in every way: what lives at the service afterwards is what the host was told of, and the answer is
right and in time. Each case has an environment of its own; they all run at once, in one worker."""

import re
import time

from driver import session
from harness import check, check_equal, main, test

REUSE = {"reuseLease": True}
AGENT = {"agentId": "a", "executionWorkspaceId": "w"}
SLACK_S = 60

# What the service does not learn of, what it carries out although the answer does not come, and what comes instead of the answer.
WAYS = {
    "closes": {"close": True},
    "closes after it": {"close": True, "after": True},
    "resets": {"reset": True},
    "resets after it": {"reset": True, "after": True},
    "cuts the answer": {"truncate": 9},
    "stalls": {"stall": True},
    "stalls after it": {"stall": True, "after": True},
    "stalls in the answer": {"stallBody": 5},
    "answers with a login page": {"status": 200, "reply": "<html>Log in</html>"},
    "answers nothing": {"status": 200, "reply": ""},
    "answers {}": {"status": 200, "reply": {}},
    "answers 502 in HTML after it": {"status": 502, "reply": "<html>", "after": True},
    "answers 429 once": {"status": 429, "headers": {"Retry-After": "0"}, "reply": {"message": "no luck"}},
    **{f"answers {status}": {"status": status, "reply": {"message": "no luck"}}
       for status in (400, 401, 403, 404, 408, 409, 410, 422, 500, 502, 503, 504)},
}
FOR_EVER = {f"always {name}": {**WAYS[name], "times": None} for name in
            ("closes", "resets after it", "cuts the answer", "answers with a login page", "answers 401", "answers 404", "answers 429 once",
             "answers 500", "answers 503")}


class Case:
    def __init__(self, number, operation, step, way, fault):
        self.environment = f"case-{number}"
        self.operation = operation
        self.name = f"{operation.__name__}: {step[0]} {step[1]} {way}"
        self.rule = {"of": self.environment, "method": step[0], "path": step[1], **fault}
        self.lease = None
        self.key = None


def live_of(state, case):
    return [box for box, (environment, now) in state["places"].items() if environment == case.environment and now not in ("destroying", "destroyed")]


def message_of(case, answer):
    return f"{case.name}: {answer}"


class Operation:
    """before: the config of the lease that is there when the operation starts; None: none."""
    config = {}
    before = None
    always = False  # also with faults that do not end

    def __init__(self, s):
        self.s = s

    def base(self, case):
        return {**self.s.base(case.environment, **{"timeoutMs": 1000, **self.config})}

    def prepare(self, case):
        if self.before is not None:
            return self.s.w.send("environmentAcquireLease", {**self.s.base(case.environment, **self.before), "runId": "r", **AGENT})
        return None

    def lease_id(self, case):
        return case.lease["providerLeaseId"]

    def send(self, case):
        raise NotImplementedError

    def judge(self, case, answer, live):
        raise NotImplementedError


class Acquire(Operation):
    config = {**REUSE, "snapshot": ..., "image": "node:20"}
    always = True
    steps = [("POST", "/api/sandbox$"), ("GET", "/api/sandbox/"), ("GET", "/work-dir"), ("POST", "/files/folder"), ("POST", "/process/execute"),
             ("POST", "/files/bulk-upload")]

    def send(self, case):
        return self.s.w.send("environmentAcquireLease", {**self.base(case), "runId": "r", **AGENT})

    def judge(self, case, answer, live):
        lease = answer.get("result", {}).get("providerLeaseId")
        check_equal(live, [lease] if lease else [], message_of(case, answer))


class StartSetup(Operation):
    always = True
    steps = [("POST", "/api/sandbox$"), ("GET", "/work-dir"), ("POST", "/ssh-access")]

    def send(self, case):
        return self.s.w.send("environmentStartInteractiveSetup", {**self.base(case), "sessionId": "s"})

    judge = Acquire.judge


class Probe(Operation):
    always = True
    steps = [("POST", "/api/sandbox$"), ("GET", "/api/sandbox/"), ("GET", "/work-dir"), ("POST", "/files/folder"), ("POST", "/process/execute")]

    def send(self, case):
        return self.s.w.send("environmentProbe", self.base(case))

    def judge(self, case, answer, live):
        check_equal(live, [], message_of(case, answer))
        result = answer["result"]
        check(result["ok"] or result["metadata"]["error"].strip(), message_of(case, answer))


class Resume(Operation):
    """What fails before the sandbox was looked into leaves it; what fails in its setup deletes it; a wrong sentinel leaves it."""
    config = before = REUSE
    steps = [("GET", "/api/sandbox/"), ("GET", "/work-dir"), ("POST", "/files/folder"), ("POST", "/process/execute")]

    def send(self, case):
        return self.s.w.send("environmentResumeLease", {**self.base(case), "providerLeaseId": self.lease_id(case),
                                                        "leaseMetadata": case.lease["metadata"]})

    def judge(self, case, answer, live):
        if "error" in answer:
            check(live in ([], [self.lease_id(case)]), message_of(case, answer))
        elif answer["result"]["providerLeaseId"]:
            check_equal(live, [self.lease_id(case)], message_of(case, answer))
        else:
            check(answer["result"]["metadata"]["expired"], message_of(case, answer))
            if "workspaceSentinel" not in answer["result"]["metadata"]:
                check_equal(case.rule.get("status"), 404, message_of(case, answer))


class Release(Operation):
    """An answer without an error: it is gone."""
    before = {}
    method = "environmentReleaseLease"
    steps = [("GET", "/api/sandbox/"), ("DELETE", "/api/sandbox/")]

    def send(self, case):
        return self.s.w.send(self.method, {**self.base(case), "providerLeaseId": self.lease_id(case), "cancelActiveWork": True})

    def judge(self, case, answer, live):
        if "error" in answer:
            return
        check_equal(answer["result"]["providerLeaseId"], self.lease_id(case), message_of(case, answer))
        if case.rule.get("status") != 404:
            check_equal(live, [], message_of(case, answer))


class Destroy(Release):
    method = "environmentDestroyLease"


class ReleaseToReuse(Release):
    """Stopped, or else deleted; the host is told which."""
    config = before = REUSE
    steps = [("GET", "/api/sandbox/"), ("POST", "/stop")]

    def judge(self, case, answer, live):
        if "error" in answer or case.rule["method"] == "GET" and case.rule.get("status") == 404:
            return
        state = (answer["result"] or {}).get("state")
        check_equal(live, [self.lease_id(case)] if state == "stopped" else [], message_of(case, answer))
        check(state in ("stopped", "destroyed"), message_of(case, answer))


class ReleaseToArchive(ReleaseToReuse):
    config = before = {"archiveOnRelease": True}
    steps = [("POST", "/stop"), ("POST", "/autodelete/"), ("POST", "/archive")]


class Stays(Operation):
    """Whatever happens to the call, the sandbox stays."""
    before = {}

    def judge(self, case, answer, live):
        check_equal(live, [self.lease_id(case)], message_of(case, answer))


class Realize(Stays):
    steps = [("POST", "/files/folder")]

    def send(self, case):
        return self.s.w.send("environmentRealizeWorkspace", {**self.base(case), "lease": {
            "providerLeaseId": self.lease_id(case), "metadata": case.lease["metadata"]}, "workspace": {}})


class Execute(Stays):
    steps = [("POST", "/files/bulk-upload"), ("POST", "/process/execute"), ("DELETE", "/files")]

    def send(self, case):
        return self.s.send_execute(case.lease, "cat", [], {"stdin": "x"}, environment=case.environment, timeoutMs=1000)

    def judge(self, case, answer, live):
        super().judge(case, answer, live)
        if "result" in answer:
            got = answer["result"]
            check(got["timedOut"] or (got["exitCode"], got["stdout"]) == (0, "x"), message_of(case, answer))


class ExecuteInSession(Execute):
    config = {"useSessions": True}
    steps = [("POST", "/process/session$"), ("POST", "/exec$"), ("GET", "/command/[^/]*$"), ("GET", "/logs$")]

    def send(self, case):
        return self.s.send_execute(case.lease, "printf", ["x"], environment=case.environment, timeoutMs=2000, **self.config)

    def judge(self, case, answer, live):
        Stays.judge(self, case, answer, live)
        if "result" in answer:
            got = answer["result"]
            check(got["timedOut"] or (got["exitCode"], got["stdout"]) == (0, "x\n"), message_of(case, answer))


class Cancel(Release):
    steps = [("DELETE", "/api/sandbox/")]

    def send(self, case):
        return self.s.w.send("environmentCancelInteractiveSetup", {**self.base(case), "providerLeaseId": self.lease_id(case)})

    def judge(self, case, answer, live):
        if "result" in answer and case.rule.get("status") != 404:
            check_equal((answer["result"]["status"], live), ("cancelled", []), message_of(case, answer))


class Capture(Stays):
    steps = [("POST", "/snapshot$")]

    def send(self, case):
        return self.s.w.send("environmentCaptureTemplate", {**self.base(case), "providerLeaseId": self.lease_id(case)})


class Stuck:
    """Beside the cases: the service refuses to delete what is being built, for as long as the worker tries."""

    def __init__(self, s):
        self.s = s
        s.e.behave(plans={"image": ["pending_build"] + ["building_snapshot"] * 5000})
        self.key = s.send("AcquireLease", {"runId": "r"}, environment="stuck", snapshot=..., image="node:20", timeoutMs=900)

    def finish(self):
        """The one sandbox that the worker has to say of that it could not delete it."""
        error = self.s.w.error(self.key)
        check_equal(error["message"], "Failed to create and start sandbox within 1 seconds. Operation timed out.")
        left = {box for box, (environment, _) in self.s.e.state()["places"].items() if environment == "stuck"}
        check_equal(len(left), 1, "sandboxes that are being built")
        for box in left:
            self.s.e.set_state(box, "stopped")
        return left


def play(operations, beside=None):
    with session() as s:
        beside = beside and beside(s)
        cases, prepared = [], []
        for kind in operations:
            operation = kind(s)
            ways = {**WAYS, **FOR_EVER} if operation.always else WAYS
            for step in operation.steps:
                for way, fault in ways.items():
                    cases.append(Case(len(cases), kind, step, way, fault))
                    prepared.append(operation)
        keys = [operation.prepare(case) for case, operation in zip(cases, prepared)]
        for case, key in zip(cases, keys):
            if key is not None:
                case.lease = s.w.result(key)
        s.e.faults([case.rule for case in cases])
        started = time.monotonic()
        for case, operation in zip(cases, prepared):
            case.key = operation.send(case)
        for case in cases:
            case.answer = s.w.answer(case.key, limit_s=120)
            if "error" in case.answer:
                check(case.answer["error"]["message"].strip(), f"{case.name}: an error without a word")
        check(time.monotonic() - started < SLACK_S, "long after the deadlines")
        stuck = beside.finish() if beside else set()
        state = s.e.state()
        lost = {re.search(r"sandbox (\S+) could not be deleted", note["params"]["message"])[1] for note in s.w.notes
                if "could not be deleted" in note["params"]["message"]}
        check_equal(lost, stuck, "what the worker could not delete")
        for case, operation in zip(cases, prepared):
            operation.judge(case, case.answer, live_of(state, case))
        # Without faults whatever is left can be destroyed, twice.
        s.e.clear_faults()
        for _ in range(2):
            keys = [s.w.send("environmentDestroyLease", {**s.base(environment), "providerLeaseId": box})
                    for box, (environment, _) in state["places"].items()]
            for key in keys:
                check_equal(s.w.result(key), None)
        s.no_live()


@test
def whatever_fails_an_acquire_a_setup_or_a_probe_leaves_what_it_answers_and_nothing_else():
    play([Acquire, StartSetup, Probe])


@test
def whatever_fails_a_lease_is_not_lost_until_it_ends_and_then_it_has_ended():
    play([Resume, Realize, Execute, ExecuteInSession, Capture, Release, Destroy, ReleaseToReuse, ReleaseToArchive, Cancel], beside=Stuck)


main()
