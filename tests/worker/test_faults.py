#!/usr/bin/python3
"""Each system call that a session needs fails once, at each of its places (fault_inject.c); so does each allocation.

Whatever fails: each request is answered exactly once, the worker goes on or ends in order, and nothing is left running or lying about.
"""

import errno
import os
import sys

from harness import Build, Failure, RpcError, Skip, Worker, check, main, temp_dir, remove_dir, test

LIBRARY = os.path.abspath(sys.argv.pop(2))  # beside the binary, before the names of tests
CALLS_MAX = 10  # of one function in one session; further ones are repetitions

CALLS = {
    "pipe2": errno.EMFILE,
    "socketpair": errno.EMFILE,
    "memfd_create": errno.ENFILE,
    "sendmsg": errno.ENOBUFS,
    "mkdir": errno.ENOSPC,
    "mkdirat": errno.ENOSPC,
    "mkdtemp": errno.EROFS,
    "rename": errno.EIO,
    "renameat": errno.EIO,
    "flock": errno.ENOLCK,
    "open64": errno.EMFILE,
    "openat64": errno.EMFILE,
}


def session(w, driver):
    """A short life of a lease; a step whose request is refused ends it early. Returns how many requests were refused."""
    refused = 0

    def step(method, params):
        nonlocal refused
        try:
            return w.call(method, params)
        except RpcError as error:
            check(error.message, "a refusal says why")
            refused += 1
            return None

    w.initialize()
    config = {"stateDir": os.path.join(w.temp, "state")} if driver == "local" else {}
    lease = step("environmentAcquireLease", {**w.base(driver, config=config), "runId": "run-1"})
    if lease is None:
        return refused
    for args, stdin in ((["-c", "echo out; echo err >&2; (sleep 1000 >/dev/null 2>&1 &)"], None), (["-c", "cat"], "text")):
        more = {} if stdin is None else {"stdin": stdin}
        result = step("environmentExecute", w.execute_params("sh", args, lease=lease, driver=driver, config=config, **more))
        if result is not None and stdin is not None:
            check(result["exitCode"] is None or result["stdout"] == stdin or result["exitCode"] != 0, "a success is a whole one")
    step("environmentReleaseLease", {**w.base(driver, config=config), "providerLeaseId": lease["providerLeaseId"]})
    return refused


def run_session(call, at, number, driver, allow_abort=False):
    """One session in which the at-th call fails; how many calls there were, and the exit status."""
    temp = temp_dir()
    count_path = os.path.join(temp, "count")
    work = os.path.join(temp, "tmp")
    os.mkdir(work)
    env = {"PATH": os.environ["PATH"], "TMPDIR": work, "LD_PRELOAD": LIBRARY, "FAULT": f"{call}:{at}:{number}",
           "FAULT_COUNT": count_path}
    if Build.sanitized:
        env["ASAN_OPTIONS"] = "verify_asan_link_order=0:" + os.environ.get("ASAN_OPTIONS", "")
        os.environ.pop("ASAN_OPTIONS", None)
    try:
        with Worker(env=env, temp=work, stderr_ok=True) as w:
            try:
                session(w, driver)
            except Failure:
                status = w.wait_end()
                text = w.err.decode("utf-8", "replace")
                aborted = allow_abort and status == -6 and "memory" in text
                # Before the first answer: a clear message, or libuv's own abort where it cannot set up its loop.
                refused = not w.answers and (status == -6 or status in (1, 2) and text.startswith("paperclip-sandbox-worker: "))
                if not aborted and not refused:
                    raise
                w.killed = True
                w.expect_status = status
        if not w.killed:
            left = [name for name in os.listdir(work) if name != "state" and not name.startswith("paperclip-sandbox-worker")]
            check(not left, f"left behind after {call} {at}: {left}")
        if os.path.exists(count_path):
            with open(count_path, encoding="ascii") as file:
                return int(file.read() or 0), w.status
        return at, w.status
    finally:
        remove_dir(temp)


def each_place_of(call, number, driver):
    calls, _ = run_session(call, 0, number, driver)
    for at in range(1, min(calls, CALLS_MAX) + 1):
        try:
            run_session(call, at, number, driver)
        except Failure as error:
            raise Failure(f"{call} fails at its call {at} of {calls} ({driver}): {error}") from error


def faults_of(driver):
    for call, number in CALLS.items():
        each_place_of(call, number, driver)


@test
def a_failing_system_call_of_fake_plugin_is_an_error_of_that_request_alone():
    faults_of("fake-plugin")


@test
def a_failing_system_call_of_local_is_an_error_of_that_request_alone():
    with Worker() as w:
        w.initialize()
        report = w.call("environmentProbe", w.base("local", config={"stateDir": os.path.join(w.temp, "state")}))
        remove_dir(os.path.join(w.temp, "state"))
    if not report["ok"]:
        raise Skip(f"no sandboxes on this machine: {report['summary']}")
    faults_of("local")


@test
def a_failing_allocation_ends_the_worker_with_a_message_and_nothing_else_is_left():
    if Build.sanitized:
        raise Skip("AddressSanitizer has its own allocator")
    calls, _ = run_session("malloc", 0, errno.ENOMEM, "fake-plugin")
    step = max(1, calls // 40)
    for at in range(1, calls + 1, step):
        try:
            run_session("malloc", at, errno.ENOMEM, "fake-plugin", allow_abort=True)
        except Failure as error:
            raise Failure(f"allocation {at} of {calls}: {error}") from error


main()
