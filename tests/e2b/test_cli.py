#!/usr/bin/python3
"""The drivers e2b and novita from a terminal: run and probe."""

import re

from client import Emulator
from driver import KEY
from emulation import cli as shared
from harness import check, check_equal, check_match, main, test


def cli(emulator, command, *words, driver="e2b", **more):
    return shared.cli(command, driver, emulator.services, ("apiKey", KEY), *words, **more)


@test
def input_comes_from_a_pipe_a_file_or_a_device_and_the_status_is_the_commands():
    with Emulator() as e:
        shared.check_input(lambda *words, **how: cli(e, *words, **how))
        check_equal((e.live(), e.state()["files"]), ([], []))


@test
def a_command_past_its_time_is_ended_with_what_it_printed():
    with Emulator() as e:
        for driver, more in (("e2b", ()), ("novita", ("-c", "requestedCwd=/tmp"))):
            status, out, _ = cli(e, "run", "--timeout", "1s", *more, "--", "sh", "-c", "echo so far; sleep 100000", driver=driver, stdin="/dev/null")
            check_equal((status, out), (124, "so far\n"), driver)
        check_equal(e.live(), [])


@test
def a_sandbox_that_is_kept_is_used_again_until_it_is_destroyed():
    with Emulator() as e:
        status, _, err = cli(e, "run", "--keep", "--", "sh", "-c", "echo kept > note", stdin="/dev/null")
        lease = re.search(r"--reuse (\S+) -- ", err)[1]
        check_equal((status, e.state()["paused"]), (0, [lease]))
        check_equal(cli(e, "run", "--reuse", lease, "--", "cat", "note", stdin="/dev/null")[:2], (0, "kept\n"))
        check_equal(e.live(), [lease])
        check_equal(cli(e, "run", "--reuse", lease, "--destroy", stdin="/dev/null")[0], 0)
        check_equal(e.live(), [])


@test
def a_probe_says_what_was_met_and_what_to_do():
    with Emulator() as e:
        status, out, _ = cli(e, "probe")
        check(status == 0 and "Connected to E2B sandbox template base." in out, out)
        e.fault(status=401, reply={"code": 401, "message": "Invalid API key"}, times=None)
        status, out, _ = cli(e, "probe")
        check_equal(status, 1)
        check_match(out, r".*error +Unauthorized, please check your credentials\. - Invalid API key\. Is the API key right.*")


main()
