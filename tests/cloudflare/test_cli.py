#!/usr/bin/python3
"""The driver from a terminal: run and probe."""

from client import Emulator
from driver import TOKEN
from emulation import cli as shared
from harness import check, check_equal, main, test


def cli(bridge, command, *words, **more):
    return shared.cli(command, "cloudflare", {"bridgeBaseUrl": bridge.url}, ("bridgeAuthToken", TOKEN), *words, **more)


@test
def a_command_runs_with_its_input_variables_and_status():
    with Emulator() as bridge:
        got = cli(bridge, "run", "--env", "A=b c", "--", "sh", "-c", 'cat; echo "$A"; pwd; echo err >&2; exit 5', text="from stdin é\n")
        check_equal(got, (5, "from stdin é\nb c\n/workspace/paperclip\n", "err\n"))
        check_equal(cli(bridge, "run", "--", "sh", "-c", "cat; echo end", stdin="/dev/null")[:2], (0, "end\n"))
        check_equal(cli(bridge, "run", "--timeout", "1s", "--", "sh", "-c", "echo so far; sleep 100000")[:2], (124, "so far\n"))
        check_equal(bridge.live(), [])


@test
def a_probe_tells_step_by_step():
    with Emulator() as bridge:
        status, out, _ = cli(bridge, "probe")
        check(status == 0 and "Connected to Cloudflare sandbox bridge." in out, out)
        bridge.fault(status=401, reply={"message": "Missing or invalid bridge bearer token."})
        status, out, _ = cli(bridge, "probe")
        check_equal((status, [line.split()[0] for line in out.split("\n") if line.startswith("  ") and line[2] in "eo"]), (1, ["ok", "ok", "ok", "error"]))


main()
