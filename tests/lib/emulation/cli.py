"""The program as a person uses it in a terminal, with an emulated service."""

import os
import subprocess
import tempfile

from harness import Build


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
