#!/usr/bin/python3
"""The driver from a terminal: run and probe."""

import os
import subprocess
import tempfile

from client import Emulator
from driver import TOKEN
from harness import Build, check, check_equal, main, test


def cli(bridge, command, *words, text=""):
    with tempfile.NamedTemporaryFile("w") as token:
        token.write(TOKEN)
        token.flush()
        environment = {"PATH": os.environ.get("PATH", os.defpath)}
        environment.update({name: os.environ[name] for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS") if name in os.environ})
        done = subprocess.run([Build.path, command, "--driver", "cloudflare", "-c", f"bridgeBaseUrl={bridge.url}", "-c",
                               f"bridgeAuthToken=@{token.name}", *words], input=text.encode(), capture_output=True, env=environment, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@test
def a_command_runs_with_its_input_variables_and_status():
    with Emulator() as bridge:
        got = cli(bridge, "run", "--env", "A=b c", "--", "sh", "-c", 'cat; echo "$A"; pwd; echo err >&2; exit 5', text="from stdin é\n")
        check_equal(got, (5, "from stdin é\nb c\n/workspace/paperclip\n", "err\n"))
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
