#!/usr/bin/python3
"""Everything that can go wrong between the worker and the engine, and in the engine: an error that says so, and nothing left behind."""

import contextlib
import os

from driver import Engine, Session, check_includes, lease, session, wait_until
from harness import Worker, check, check_equal, check_match, long_sleep, main, test, unique
from relay import Relay

NOTHING_SAID = [{"close": True}, {"close": True, "after": True}, {"truncate": 20}]
STEPS = [("POST", "/containers/create"), ("POST", "/start"), ("GET", "/containers/.*/json"), ("POST", "/containers/.*/exec$"), ("GET", "/exec/"),
         ("POST", "/rename")]


@contextlib.contextmanager
def relayed(**config):
    """A worker that reaches the engine through a relay."""
    engine = Engine()
    with Relay(engine.socket) as relay, Worker() as worker:
        with Session(worker, engine, socketPath=relay.socket, **config).leaving_nothing() as s:
            yield s, relay
            relay.clear()


@contextlib.contextmanager
def relays(cases):
    """A relay for each of the cases, (what, fault), at one worker: (session, [(what, config)])"""
    engine = Engine()
    with contextlib.ExitStack() as stack:
        configs = []
        for what, fault in cases:
            relay = stack.enter_context(Relay(engine.socket))
            relay.fault(**fault)
            configs.append((what, {"socketPath": relay.socket, "timeoutMs": 20000}))
        with Worker() as worker, Session(worker, engine).leaving_nothing() as s:
            yield s, configs


@test
def a_lost_answer_anywhere_in_an_acquire_costs_at_most_a_moment():
    cases = [(f"{way} at {path}", {"method": method, "path": path, **way}) for number, (method, path) in enumerate(STEPS)
             for way in (NOTHING_SAID if number == 0 else [NOTHING_SAID[number % 3]])]
    with relays(cases) as (s, configs):
        keys = [(what, config, s.send("AcquireLease", {"runId": "r"}, **config)) for what, config in configs]
        for what, config, key in keys:
            made = s.w.result(key)
            s.destroy(made, **config)
            check(made["providerLeaseId"] not in s.e.containers(), what)


@test
def a_refusal_anywhere_in_an_acquire_leaves_nothing():
    cases = [(path, {"method": method, "path": path, "times": None, "after": after, "reply": (500, {"message": "the engine is ill"})})
             for method, path in STEPS for after in (False, True) if not after or path in ("/containers/create", "/start")]
    with relays(cases) as (s, configs):
        keys = [(what, s.send("AcquireLease", {"runId": "r"}, **config)) for what, config in configs]
        for what, key in keys:
            error = s.w.error(key)
            check("the engine is ill" in error["message"], f"{what}: {error}")


@test
def a_lie_is_an_error_and_leaves_nothing():
    lies = [("GET", "/containers/.*/json", (200, b"<html>login</html>")), ("GET", "/containers/.*/json", (200, {})),
            ("POST", "/containers/.*/exec$", (201, {"Id": "../../x"})), ("POST", "/containers/.*/exec$", (201, {})),
            ("GET", "/_ping", (200, b"OK")), ("GET", "/exec/", (200, b"[1,2]"))]
    with relays([(path, {"method": method, "path": path, "times": None, "reply": reply}) for method, path, reply in lies]) as (s, configs):
        keys = [(what, s.send("AcquireLease", {"runId": "r"}, **config)) for what, config in configs]
        for what, key in keys:
            check(s.w.error(key)["message"], what)


@test
def an_acquire_that_stalls_ends_with_the_worker_and_leaves_nothing():
    for path in ("/containers/create", "/containers/.*/start$"):
        with relayed() as (s, relay):
            relay.fault(method="POST", path=path, stall=True, after=True)
            key = s.send("AcquireLease", {"runId": "r"})
            s.w.until(lambda: relay.asked("POST", path), f"the request of {path}")
            s.w.shutdown()
            check("error" in s.w.answer(key), "an acquire without a container succeeded")


@test
def a_stream_that_is_cut_is_an_error_and_its_command_is_ended():
    with relayed() as (s, relay), lease(s) as made:
        for way in ({"cut_stream": 3}, {"cut_stream": 100}):
            number = long_sleep()
            relay.fault(path="/exec/.*/start", **way)
            error = s.w.error(s.send_sh(made, f"for i in 1 2 3 4 5 6 7 8 9; do echo some more output of mine; done; sleep {number}"))
            check_match(error["message"], "The connection to the container engine at unix://.* was lost while the command ran.*; its exit code is not "
                                          "known, and what still ran of it was ended.")
            wait_until(lambda: not s.e.processes(made["providerLeaseId"], number), "the command has ended")
            relay.clear()
        check_equal(s.sh(made, "echo fine")["stdout"], "fine\n")


@test
def a_start_whose_answer_is_lost_is_not_repeated():
    with relayed() as (s, relay), lease(s) as made:
        for way in ({"close": True}, {"truncate": 0, "after": True}):
            name = unique()
            relay.fault(path="/exec/.*/start", **way)
            error = s.w.error(s.send_sh(made, f"echo x >>/tmp/{name}; sleep 1000"))
            check("was lost" in error["message"], error["message"])
            relay.clear()
            check(s.sh(made, f"cat /tmp/{name} | wc -l")["stdout"].strip() in ("0", "1"), "it ran twice")


@test
def a_stream_that_stalls_ends_at_the_command_s_own_limit():
    with relayed() as (s, relay), lease(s) as made:
        number = long_sleep()
        relay.fault(path="/exec/.*/start", stall_stream=11)
        result = s.sh(made, f"echo hi; sleep {number}", {"timeoutMs": 4000})
        check_includes(result, {"timedOut": True, "exitCode": None, "stdout": "hi\n"})
        wait_until(lambda: not s.e.processes(made["providerLeaseId"], number), "the command has ended")


@test
def a_container_that_is_killed_or_removed_underneath_is_told():
    with session() as s:
        made = s.acquire()
        name = made["providerLeaseId"]
        key = s.send_sh(made, "echo begun; sleep 1000")
        s.wait_for_output(key, "begun\n")
        s.e.api("POST", f"/containers/{name}/kill")
        check_includes(s.w.result(key), {"exitCode": 137, "stdout": "begun\n"})
        check(s.w.result(key)["metadata"]["containerStatus"] in ("exited", "stopped"), s.w.result(key))
        error = s.w.error(s.send_sh(made, "true"))
        check_match(error["message"], f"The container {name} does not run: it is (exited|stopped), with exit code 137.*resume the lease to start it again.")
        check_equal(s.lease_call("ResumeLease", made)["providerLeaseId"], name)
        key = s.send_sh(made, "echo begun; sleep 1000")
        s.wait_for_output(key, "begun\n")
        s.e.api("DELETE", f"/containers/{name}?force=true")
        message = s.w.answer(key)  # the engine may remember the command for a moment longer
        check("gone" in message["error"]["message"] if "error" in message else message["result"]["exitCode"] == 137, message)
        check("no" in s.w.error(s.send_sh(made, "true"))["message"], "a command ran in nothing")
        check_equal(s.lease_call("ResumeLease", made), {"providerLeaseId": None, "metadata": {"provider": "docker", "expired": True}})
        s.destroy(made)


@test
def a_service_that_restarts_loses_the_command_s_answer_and_nothing_else():
    with session() as s, lease(s) as made:
        name = made["providerLeaseId"]
        number = long_sleep()
        key = s.send_sh(made, f"echo begun; sleep {number}")
        s.wait_for_output(key, "begun\n")
        s.e.control("kill")
        s.e.control("start")
        check("was lost" in s.w.error(key)["message"], s.w.error(key))
        wait_until(lambda: not s.e.processes(name, number), "the command has ended")
        check_equal(s.sh(made, "echo fine")["stdout"], "fine\n")
        # Nobody answers for a while: an error, and the lease is as it was.
        s.e.control("kill")
        error = s.w.error(s.send_sh(made, "true"))
        check_match(error["message"], "The container engine cannot be reached: connect ECONNREFUSED .*Is the engine's service running.*")
        check_match(s.lease_error("DestroyLease", made)["message"], "The container engine cannot be reached.*")
        s.e.control("start")
        check_equal(s.lease_call("ResumeLease", made)["providerLeaseId"], name)
        check_equal(s.sh(made, "echo fine")["stdout"], "fine\n")


@test
def a_socket_that_is_missing_or_forbidden_is_named():
    with session() as s:
        error = s.error("AcquireLease", {"runId": "r"}, socketPath="/no/such/docker.sock")
        check_match(error["message"], "The container engine cannot be reached: connect ENOENT /no/such/docker.sock. There is no such socket. .*")
    with Relay(Engine().socket) as relay, session(worker_user=65534) as s:
        os.chmod(relay.socket, 0o600)
        error = s.error("AcquireLease", {"runId": "r"}, socketPath=relay.socket)
        check_match(error["message"], "The container engine cannot be reached: connect EACCES .* This user may not use the socket. .*")


main()
