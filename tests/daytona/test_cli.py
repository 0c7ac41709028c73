#!/usr/bin/python3
"""The driver daytona from a terminal: run and probe."""

import re

from client import Emulator
from driver import KEY
from emulation import cli as shared
from harness import check, check_equal, main, test

SESSION = ("-c", "useSessions=true", "-c", "useLogStream=true")


def cli(emulator, command, *words, **more):
    return shared.cli(command, "daytona", {"apiUrl": f"{emulator.url}/api", "snapshot": "base-snapshot"}, ("apiKey", KEY), *words, **more)


@test
def input_comes_from_a_pipe_a_file_or_a_device_and_the_status_is_the_commands():
    with Emulator() as e:
        e.toolbox(idleLooks=2)
        for more in ((), SESSION):
            shared.check_input(lambda command, *words, **how: cli(e, command, *more, *words, **how))
        check_equal((e.live(), e.state()["files"]), ([], []))


@test
def a_command_past_its_time_is_ended():
    with Emulator() as e:
        status, out, _ = cli(e, "run", "--timeout", "1s", *SESSION, "--", "sh", "-c", "echo so far; sleep 100000", stdin="/dev/null")
        check_equal((status, out), (124, "so far\n"))
        check_equal(cli(e, "run", "--timeout", "1s", "--", "sleep", "100000", stdin="/dev/null")[0], 124)
        check_equal((e.live(), e.state()["running"]), ([], 0))


@test
def a_sandbox_that_is_kept_is_used_again_until_it_is_destroyed():
    with Emulator() as e:
        status, _, err = cli(e, "run", "--keep", "--", "sh", "-c", "echo kept > note", stdin="/dev/null")
        lease = re.search(r"--reuse (\S+) -- ", err)[1]
        check_equal((status, e.live()), (0, [lease]))
        check_equal(cli(e, "run", "--reuse", lease, "--", "cat", "note", stdin="/dev/null")[:2], (0, "kept\n"))
        check_equal(e.live(), [lease])
        check_equal(cli(e, "run", "--reuse", lease, "--destroy", stdin="/dev/null")[0], 0)
        check_equal(e.live(), [])


@test
def a_probe_says_what_was_met_and_what_to_do():
    with Emulator() as e:
        status, out, _ = cli(e, "probe")
        check(status == 0 and "Connected to Daytona sandbox paperclip-" in out, out)
        e.fault(path="/api/sandbox$", status=401, reply={"message": "Invalid credentials"})
        status, out, _ = cli(e, "probe")
        check(status == 1 and "Check apiKey" in out, out)
        check_equal(e.live(), [])


main()
