#!/usr/bin/python3
"""host contract, "How a worker is started" and "Life cycle": how a worker ends, and that nothing outlives it."""

import os
import resource
import shutil
import signal
import stat

from harness import (Build, Worker, check, check_equal, descendants, lease_dirs, long_sleep, main, mode_of, processes_with, remove_dir,
                     temp_dir, test, unique, wait_until)

ORDINARY_USER = 65534 if os.geteuid() == 0 else None


def sleeping(w, number, **more):
    """A command that never ends, found running: its request's key."""
    key = w.send_execute("sleep", [number], **more)
    w.until(lambda: processes_with(number), "the command runs")
    return key


def stubborn(w, **more):
    """A tree that ignores SIGTERM, leaves its session and holds its pipes: (key, what to look for)."""
    marker = unique("stubborn")
    script = (f"trap '' TERM HUP INT; : {marker}; "
              f"setsid sh -c 'trap \"\" TERM; : {marker}; while :; do sleep 1; done' & "
              f"(setsid sh -c ': {marker}; while :; do sleep 1; done' &) ; echo up; while :; do sleep 1; done")
    key = w.send_sh(script, **more)
    w.until(lambda: len(processes_with(marker)) >= 3, "the tree runs")
    return key, marker


def gone(marker):
    wait_until(lambda: not processes_with(marker), f"no process with {marker} is left", limit_s=30)


# --- shutdown ---


@test
def shutdown_answers_null_and_the_worker_exits_0():
    for initialized in (False, True):
        with Worker() as w:
            if initialized:
                w.initialize()
            check_equal(w.shutdown(), 0)


@test
def shutdown_ends_running_commands_and_answers_each_of_them_first():
    with Worker() as w:
        w.initialize()
        lease = w.acquire()
        number = long_sleep()
        key = sleeping(w, number, lease=lease, cwd=lease["metadata"]["remoteCwd"])
        other, marker = stubborn(w)
        check_equal(w.call("shutdown"), None)
        order = list(w.answers)
        check(order.index(key) < order.index(order[-1]) and order.index(other) < order.index(order[-1]), "shutdown is answered last")
        for ended in (key, other):
            message = w.answers[ended][0]
            check("error" in message and "shutting down" in message["error"]["message"], f"{message}")
        w.wait_end()
        check_equal(processes_with(number) + processes_with(marker), [])
        check_equal(lease_dirs(w.temp), [])


@test
def requests_that_come_with_shutdown_are_answered_too():
    with Worker() as w:
        w.initialize()
        with w.one_write():
            first = w.send("shutdown")
            late = [w.send_execute("echo", ["late"]), w.send("health"), w.send("shutdown")]
        w.wait_end()
        check_equal(w.answers[first][0]["result"], None)
        check_equal([len(w.answers.get(key, ())) for key in late], [1, 1, 1])


@test
def the_end_of_input_ends_the_worker_with_0():
    for transport in ("socket", "pipe"):
        with Worker(transport) as w:
            w.initialize()
            w.close_stdin()
            check_equal(w.wait_end(), 0)


@test
def the_end_of_input_before_any_request_is_fine():
    with Worker() as w:
        w.close_stdin()
        check_equal(w.wait_end(), 0)


@test
def an_empty_file_as_stdin_is_fine():
    with Worker("/dev/null") as w:
        check_equal(w.wait_end(), 0)


@test
def the_end_of_input_ends_running_commands_and_removes_their_leases():
    with Worker() as w:
        w.initialize()
        w.acquire()
        w.acquire(config={"reuseLease": True})
        number = long_sleep()
        sleeping(w, number)
        _, marker = stubborn(w)
        w.close_stdin()
        check_equal(w.wait_end(), 0)
        check_equal(processes_with(number) + processes_with(marker), [])
        check_equal(os.listdir(w.temp), [])


@test
def sigterm_is_a_shutdown():
    with Worker() as w:
        w.initialize()
        w.acquire()
        number = long_sleep()
        key = sleeping(w, number)
        os.kill(w.pid, signal.SIGTERM)
        check_equal(w.wait_end(), 0)
        check("error" in w.answers[key][0], "the command was answered")
        check_equal(processes_with(number), [])


@test
def a_second_sigterm_while_it_shuts_down_changes_nothing():
    with Worker() as w:
        w.initialize()
        _, marker = stubborn(w)
        os.kill(w.pid, signal.SIGTERM)
        os.kill(w.pid, signal.SIGTERM)
        w.send("shutdown")
        os.kill(w.pid, signal.SIGTERM)
        check_equal(w.wait_end(), 0)
        check_equal(processes_with(marker), [])


# --- the host dies ---


def vanish(w):
    """The host's ends close, as when it is killed."""
    os.close(w.in_end)
    w.stdin_open = False
    w.killed = True  # nothing more can be answered
    os.close(w.out_end)
    w.out_end = -1
    w.out_eof = True


@test
def a_host_that_vanishes_while_a_command_prints_leaves_nothing():
    for transport in ("socket", "pipe"):
        with Worker(transport) as w:
            w.initialize()
            w.acquire()
            marker = unique("printing")
            w.send_sh(f": {marker}; while :; do echo some output that nobody will read; done")
            w.until(lambda: w.live, "live output")
            vanish(w)
            w.expect_status = 0
            check_equal(w.wait_end(), 0)
            gone(marker)
            check_equal(os.listdir(w.temp), [])


@test
def a_host_that_vanishes_while_nothing_happens_leaves_nothing():
    with Worker() as w:
        w.initialize()
        w.acquire()
        number = long_sleep()
        sleeping(w, number)
        vanish(w)
        check_equal(w.wait_end(), 0)
        gone(number)
        check_equal(os.listdir(w.temp), [])


@test
def an_output_that_is_closed_ends_the_worker_though_its_input_stays_open():
    with Worker() as w:
        w.initialize()
        number = long_sleep()
        sleeping(w, number)
        os.close(w.out_end)
        w.out_end = -1
        w.out_eof = True
        w.killed = True
        w.write_line({"jsonrpc": "2.0", "id": 5000, "method": "health"})
        w.expect_status = 0
        check_equal(w.wait_end(), 0)
        gone(number)


# --- crashes ---


@test
def a_killed_worker_leaves_no_process():
    with Worker() as w:
        w.initialize()
        number = long_sleep()
        sleeping(w, number)
        _, marker = stubborn(w)
        inner = descendants(w.pid)
        check(inner, "the commands are below the worker")
        w.kill(signal.SIGKILL)
        check_equal(w.wait_end(), -signal.SIGKILL)
        gone(number)
        gone(marker)


@test
def a_killed_worker_that_never_ran_a_command_leaves_no_process():
    with Worker() as w:
        w.initialize()
        w.kill(signal.SIGKILL)
        w.wait_end()


@test
def when_the_supervisor_of_commands_is_killed_they_fail_and_the_next_one_runs():
    with Worker() as w:
        w.initialize()
        number = long_sleep()
        key = sleeping(w, number)
        for pid, _, command in descendants(w.pid):
            if number not in command:
                os.kill(pid, signal.SIGKILL)
        error = w.error(key)
        check_equal(error["code"], -32002)
        check(len(error["message"]) > 10, f"it says what happened: {error['message']}")
        gone(number)
        check_equal(w.execute("echo", ["again"])["stdout"], "again\n")


# --- teardown of a lease ---


@test
def destroy_and_release_do_not_wait_for_a_hung_command_they_end_it():
    with Worker() as w:
        w.initialize()
        for method in ("environmentDestroyLease", "environmentReleaseLease"):
            lease = w.acquire()
            mine, other = long_sleep(), long_sleep()
            hung = sleeping(w, mine, lease=lease)
            tree, marker = stubborn(w, lease=lease)
            kept = sleeping(w, other, lease={"providerLeaseId": "another"})
            params = {**w.base(), "providerLeaseId": lease["providerLeaseId"]}
            check_equal(w.call(method, params), None)
            for key in (hung, tree):
                check_equal(w.error(key)["code"], -32002)
            check_equal(processes_with(mine) + processes_with(marker), [], "processes of the lease")
            check_equal(lease_dirs(w.temp), [])
            check(kept not in w.answers and processes_with(other), "a command of another lease goes on")


@test
def a_lease_of_another_company_with_the_same_id_keeps_its_commands():
    with Worker() as w:
        w.initialize()
        number = long_sleep()
        key = sleeping(w, number, lease={"providerLeaseId": "shared"})
        w.call("environmentDestroyLease", {**w.base(company="5b0c1f0e-6a0e-4a44-9d3c-2f4c7a1f0009"), "providerLeaseId": "shared"})
        check(key not in w.answers and processes_with(number), "the command goes on")


@test
def release_without_an_id_ends_no_command():
    with Worker() as w:
        w.initialize()
        number = long_sleep()
        key = sleeping(w, number)
        for params in (w.base(), {**w.base(), "providerLeaseId": None}, {**w.base(), "providerLeaseId": "other"}):
            w.call("environmentReleaseLease", params)
        check(key not in w.answers and processes_with(number), "the command goes on")


# --- surroundings ---


@test
def it_runs_from_a_path_with_spaces():
    directory = temp_dir("a path with spaces ")
    try:
        binary = os.path.join(directory, "the worker")
        shutil.copy(Build.path, binary)
        with Worker(binary=binary) as w:
            w.initialize()
            lease = w.acquire()
            check_equal(w.execute("pwd", cwd=lease["metadata"]["remoteCwd"])["stdout"], lease["metadata"]["remoteCwd"] + "\n")
    finally:
        remove_dir(directory)


@test
def it_runs_with_an_empty_environment():
    with Worker(env={}) as w:
        w.initialize()
        lease = w.acquire()
        check(lease["metadata"]["remoteCwd"].startswith("/tmp/paperclip-fake-sandbox-"), lease["metadata"]["remoteCwd"])
        check_equal(w.execute("env")["stdout"], "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin\n")
        check_equal(w.shutdown(), 0)
        check(not os.path.exists(lease["metadata"]["fakeRootDir"]), "its directory is gone")


@test
def it_runs_as_an_ordinary_user():
    directory = temp_dir("any user ")
    try:
        binary = os.path.join(directory, "worker")
        shutil.copy(Build.path, binary)
        os.chmod(binary, 0o755)
        with Worker(binary=binary, user=ORDINARY_USER, cwd="/") as w:
            w.initialize()
            lease = w.acquire()
            check_equal(mode_of(lease["metadata"]["fakeRootDir"]), 0o700)
            user = w.execute("id", ["-u"])["stdout"].strip()
            check_equal(user, str(ORDINARY_USER or os.geteuid()))
            number = long_sleep()
            sleeping(w, number)
            _, marker = stubborn(w)
            check_equal(w.shutdown(), 0)
            check_equal(processes_with(number) + processes_with(marker), [])
    finally:
        remove_dir(directory)


@test
def it_runs_in_a_directory_that_was_removed():
    directory = temp_dir()
    with Worker(cwd=directory) as w:
        w.initialize()
        os.rmdir(directory)
        check_equal(w.execute("echo", ["hi"], cwd="/")["stdout"], "hi\n")


@test
def workers_beside_each_other_do_not_meet():
    with Worker() as one, Worker() as two:
        numbers = [long_sleep(), long_sleep()]
        sleeping(one, numbers[0])
        key = sleeping(two, numbers[1])
        one.shutdown()
        check(processes_with(numbers[1]) and key not in two.answers, "the other one's command goes on")


@test
def many_commands_leave_no_descriptor_no_process_and_no_memory():
    with Worker() as w:
        w.initialize()

        def round_of(count):
            for key in [w.send_sh("echo x; echo y >&2", stdin="z" * 1000) for _ in range(count)]:
                w.result(key)

        def descriptors():
            return len(os.listdir(f"/proc/{w.pid}/fd"))

        round_of(100)
        before, processes, memory = descriptors(), len(descendants(w.pid)), w.memory_kb()
        for _ in range(10):
            round_of(100)
        w.until(lambda: descriptors() <= before, f"back to {before} descriptors, not {descriptors()}")
        w.until(lambda: len(descendants(w.pid)) <= processes, f"back to {processes} processes")
        if not Build.sanitized:
            check(w.memory_kb() < memory + 8192, f"memory went from {memory} to {w.memory_kb()} kB")


@test
def a_limit_of_descriptors_that_is_reached_fails_requests_and_not_the_worker():
    with Worker(rlimits=[(resource.RLIMIT_NOFILE, 64)]) as w:
        w.initialize()
        keys = [w.send_execute("sleep", ["0.2"]) for _ in range(100)]
        outcomes = [w.answer(key) for key in keys]
        check(all("result" in m or m["error"]["code"] == -32002 for m in outcomes), "each is served or fails by itself")
        check_equal(w.execute("echo", ["fine"])["stdout"], "fine\n")


@test
def what_others_can_read_of_a_lease_is_nothing():
    with Worker() as w:
        w.initialize()
        root = w.acquire()["metadata"]["fakeRootDir"]
        check_equal(stat.S_IMODE(os.stat(root).st_mode), 0o700)


if __name__ == "__main__":
    main()
