#!/usr/bin/python3
"""The command line for people: what is printed where, exit statuses, signals, terminals, and nothing left behind."""

import contextlib
import fcntl
import hashlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

from harness import (  # noqa: E402
    LIMIT_S, Build, Failure, Skip, Worker, check, check_equal, check_match, descendants, is_alive, long_sleep, main,
    processes_with, reap_strangers, remove_dir, shorten, temp_dir, test, wait_until)

PROGRAM = "paperclip-sandbox-worker"
ESCAPE = "\x1b["


class Cli:
    """One directory for temporary files and state; whatever ran must leave it empty of sandboxes, and no process."""

    def __enter__(self):
        self.temp = temp_dir()
        self.state = os.path.join(self.temp, "state")
        self.env = {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": self.temp, "XDG_STATE_HOME": self.state, "TERM": "xterm"}
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"):
            if name in os.environ:
                self.env[name] = os.environ[name]
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.check_nothing_left()
        finally:
            remove_dir(self.temp)

    def check_nothing_left(self):
        def left():
            reap_strangers()
            return [entry for entry in descendants(os.getpid()) if entry[1] != "Z"]

        wait_until(lambda: not left(), f"no process is left: {shorten(left())}", limit_s=20)
        check_equal([name for name in os.listdir(self.temp) if name.startswith("paperclip-fake")], [], "left directories")
        leases = [os.path.join(top, name) for top, names, _ in os.walk(self.state) for name in names
                  if os.path.basename(top) == "leases"]
        check_equal(leases, [], "left leases")

    def file(self, name, content):
        path = os.path.join(self.temp, name)
        with open(path, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        return path

    def start(self, *args, env=None, **more):
        more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        return subprocess.Popen([Build.path, *args], env={**self.env, **(env or {})}, cwd=self.temp, **more)

    def run(self, *args, stdin=b"", env=None, status=0):
        """(stdout, stderr) as text; the exit status must be this."""
        process = self.start(*args, env=env, stdin=subprocess.PIPE)
        out, err = process.communicate(stdin, LIMIT_S)
        check_equal(process.returncode, status, f"exit status of {args} (stderr: {err.decode(errors='replace')})")
        check("Sanitizer" not in err.decode(errors="replace"), err.decode(errors="replace"))
        return out.decode(errors="surrogateescape"), err.decode(errors="surrogateescape")

    def fake(self, *command, options=(), **more):
        return self.run("run", "--driver", "fake-plugin", *options, "--", *command, **more)


def needs_sandboxes(cli):
    process = cli.start("probe", "--driver", "local")
    out, _ = process.communicate(timeout=LIMIT_S)
    if process.returncode != 0:
        raise Skip(f"no sandboxes on this machine: {out.decode().strip()}")


def one_line_and_a_hint(err, pattern, topic):
    lines = err.split("\n")
    check_equal(len(lines), 3, f"lines of {err!r}")
    check_match(lines[0], f"{PROGRAM}: {pattern}")
    check_match(lines[1], f"Try `{PROGRAM} {topic}`\\.")


# --- help and its kin ---


@test
def help_tells_all_commands_and_gives_examples():
    with Cli() as cli:
        out, err = cli.run("--help")
        check_equal(err, "")
        for name in ("run", "probe", "reap", "drivers", "manifest", "replay", "help"):
            check_match(out, f".*\n  {name} +\\w.*")
            topic, _ = cli.run("help", name)
            check_match(topic, f"Usage: {PROGRAM} {name}.*")
            check_equal(cli.run(name, "--help"), (topic, ""))
        check("Examples" in out and "--driver local" in out, "no examples")
        check_equal(cli.run("help"), (out, ""))
        check_equal(cli.run("-h"), (out, ""))
        check(max(map(len, out.split("\n"))) <= 130, "help is too wide")


@test
def version_is_one_line():
    with Cli() as cli:
        out, err = cli.run("--version")
        check_match(out, PROGRAM + r" \d+\.\d+\.\d+\n")
        check_equal(err, "")


@test
def what_is_unknown_gets_one_line_a_hint_and_status_2():
    with Cli() as cli:
        for args, pattern, topic in [
                (["rnu"], 'there is no command "rnu"', "--help"),
                (["--recrod", "x"], "unknown option --recrod", "--help"),
                (["-x"], "unknown option -x", "--help"),
                (["--record"], "--record needs a value", "--help"),
                (["--record", "x", "run"], "run comes first, before any option", "--help"),
                (["help", "rnu"], 'there is no command "rnu"', "--help"),
                (["help", "run", "probe"], "help takes one command", "help help"),
                (["run", "--dirver", "x"], "unknown option --dirver", "help run"),
                (["run", "-c"], "-c needs a value", "help run"),
                (["run", "--driver"], "--driver needs a value", "help run"),
                (["run", "--keep=1"], "--keep takes no value", "help run"),
                (["run", "--driver", "fake-plugin"], "run needs a command, after --", "help run"),
                (["run", "--driver", "fake-plugin", "--", ""], "the command is an empty word", "help run"),
                (["run", "--", "true"], "run needs --driver; there are: local, .*fake-plugin.*", "help run"),
                (["run", "--driver", "nix", "--", "true"], 'there is no driver "nix"; there are: local, .*fake-plugin.*', "help run"),
                (["run", "--driver", "fake-plugin", "--timeout", "soon", "--", "true"], "--timeout takes a time .*soon.*", "help run"),
                (["run", "--driver", "fake-plugin", "--timeout", "-1", "--", "true"], "--timeout takes a time .*", "help run"),
                (["run", "--driver", "fake-plugin", "--timeout", "99d", "--", "true"], "--timeout takes a time .*", "help run"),
                (["run", "--driver", "fake-plugin", "--env", "=x", "--", "true"], "--env takes NAME=VALUE .*", "help run"),
                (["run", "--driver", "fake-plugin", "--env", "NO_SUCH", "--", "true"], "--env NO_SUCH: the environment .*", "help run"),
                (["run", "--driver", "fake-plugin", "-c", "novalue", "--", "true"], "-c takes KEY=VALUE.*", "help run"),
                (["run", "--driver", "fake-plugin", "--keep", "--", "true"], "fake-plugin can't keep a sandbox.*", "help run"),
                (["run", "--driver", "local", "--reuse", "", "--", "true"], "--reuse needs .*", "help run"),
                (["run", "--driver", "local", "--destroy", "--", "true"], "--destroy goes with --reuse.*", "help run"),
                (["run", "--driver", "local", "--reuse", "x", "--keep", "--destroy"], "--keep and --destroy contradict.*", "help run"),
                (["probe"], "probe needs --driver; .*", "help probe"),
                (["probe", "--driver", "local", "more"], 'probe takes no argument "more"', "help probe"),
                (["reap", "--driver", "local", "more"], 'reap takes no argument "more"', "help reap"),
                (["reap", "--driver", "local"], "local has nothing to reap: .*", "help reap"),
                (["drivers", "more"], "drivers takes no arguments", "help drivers"),
                (["manifest", "--json"], "unknown option --json", "help manifest"),
                (["replay"], "replay needs one FILE", "help replay")]:
            out, err = cli.run(*args, status=2)
            check_equal(out, "", f"stdout of {args}")
            one_line_and_a_hint(err, pattern, topic)


# --- drivers and manifest ---


@test
def drivers_are_listed_with_what_they_support():
    with Cli() as cli:
        table, _ = cli.run("drivers")
        lines = table.rstrip("\n").split("\n")
        check_match(lines[0], r"DRIVER +NAME +REUSE +LIVE OUTPUT +SETUP +TEMPLATES")
        check_match(lines[1], r"local +\S.* +yes +yes +- +-")
        check_match("\n".join(lines), r".*\nfake-plugin +\S.* +yes +yes +yes +yes.*")
        for line in lines[1:]:
            at = lines[0].index("LIVE OUTPUT")
            check(line[at - 1] == " " and line[at] != " ", f"the columns are not aligned:\n{table}")
        listed = json.loads(cli.run("drivers", "--json")[0])
        check_equal([driver["driverKey"] for driver in listed], [line.split()[0] for line in lines[1:]])
        fake = [driver for driver in listed if driver["driverKey"] == "fake-plugin"][0]
        check("environmentCaptureTemplate" in fake["methods"] and fake["templates"], shorten(fake))
        local = [driver for driver in listed if driver["driverKey"] == "local"][0]
        check("environmentCaptureTemplate" not in local["methods"] and not local["templates"], shorten(local))


@test
def the_manifest_is_json_with_a_schema_for_each_driver():
    with Cli() as cli:
        manifest = json.loads(cli.run("manifest")[0])
        drivers = json.loads(cli.run("drivers", "--json")[0])
        check_equal([driver["driverKey"] for driver in manifest["environmentDrivers"]], [d["driverKey"] for d in drivers])
        for driver in manifest["environmentDrivers"]:
            check_equal(driver["configSchema"]["type"], "object")
        check_match(cli.run("--version")[0], f"{PROGRAM} {re.escape(manifest['version'])}\n")


# --- config ---


def probed_image(cli, *options, **more):
    return json.loads(cli.run("probe", "--driver", "fake-plugin", "--json", *options, **more)[0])["metadata"]["image"]


@test
def config_comes_from_a_file_and_single_keys_in_their_order():
    with Cli() as cli:
        path = cli.file("my config.json", '{"image": "from-file", "timeoutMs": 7}')
        check_equal(probed_image(cli), "fake:latest")
        check_equal(probed_image(cli, "--config", path), "from-file")
        check_equal(probed_image(cli, "-c", "image=a=b"), "a=b")
        check_equal(probed_image(cli, "-c", "image=one", "--config", path, "-c", "image=two"), "two")
        report = json.loads(cli.run("probe", "--driver", "fake-plugin", "--json", "--config", path)[0])
        check_equal(report["metadata"]["timeoutMs"], 7)


@test
def a_value_is_json_where_it_is_json_and_else_a_string():
    with Cli() as cli:
        check_equal(probed_image(cli, "-c", 'image="@x"'), "@x")
        check_equal(probed_image(cli, "-c", "image=12 monkeys"), "12 monkeys")
        check_equal(probed_image(cli, "-c", "image=12"), "fake:latest")  # a number is no image
        report = json.loads(cli.run("probe", "--driver", "fake-plugin", "--json", "-c", "timeoutMs=12")[0])
        check_equal(report["metadata"]["timeoutMs"], 12)


@test
def secrets_come_from_files_and_variables():
    with Cli() as cli:
        path = cli.file("secret", "s3cret \n")
        check_equal(probed_image(cli, "-c", f"image=@{path}"), "s3cret")  # the driver trims the blank
        check_equal(probed_image(cli, "-c", "image=env:MY_KEY", env={"MY_KEY": "{\"k\":1}"}), '{"k":1}')
        for setting, pattern in [(f"image=@{path}.not", "-c image: .*secret.not: No such file.*"),
                                 ("image=env:NO_SUCH", "-c image: the environment has no variable NO_SUCH"),
                                 (f"image=@{cli.temp}", "-c image: .*Is a directory")]:
            one_line_and_a_hint(cli.run("probe", "--driver", "fake-plugin", "-c", setting, status=2)[1], pattern, "help probe")


@test
def a_config_that_is_none_is_refused():
    with Cli() as cli:
        for content, pattern in [("[1]", ".*: the config must be a JSON object"), ("{", ".*config: .*byte.*"), ("", ".*config: .*"),
                                 (b"\xff", ".*is not valid UTF-8"), (b'{"a":"' + 2_000_000 * b"x" + b'"}', ".*more than .* bytes")]:
            path = cli.file("config", content)
            err = cli.run("probe", "--driver", "fake-plugin", "--config", path, status=2)[1]
            one_line_and_a_hint(err, pattern, "help probe")
        check_match(cli.run("probe", "--driver", "local", "--config", "/nowhere/x", status=2)[1], ".*/nowhere/x: No such file.*")
        check_match(cli.run("probe", "--driver", "local", "-c", b"image=\xff", status=2)[1], ".*-c image: .*not valid UTF-8.*")


@test
def the_driver_s_own_errors_are_shown_and_nothing_is_done():
    with Cli() as cli:
        out, err = cli.run("run", "--driver", "local", "-c", "network=maybe", "-c", "memoryMb=-1", "--", "true", status=2)
        check_equal(out, "")
        lines = err.rstrip("\n").split("\n")
        check_equal(len(lines), 2, err)
        for line in lines:
            check_match(line, f"{PROGRAM}: config of local: (network|memoryMb) .*")


@test
def a_key_that_the_driver_does_not_know_is_warned_about():
    with Cli() as cli:
        out, err = cli.fake("echo", "done", options=["-c", "imgae=x"])
        check_equal(out, "done\n")
        check_match(err, f'{PROGRAM}: warning: fake-plugin knows no config key "imgae"; it has: image, .*\n')


# --- probe ---


@test
def a_probe_says_what_is_there_and_exits_0():
    with Cli() as cli:
        out, err = cli.run("probe", "--driver", "fake-plugin", "-c", "image=demo")
        check_match(out, "fake-plugin: ready\n  .*demo.*\n")
        check_equal(err, "")
        check_equal(json.loads(cli.run("probe", "--driver", "fake-plugin", "--json")[0])["ok"], True)


@test
def a_probe_that_fails_says_why_and_exits_1():
    with Cli() as cli:
        nothing = os.path.join(cli.temp, "empty")
        os.mkdir(nothing)
        args = ["probe", "--driver", "local", "-c", f"rootfs={nothing}"]
        out, err = cli.run(*args, status=1)
        check_match(out, "local: not ready\n.*\n  error  .*")
        check_equal(err, "")
        report = json.loads(cli.run(*args, "--json", status=1)[0])
        check_equal(report["ok"], False)
        check([d for d in report["diagnostics"] if d["severity"] == "error"], shorten(report))


# --- run ---


@test
def output_goes_byte_by_byte_to_the_stream_where_it_was_printed():
    with Cli() as cli:
        script = r"printf 'a\0\377\r\n\033['; printf 'e\200' >&2"
        out, err = cli.fake("sh", "-c", script)
        check_equal(out.encode(errors="surrogateescape"), b"a\0\xff\r\n\x1b[")
        check_equal(err.encode(errors="surrogateescape"), b"e\x80")


@test
def arguments_reach_the_command_as_they_are():
    with Cli() as cli:
        out, _ = cli.fake("printf", "<%s>", "", "a b", "--driver", "$HOME", "'", "*", b"\xff")
        check_equal(out.encode(errors="surrogateescape"), b"<><a b><--driver><$HOME><'><*><\xff>")


@test
def the_exit_status_is_the_command_s():
    with Cli() as cli:
        for status in (0, 1, 42, 124, 255):
            cli.fake("sh", "-c", f"exit {status}", status=status)


@test
def a_signal_that_ended_the_command_is_128_and_its_number():
    with Cli() as cli:
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV):
            check_equal(cli.fake("sh", "-c", f"kill -{int(number)} $$", status=128 + number), ("", ""))


@test
def a_command_that_cannot_be_run_is_125_with_the_reason():
    with Cli() as cli:
        out, err = cli.fake("no-such-command", status=125)
        check_equal(out, "")
        check_equal(err, f"{PROGRAM}: spawn no-such-command ENOENT\n")


@test
def a_time_limit_ends_the_command_with_124_and_keeps_its_output():
    with Cli() as cli:
        marker = long_sleep()
        out, err = cli.fake("sh", "-c", f"echo early; sleep {marker}", options=["--timeout", "700ms"], status=124)
        check_equal(out, "early\n")
        check_equal(err, f"{PROGRAM}: the command was ended at its time limit (0.7 s)\n")
        check_equal(processes_with(marker), [])
        _, err = cli.fake("sleep", long_sleep(), options=["-c", "timeoutMs=300"], status=124)
        check_match(err, ".*the config's timeoutMs.*\n")


@test
def no_time_limit_is_set_unless_it_is_asked_for():
    with Cli() as cli:
        cli.fake("sleep", "0.4", options=["-c", "timeoutMs=100", "--timeout", "0"])


@test
def stdin_is_streamed_to_the_command():
    with Cli() as cli:
        data = bytes(range(256)) * 20_000
        check_equal(cli.fake("sha256sum", stdin=data)[0], f"{hashlib.sha256(data).hexdigest()}  -\n")
        path = cli.file("input", data)
        with open(path, "rb") as file:
            file.seek(1000)  # a shell may have read some of it
            process = cli.start("run", "--driver", "fake-plugin", "--", "sha256sum", stdin=file)
            out, _ = process.communicate(timeout=LIMIT_S)
        check_equal(out.decode().split()[0], hashlib.sha256(data[1000:]).hexdigest())
        check_equal(cli.fake("cat", stdin=b""), ("", ""))


@test
def a_command_that_does_not_read_its_stdin_ends_all_the_same():
    with Cli() as cli:
        process = cli.start("run", "--driver", "fake-plugin", "--", "echo", "done", stdin=subprocess.PIPE)
        check_equal(process.stdout.read(), b"done\n")
        check_equal(process.wait(LIMIT_S), 0)  # our end of its stdin is still open
        process.stdin.close()
        process.stderr.close()
        process.stdout.close()


@test
def output_and_input_are_live():
    with Cli() as cli:
        process = cli.start("run", "--driver", "fake-plugin", "--", "sh", "-c", "while read line; do echo got $line; done",
                            stdin=subprocess.PIPE)
        for word in (b"one", b"two"):
            process.stdin.write(word + b"\n")
            process.stdin.flush()
            check_equal(process.stdout.readline(), b"got " + word + b"\n")
        process.stdin.close()
        check_equal(process.stdout.read(), b"")
        check_equal(process.wait(LIMIT_S), 0)
        process.stdout.close()
        process.stderr.close()


@test
def closed_descriptors_do_no_harm():
    with Cli() as cli:
        for closing in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            command = f'"$0" run --driver fake-plugin -- sh -c "exit 3" {closing}'
            process = subprocess.run(["sh", "-c", command, Build.path], env=cli.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                     timeout=LIMIT_S, check=False)
            check_equal(process.returncode, 3, f"{closing}: {process.stderr}")
        process = subprocess.run(["sh", "-c", '"$0" <&-', Build.path], env=cli.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 timeout=LIMIT_S, check=False)
        check_equal((process.returncode, process.stdout), (2, b""))
        check_match(process.stderr.decode(), f"{PROGRAM}: stdin and stdout must be open\n")


@test
def variables_are_set_and_passed_on_by_name():
    with Cli() as cli:
        out, _ = cli.fake("sh", "-c", 'echo "$A|$B|$C"', options=["--env", "A=x=y", "-e", "B", "-e", "C="], env={"B": "mine", "C": "no"})
        check_equal(out, "x=y|mine|\n")


@test
def the_directory_is_the_sandbox_s_unless_another_is_named():
    with Cli() as cli:
        check_match(cli.fake("pwd")[0], f"{re.escape(cli.temp)}/paperclip-fake-sandbox-\\w+/workspace\n")
        check_equal(cli.fake("pwd", options=["--cwd", "/usr"])[0], "/usr\n")


@test
def a_reader_that_goes_away_ends_the_command_as_sigpipe_would():
    with Cli() as cli:
        process = cli.start("run", "--driver", "fake-plugin", "--", "yes")
        check_equal(process.stdout.read(2), b"y\n")
        process.stdout.close()
        check_equal(process.wait(LIMIT_S), 128 + signal.SIGPIPE)
        check_equal(process.stderr.read(), b"")
        process.stderr.close()


@test
def a_full_disk_is_told():
    with Cli() as cli:
        with open("/dev/full", "wb") as full:
            process = cli.start("run", "--driver", "fake-plugin", "--", "echo", "x", stdout=full)
            _, err = process.communicate(timeout=LIMIT_S)
            check_equal(process.returncode, 125)
            check_equal(err.decode(), f"{PROGRAM}: write to stdout: No space left on device\n")
            process = cli.start("manifest", stdout=full)
            _, err = process.communicate(timeout=LIMIT_S)
            check_equal((process.returncode, err.decode()), (1, f"{PROGRAM}: write to stdout: No space left on device\n"))


@test
def a_slow_reader_gets_everything_and_memory_stays_small():
    with Cli() as cli:
        total = 64 << 20
        process = cli.start("run", "--driver", "fake-plugin", "--", "sh", "-c", f"yes | head -c {total}; echo end >&2")
        wait_until(lambda: len(descendants(process.pid)) > 0, "the command runs")
        check_equal(process.stdout.read(2), b"y\n")
        peak, got = 0, 2
        while chunk := process.stdout.read(1 << 20):
            got += len(chunk)
            with contextlib.suppress(OSError), open(f"/proc/{process.pid}/status", encoding="ascii") as file:
                peak = max([peak] + [int(line.split()[1]) for line in file if line.startswith("RssAnon:")])
        check_equal(got, total)
        check_equal(process.wait(LIMIT_S), 0)
        check_equal(process.stderr.read(), b"end\n")
        if not Build.sanitized:
            check(peak < 16 << 10, f"{peak} kB of memory")
        process.stdout.close()
        process.stderr.close()


# --- signals ---


def started_sleep(cli, script, **more):
    """A run whose command has printed "ready": (process, the sleep's marker)."""
    marker = long_sleep()
    process = cli.start("run", "--driver", "fake-plugin", "--", "sh", "-c", script.replace("SLEEP", f"sleep {marker}"), **more)
    check_equal(process.stdout.readline(), b"ready\n")
    return process, marker


def close(process):
    process.stdout.close()
    process.stderr.close()


@test
def signals_end_the_command_and_the_sandbox():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with Cli() as cli:
            process, marker = started_sleep(cli, "trap 'echo bye; exit 9' TERM; echo ready; SLEEP & wait")
            process.send_signal(number)
            check_equal(process.stdout.read(), b"bye\n")
            check_equal(process.wait(LIMIT_S), 128 + number)
            check_equal(process.stderr.read(), b"")
            check_equal(processes_with(marker), [])
            close(process)


@test
def a_signal_is_obeyed_while_nobody_reads_the_output():
    with Cli() as cli:
        process = cli.start("run", "--driver", "fake-plugin", "--", "yes")
        full = []

        def stands_still():
            """The pipe is full when two looks find the same number of bytes in it, and some."""
            full.append(int.from_bytes(fcntl.ioctl(process.stdout, termios.FIONREAD, b"\0\0\0\0"), sys.byteorder))
            return len(full) > 20 and full[-1] > 0 and len(set(full[-20:])) == 1

        wait_until(stands_still, "the pipe is full")
        process.send_signal(signal.SIGINT)
        check_equal(process.wait(LIMIT_S), 130)
        close(process)


@test
def a_second_signal_exits_at_once_and_the_command_dies_too():
    with Cli() as cli:
        process, marker = started_sleep(cli, "trap '' TERM INT; echo ready; while :; do SLEEP; done")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        while process.poll() is None:
            time.sleep(0.01)
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
        check(process.returncode in (130, 143), f"exit status {process.returncode}")
        wait_until(lambda: not processes_with(marker), "the command dies")
        close(process)
        cli.fake("true")  # and sweeps what was left


@test
def a_run_that_is_killed_takes_its_command_along():
    with Cli() as cli:
        process, marker = started_sleep(cli, "echo ready; setsid sh -c 'SLEEP' & SLEEP")
        process.kill()
        process.wait(LIMIT_S)
        wait_until(lambda: not processes_with(marker), "the command dies")
        close(process)
        wait_until(lambda: cli.fake("true") and not [n for n in os.listdir(cli.temp) if n.startswith("paperclip-fake")],
                   "the next one sweeps")


# --- terminals ---


class Terminal:
    """A run at a terminal of its own: what the person sees and types."""

    def __init__(self, cli, *args, env=None, shell=None):
        self.master, slave = pty.openpty()
        self.slave = slave
        self.seen = b""

        def in_child():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        argv = ["sh", "-c", shell, Build.path, *args] if shell else [Build.path, *args]
        self.process = subprocess.Popen(argv, env={**cli.env, **(env or {})}, cwd=cli.temp, stdin=slave, stdout=slave, stderr=slave,
                                        preexec_fn=in_child)
        os.set_blocking(self.master, False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def type(self, data):
        os.write(self.master, data)

    def read(self):
        with contextlib.suppress(BlockingIOError, OSError):
            self.seen += os.read(self.master, 65536)
        return self.seen

    def until(self, pattern):
        wait_until(lambda: re.search(pattern, self.read(), re.S), f"{pattern} in {self.seen!r}")

    def status(self):
        wait_until(lambda: (self.read(), self.process.poll())[1] is not None, "the program ends")
        self.read()
        return self.process.returncode


def fake_run(*command):
    return ("run", "--driver", "fake-plugin", "--", *command)


@test
def at_a_terminal_ctrl_c_ends_the_command_with_130():
    with Cli() as cli:
        marker = long_sleep()
        with Terminal(cli, *fake_run("sh", "-c", f"echo ready; sleep {marker}")) as terminal:
            terminal.until(rb"ready")
            terminal.type(b"\x03")
            check_equal(terminal.status(), 130)
            check(b"interrupted: ending and cleaning up" in terminal.seen, shorten(terminal.seen))
            check_equal(processes_with(marker), [])


@test
def what_is_typed_reaches_the_command_and_ctrl_d_ends_it():
    with Cli() as cli:
        with Terminal(cli, *fake_run("sh", "-c", "cat; echo end")) as terminal:
            terminal.type(b"hello\n")
            terminal.until(rb"hello\r\nhello\r\n")
            terminal.type(b"\x04")
            check_equal(terminal.status(), 0)
            check(terminal.seen.endswith(b"end\r\n"), shorten(terminal.seen))


@test
def the_terminal_is_left_as_it_was_and_unread_input_to_the_shell():
    with Cli() as cli:
        with Terminal(cli, *fake_run("echo", "ready")) as terminal:
            before = fcntl.fcntl(terminal.slave, fcntl.F_GETFL), termios.tcgetattr(terminal.slave)
            check_equal(terminal.status(), 0)
            terminal.type(b"for the shell\n")
            check_equal((fcntl.fcntl(terminal.slave, fcntl.F_GETFL), termios.tcgetattr(terminal.slave)), before)
            check_equal(os.read(terminal.slave, 100), b"for the shell\n")


@test
def a_run_in_the_background_leaves_the_terminal_s_input_alone():
    with Cli() as cli:
        with Terminal(cli, *fake_run("cat"), shell='set -m; "$0" "$@" & wait $!; echo "status $?"; read line; echo "read $line"') as terminal:
            terminal.type(b"mine\n")
            terminal.until(rb"status 0\r\n")
            terminal.until(rb"read mine\r\n")
            check_equal(terminal.status(), 0)


@test
def colours_are_for_terminals_that_want_them():
    with Cli() as cli:
        for args in (("drivers",), ("probe", "--driver", "fake-plugin"), ("--help",), ("rnu",)):
            with Terminal(cli, *args) as terminal:
                terminal.status()
                check(ESCAPE.encode() in terminal.seen, f"no colours for {args} at a terminal")
            for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
                with Terminal(cli, *args, env=env) as terminal:
                    terminal.status()
                    check(ESCAPE.encode() not in terminal.seen, f"colours for {args} with {env}")
            out, err = cli.run(*args, status=2 if args == ("rnu",) else 0)
            check(ESCAPE not in out + err, f"colours for {args} in a pipe")


@test
def the_bare_worker_tells_a_person_where_to_look_and_is_quiet_otherwise():
    with Cli() as cli:
        with Terminal(cli) as terminal:
            terminal.until(rb"JSON-RPC.*--help")
            terminal.type(b"\x04")
            check_equal(terminal.status(), 0)
        check_equal(cli.run(), ("", ""))


# --- the local driver ---


@test
def a_command_runs_in_a_local_sandbox_that_is_removed():
    with Cli() as cli:
        needs_sandboxes(cli)
        out, err = cli.run("run", "--driver", "local", "--", "sh", "-c", "id -un; pwd; touch ../../tmp/x; exit 5", status=5)
        check_equal((out, err), ("agent\n/workspace\n", ""))
        out, err = cli.run("run", "--driver", "local", "--", "no-such-command", status=127)
        check(out == "" and "no-such-command" in err, err)


@test
def ctrl_c_ends_a_local_sandbox_with_everything_in_it():
    with Cli() as cli:
        needs_sandboxes(cli)
        marker = long_sleep()
        script = f"setsid sleep {marker} & echo ready; sleep {marker}"
        with Terminal(cli, "run", "--driver", "local", "--", "sh", "-c", script) as terminal:
            terminal.until(rb"ready")
            terminal.type(b"\x03")
            check_equal(terminal.status(), 130)
            check_equal(processes_with(marker), [])


@test
def a_sandbox_is_kept_used_again_and_removed():
    with Cli() as cli:
        needs_sandboxes(cli)
        state = os.path.join(cli.temp, "my state")
        options = ["run", "--driver", "local", "-c", f"stateDir={state}"]
        _, err = cli.run(*options, "--keep", "--", "sh", "-c", "echo hello > note")
        found = re.fullmatch(r"Kept the sandbox (\S+)\n  use it again: (.*) -- COMMAND\n  remove it:    (.*)\n", err)
        check(found, err)
        lease, again, remove = found.groups()
        env = {**cli.env, "PATH": f"{cli.temp}:{cli.env['PATH']}"}
        os.symlink(Build.path, os.path.join(cli.temp, PROGRAM))
        for _ in range(2):  # a sandbox that was used again is kept again
            shell = subprocess.run(["sh", "-c", f"{again} -- cat note"], env=env, stdout=subprocess.PIPE, timeout=LIMIT_S, check=True)
            check_equal(shell.stdout, b"hello\n")
        subprocess.run(["sh", "-c", remove], env=env, timeout=LIMIT_S, check=True)
        out, err = cli.run(*options, "--reuse", lease, "--", "cat", "note", status=125)
        check_equal(out, "")
        check_match(err, f"{PROGRAM}: .*there is no sandbox {re.escape(lease)} .*\n")
        left = [name for top, names, files in os.walk(state) for name in names if os.path.basename(top) == "leases"]
        check_equal(left, [], "left leases")


@test
def a_sandbox_is_not_kept_because_the_config_says_so():
    with Cli() as cli:
        needs_sandboxes(cli)
        check_equal(cli.run("run", "--driver", "local", "-c", "reuseLease=true", "--", "true"), ("", ""))


@test
def a_lease_from_nowhere_is_told():
    with Cli() as cli:
        needs_sandboxes(cli)
        for lease in ("local://00000000000000000000000000000000", "x", "local://../../etc"):
            out, err = cli.run("run", "--driver", "local", "--reuse", lease, "--", "true", status=125)
            check_equal(out, "")
            check_match(err, f"{PROGRAM}: resume the sandbox: .*\n")


@test
def the_quickstart_s_session_shows_requests_live_output_and_answers():
    with Cli() as cli:
        needs_sandboxes(cli)
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts", "show-session")
        shown = subprocess.run([sys.executable, "-B", script, Build.path], env=cli.env, stdout=subprocess.PIPE, timeout=LIMIT_S, check=True)
        lines = shown.stdout.decode()
        check_match(lines, r'--> .*"initialize".*--> .*"environmentExecute".* ~~ .*"execute.log".*"step 1.*<-- .*"exitCode":7,.*')
        check(lines.endswith("the worker's exit status: 0\n"), lines)


# --- replay ---


def record(cli):
    path = os.path.join(cli.temp, "session.ndjson")
    with Worker(argv=["--record", path]) as w:
        w.initialize()
        lease = w.acquire(config={"image": "i"})
        realized = w.call("environmentRealizeWorkspace", {**w.base(), "lease": lease, "workspace": {}})
        w.sh("pwd; echo hi > note; sleep 0.1", lease=lease, cwd=realized["cwd"])
        both = [w.send_sh("cat note; exit 3", lease=lease, cwd=realized["cwd"]) for _ in range(2)]
        check_equal([w.result(key)["stdout"] for key in both], ["hi\n", "hi\n"])
        w.call_error("environmentNonsense")
        w.write("not json\n")
        w.parse_error()
        w.call("environmentReleaseLease", {**w.base(), "providerLeaseId": lease["providerLeaseId"], "leaseMetadata": None})
    return path


def rewrite(path, old, new):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    check(old in text, f"{old} is not in the recording")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace(old, new))


@test
def a_recorded_session_replays_with_equal_answers():
    with Cli() as cli:
        path = record(cli)
        check_equal(cli.run("replay", path), ("10 answers compared, 0 differ\n", ""))
        check_equal(cli.run("replay", "--worker", Build.path, path)[0], "10 answers compared, 0 differ\n")


@test
def a_replay_shows_what_differs():
    with Cli() as cli:
        path = record(cli)
        rewrite(path, '"exitCode":3', '"exitCode":4')
        rewrite(path, '"stdout":"hi\\n"', '"stdout":"ho\\n"')
        out, err = cli.run("replay", path, status=1)
        check_equal(err, "")
        check_equal(out.count("environmentExecute\n"), 2, out)
        check("  result.exitCode: recorded 4, now 3\n" in out, out)
        check('  result.stdout: recorded "ho\\n", now "hi\\n"\n' in out, out)
        check(out.endswith("10 answers compared, 2 differ\n"), out)


@test
def a_worker_that_does_not_answer_is_told():
    with Cli() as cli:
        path = record(cli)
        worker = cli.file("worker", "#!/bin/sh\nread line\nexit 3\n")
        os.chmod(worker, 0o755)
        out, err = cli.run("replay", "--worker", worker, path, status=1)
        check_equal(out, "0 answers compared, 0 differ\n")
        check_match(err, f"{PROGRAM}: id \\d+ initialize: the worker ended before it answered\n")


@test
def what_is_no_recording_is_refused():
    with Cli() as cli:
        for content, pattern in [("", ".*an empty recording"), ("{}\n", ".*entry 1: not a line of a recording"),
                                 ('{"t":0,"dir":"in","line":{}}\nx\n', ".*entry 2: .*"), (b"\xff\n", ".*entry 1: not valid UTF-8")]:
            path = cli.file("recording", content)
            out, err = cli.run("replay", path, status=2)
            check_equal(out, "")
            check_match(err, f"{PROGRAM}: {pattern}\n")
        check_match(cli.run("replay", cli.temp, status=2)[1], ".*Is a directory\n")
        path = cli.file("recording", '{"t":0,"dir":"in","line":{}}\n')
        check_match(cli.run("replay", "--worker", "/no/such", path, status=2)[1], f"{PROGRAM}: /no/such: No such file or directory\n")


@test
def a_recording_holds_no_environment_values_and_its_file_is_private():
    with Cli() as cli:
        path = os.path.join(cli.temp, "session.ndjson")
        with Worker(argv=["--record", path]) as w:
            w.initialize()
            check_equal(w.execute("sh", ["-c", "echo ${#KEY}"], env={"KEY": "s3cret-value"})["stdout"], "12\n")
        with open(path, encoding="utf-8") as file:
            check("s3cret-value" not in file.read(), "the secret is in the recording")
        check_equal(os.stat(path).st_mode & 0o777, 0o600)
        out, err = cli.run("replay", path, status=1)
        check_match(err, ".*warning: the recording has masked values.*\n")
        check('recorded "12\\n", now "3\\n"' in out, out)


if __name__ == "__main__":
    main()
