#!/usr/bin/python3
"""Commands in containers of a real engine: arguments, environment, input, both streams as they come, exit codes, and their ends."""

import os
import time

from driver import check_includes, lease, session, wait_until
from harness import Skip, check, check_equal, check_match, long_sleep, main, test, unique

# Processes that a command leaves behind in every way there is; each runs `sleep <number>`.
TREES = [
    "sleep {n}",
    "sleep {n} & sleep {n} & wait",
    "setsid sleep {n} & setsid sh -c 'sleep {n} & sleep {n}' & sleep {n}",
    "trap '' TERM INT HUP; sleep {n} & sleep {n}; sleep {n}",
    "(setsid sh -c '(sleep {n} &) ; sleep {n}' &) ; sleep {n}",
    "env -i /bin/sh -c 'sleep {n} & sleep {n}' & sleep {n}",
]


def gone(s, made, number):
    wait_until(lambda: not s.e.processes(made["providerLeaseId"], number), f"{s.e.processes(made['providerLeaseId'], number)} has ended")


@test
def arguments_environment_and_directory_reach_the_command_as_they_are():
    with session() as s, lease(s, env={"BASE": "b", "BOTH": "base"}) as made:
        words = ["", "a b", "$HOME", "'", '"', "*", "\\", "-n", "é\n", "--", "`id`"]
        check_equal(s.execute(made, "printf", ["<%s>", *words])["stdout"], "".join(f"<{word}>" for word in words))
        result = s.sh(made, 'printf "%s|%s|%s|%s" "$A" "$BASE" "$BOTH" "$PWD"', {"env": {"A": "x 'y' $z\n", "BOTH": "own"}, "cwd": "/home/agent"})
        check_equal(result["stdout"], "x 'y' $z\n|b|own|/home/agent")
        error = s.error("Execute", {"lease": s.reference(made), "command": "true", "env": {"not a name": "x"}})
        check_equal(error["message"], "Invalid sandbox environment variable key: not a name")


@test
def both_streams_come_live_and_apart():
    with session() as s, lease(s) as made:
        key = s.send_sh(made, "echo one; echo two >&2; read x; echo three", {"timeoutMs": 30000, "env": {}})
        check_equal(s.w.result(key)["stdout"], "one\nthree\n")  # without input `read` finds its end
        key = s.send_sh(made, "echo one; echo two >&2; while [ ! -e go ]; do sleep 0.05; done; echo three")
        s.wait_for_output(key, "one\n")
        s.wait_for_output(key, "two\n", "stderr")
        s.sh(made, "touch go")
        check_includes(s.w.result(key), {"stdout": "one\nthree\n", "stderr": "two\n", "exitCode": 0})


@test
def input_comes_whole_and_ends():
    with session() as s, lease(s) as made:
        text = "".join(f"line {n} é\n" for n in range(200_000))
        result = s.execute(made, "sh", ["-c", "cat >in; wc -c <in; tail -n 1 in"], {"stdin": text})
        check_equal(result["stdout"], f"{len(text.encode())}\nline 199999 é\n")
        check_equal(s.execute(made, "cat", [], {"stdin": ""})["stdout"], "")
        check_equal(s.execute(made, "cat", [], {"stdin": "no line end"})["stdout"], "no line end")
        # What nobody reads is no error, and nothing that the engine says of it is the command's.
        check_includes(s.sh(made, "echo done", {"stdin": text}), {"exitCode": 0, "stdout": "done\n", "stderr": ""})
        check_includes(s.sh(made, "head -c 4; exit 3", {"stdin": text}), {"exitCode": 3, "stdout": "line", "stderr": ""})


@test
def output_of_any_size_and_bytes_comes_in_order():
    with session() as s, lease(s) as made:
        result = s.sh(made, "seq 1 400000; seq 1 50000 >&2")
        check_equal(result["stdout"], "".join(f"{n}\n" for n in range(1, 400_001)))
        check_equal(result["stderr"], "".join(f"{n}\n" for n in range(1, 50_001)))
        check_equal(s.sh(made, r"printf 'a\000b\377c'; printf 'Error: mine' >&2")["stderr"], "Error: mine")


@test
def exit_codes_and_signals_are_told():
    with session() as s, lease(s) as made:
        for script, code in (("exit 0", 0), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137), ("no-such-command", 127)):
            check_equal(s.sh(made, script)["exitCode"], code, script)
        missing = s.execute(made, "no-such-command")
        check_equal(missing["exitCode"], 127)
        check("no-such-command" in missing["stderr"], missing["stderr"])
        check_equal(s.execute(made, "/etc/passwd")["exitCode"], 126)
        elsewhere = s.execute(made, "true", [], {"cwd": "/no/such/dir"})
        check_equal(elsewhere["exitCode"], 127)
        check("/no/such/dir" in elsewhere["stderr"], elsewhere["stderr"])


@test
def a_timeout_ends_all_that_the_command_has_started_and_keeps_its_output():
    with session() as s, lease(s) as made:
        numbers = [long_sleep() for _ in TREES]
        keys = [s.send_sh(made, "echo begun; " + tree.format(n=number), {"timeoutMs": 5000}) for tree, number in zip(TREES, numbers)]
        for key, number, tree in zip(keys, numbers, TREES):
            check_includes(s.w.result(key), {"timedOut": True, "exitCode": None, "stdout": "begun\n"}, tree)
            gone(s, made, number)
        check_equal(s.sh(made, "echo alive")["stdout"], "alive\n")


@test
def a_release_ends_what_runs_and_a_command_that_ran_is_an_error():
    with session() as s:
        made = s.acquire(reuseLease=True)
        key = s.send_sh(made, "echo begun; sleep 1000", reuseLease=True)
        s.wait_for_output(key, "begun\n")
        check_equal(s.lease_call("ReleaseLease", made, {"cancelActiveWork": True}, reuseLease=True),
                    {"providerLeaseId": made["providerLeaseId"], "state": "stopped"})
        check("message" in s.w.error(key), "the command was answered")
        check_equal(s.e.containers(), {made["providerLeaseId"]: "exited"})
        s.destroy(made)


@test
def a_destroy_during_a_command_answers_at_once():
    with session() as s:
        made = s.acquire()
        key = s.send_sh(made, "trap '' TERM; echo begun; sleep 1000; sleep 1000")
        s.wait_for_output(key, "begun\n")
        started = time.monotonic()
        s.destroy(made)
        s.w.error(key)
        check(time.monotonic() - started < 30, "it took long")


@test
def processes_in_the_background_live_on_until_the_lease_ends():
    with session() as s, lease(s) as made:
        mark = unique()
        result = s.sh(made, f"(while :; do sleep 1; done; echo {mark}) & echo $!")
        pid = result["stdout"].strip()
        check_match(pid, r"\d+")
        check_equal(s.sh(made, f"kill -0 {pid} && echo there")["stdout"], "there\n")


@test
def many_commands_run_at_once_in_many_leases():
    with session() as s:
        leases = [s.acquire() for _ in range(3)]
        keys = [(number, s.send_sh(leases[number % 3], f"echo {number}; exit {number}", {"stdin": None})) for number in range(24)]
        for number, key in keys:
            check_includes(s.w.result(key), {"exitCode": number, "stdout": f"{number}\n"})
        for made in leases:
            s.destroy(made)


@test
def an_ordinary_user_s_worker_does_the_same():
    if os.geteuid() != 0:
        raise Skip("this is an ordinary user's")
    with session(worker_user=65534) as s, lease(s) as made:
        check_equal(s.execute(made, "cat", [], {"stdin": "hello"})["stdout"], "hello")
        number = long_sleep()
        check_includes(s.sh(made, f"setsid sleep {number} & sleep {number}", {"timeoutMs": 500}), {"timedOut": True})
        gone(s, made, number)


main()
