"""The program as a person uses it in a terminal, with an emulated service."""

import os
import subprocess
import tempfile

from harness import Build, check_equal


def cli(command, driver, config, secret, *words, text="", stdin=None):
    """(status, stdout, stderr). secret: (key, value), which goes by a file; stdin: a path instead of the text."""
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    environment.update({name: os.environ[name] for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS") if name in os.environ})
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(secret[1])
        file.flush()
        options = [f"{key}={value}" for key, value in {**config, secret[0]: f"@{file.name}"}.items()]
        argv = [Build.path, command, "--driver", driver, *(word for option in options for word in ("-c", option)), *words]
        if stdin is None:
            done = subprocess.run(argv, input=text.encode(), capture_output=True, env=environment, check=False)
        else:
            with open(stdin, "rb") as source:
                done = subprocess.run(argv, stdin=source, capture_output=True, env=environment, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def check_input(run):
    """run(*words, text or stdin) of a command: its input may be a pipe, a file or a device, and the status is its own."""
    with tempfile.NamedTemporaryFile("wb") as file:
        file.write(b"from a file\n" * 100_000)
        file.flush()
        words = ("run", "--", "sh", "-c", "cat; exit 5")
        check_equal(run(*words, text="from a pipe é\n")[:2], (5, "from a pipe é\n"))
        check_equal(run(*words, stdin=file.name)[:2], (5, "from a file\n" * 100_000))
        check_equal(run(*words, stdin="/dev/null")[:2], (5, ""))
