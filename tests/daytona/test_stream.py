#!/usr/bin/python3
"""wire: daytona, Sessions, live stream: output arrives while the command runs, and whatever happens to the connection nothing is lost or doubled."""

import os

from driver import result, session
from harness import check, check_equal, main, test

STREAM = {"useSessions": True, "useLogStream": True}
FOLLOW = r"/logs\?follow=true"


def follows(s):
    return [request for request in s.e.requests("GET", "/logs") if request["query"].get("follow") == "true"]


def whole_logs(s):
    return [request for request in s.e.requests("GET", "/logs") if "follow" not in request["query"]]


def step_by_step(s, lease, marks, environment="env-1"):
    """A command that prints one line, and the next one only once the file of that line is there."""
    script = "; ".join(f"echo line {i}; echo err {i} >&2; while [ ! -e {mark} ]; do sleep 0.02; done" for i, mark in enumerate(marks))
    return s.send_execute(lease, "sh", ["-c", script + "; exit 4"], environment=environment, **STREAM)


def marks_of(lease, count):
    return [os.path.join(lease["metadata"]["remoteCwd"], f"mark-{i}") for i in range(count)]


def play(s, key, marks):
    """Each line is seen live before the next one is let go."""
    for i, mark in enumerate(marks):
        s.w.until(lambda: f"line {i}\n" in s.w.live_text(key) and f"err {i}\n" in s.w.live_text(key, "stderr"), f"line {i} live")
        with open(mark, "w", encoding="ascii"):
            pass
    lines = range(len(marks))
    check_equal(s.w.result(key), result(4, "".join(f"line {i}\n" for i in lines), "".join(f"err {i}\n" for i in lines)))


@test
def output_is_sent_while_the_command_runs_with_its_streams_apart():
    with session() as s:
        lease = s.acquire(**STREAM)
        marks = marks_of(lease, 3)
        play(s, step_by_step(s, lease, marks), marks)
        check_equal((len(follows(s)), len(whole_logs(s))), (1, 0), "connections, and readings of the whole log")
        upgrade, = follows(s)
        check_equal((upgrade["headers"]["authorization"], upgrade["headers"]["x-daytona-sdk-version"]), ("Bearer test-key", "0.203.0"))


@test
def a_stream_that_is_lost_goes_on_where_it_was_while_the_command_runs():
    faults = [{"dropStream": 12}, {"closeStream": [12, 1011]}, {"closeStream": [30, 1006]}, {"closeStream": [12, 1000]}]
    with session() as s:
        environments = [f"env-{number}" for number in range(len(faults))]
        leases = [s.acquire(environment=environment, **STREAM) for environment in environments]
        s.e.faults([{"of": environment, "path": FOLLOW, **fault} for environment, fault in zip(environments, faults)])
        marks = [marks_of(lease, 3) for lease in leases]
        keys = [step_by_step(s, *each) for each in zip(leases, marks, environments)]
        for key, each in zip(keys, marks):
            play(s, key, each)
        check_equal((len(follows(s)), len(whole_logs(s))), (2 * len(faults), 0), "connections, and readings of the whole log")


@test
def a_stream_cut_at_any_byte_loses_and_doubles_nothing():
    with session() as s:
        s.e.toolbox(idleLooks=2)
        text = "aü€\x01b\U0001f600\n\x01\x01c\n"
        script = f"printf '%s' '{text}'; printf '%s' '{text}' >&2"
        lease = s.acquire(**STREAM)
        check_equal(s.execute(lease, "sh", ["-c", script], **STREAM), result(0, text, text))
        size = 2 * (len(text.encode()) + 2 * 3)
        rules = [{"path": FOLLOW, **({"dropStream": at} if at % 2 else {"closeStream": [at, 1001]})} for at in range(size + 1)]
        s.e.faults(rules)
        environments = [f"env-{i}" for i in range(8)]
        for _ in range(0, size, 8):
            keys = [s.send_execute(lease, "sh", ["-c", script], environment=environment, **STREAM) for environment in environments]
            for key in keys:
                check_equal(s.w.result(key), result(0, text, text))


@test
def a_stream_that_cannot_be_had_is_replaced_by_polling():
    with session() as s:
        s.e.toolbox(idleLooks=2)
        lease = s.acquire(**STREAM)
        for fault in ({"status": 502}, {"reset": True}, {"close": True}, {"dropStream": 0}, {"status": 200, "reply": "plain"}):
            s.e.fault(path=FOLLOW, times=None, **fault)
            check_equal(s.execute(lease, "sh", ["-c", "echo out; echo err >&2; exit 3"], **STREAM), result(3, "out\n", "err\n"))
            s.e.clear_faults()
        check_equal((len(follows(s)), len(whole_logs(s))), (10, 5), "two connections each, then one reading")


@test
def what_came_before_the_last_connection_was_lost_is_not_sent_again_by_polling():
    with session() as s:
        s.e.toolbox(idleLooks=2)
        lease = s.acquire(**STREAM)
        s.e.faults([{"path": FOLLOW, "dropStream": 20}, {"path": FOLLOW, "status": 502, "times": None}])
        key = s.send_execute(lease, "sh", ["-c", "echo one; echo two; echo three; echo err >&2"], **STREAM)
        check_equal(s.w.result(key), result(0, "one\ntwo\nthree\n", "err\n"))


@test
def an_exit_code_that_comes_after_the_stream_is_waited_for():
    with session() as s:
        s.e.toolbox(idleLooks=2)
        lease = s.acquire(**STREAM)
        s.e.fault(method="GET", path="/command/[^/]*$", times=3, merge={"exitCode": None})
        check_equal(s.execute(lease, "sh", ["-c", "echo out; exit 3"], **STREAM), result(3, "out\n"))
        check_equal((len(follows(s)), len(whole_logs(s))), (1, 0))


@test
def a_streamed_command_past_its_time_is_ended_and_keeps_what_it_printed():
    with session() as s:
        kinds = [("env-1", STREAM), ("env-2", {"useSessions": True})]
        leases = [s.acquire(environment=environment, **config) for environment, config in kinds]
        keys = [s.send_execute(lease, "sh", ["-c", "echo out; echo err >&2; sleep 100000"], {"timeoutMs": 1200}, environment=environment, **config)
                for lease, (environment, config) in zip(leases, kinds)]
        for key, lease, (environment, config) in zip(keys, leases, kinds):
            check_equal(s.w.result(key), result(None, "out\n", "err\nCommand timed out after 1 s.\n", True))
            check_equal(s.execute(lease, "echo", ["next"], environment=environment, **config), result(stdout="next\n"))
        check_equal(s.e.state()["running"], 2, "sessions")


@test
def a_stream_that_says_nothing_of_the_end_is_not_waited_for():
    with session() as s:
        lease = s.acquire(**STREAM)
        s.e.fault(path=FOLLOW, stall=True, times=None)
        check_equal(s.execute(lease, "echo", ["out"], **STREAM), result(stdout="out\n"))


@test
def a_megabyte_is_streamed_whole():
    with session() as s:
        s.e.toolbox(idleLooks=2)
        lease = s.acquire(**STREAM)
        key = s.send_execute(lease, "sh", ["-c", "seq 150000"], **STREAM)
        want = "".join(f"{i}\n" for i in range(1, 150001))
        check(s.w.result(key)["stdout"] == want, "other text")
        check(s.w.live_text(key), "nothing came live")


@test
def a_release_ends_a_streamed_command():
    with session() as s:
        lease = s.acquire(**STREAM)
        key = s.send_execute(lease, "sh", ["-c", "echo started; sleep 100000"], **STREAM)
        s.w.until(lambda: s.w.live_text(key) == "started\n", "the command has started")
        got = s.lease_call("ReleaseLease", lease, {"cancelActiveWork": True}, **STREAM)
        check_equal(got, {"providerLeaseId": lease["providerLeaseId"], "state": "destroyed"})
        check_equal(s.w.error(key)["message"], "The command was ended: its sandbox lease was released.")
        s.no_live()


main()
