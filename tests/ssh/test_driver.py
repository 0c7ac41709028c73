#!/usr/bin/python3
"""Leases and commands of the ssh driver, on a real sshd."""

import json
import os
import re
import stat
import subprocess
import time

from driver import Session, session
from harness import OTHER_COMPANY, Build, Worker, check, check_equal, check_match, is_alive, long_sleep, main, process_table, processes_with, test, wait_until
from machine import USER, key_pair

UUID = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


# --- leases ---


@test
def a_lease_is_a_private_directory_whose_id_says_where_it_is():
    with session() as s:
        got = s.call("AcquireLease", {"runId": "r"})
        lease, metadata = got["providerLeaseId"], got["metadata"]
        check_match(lease, re.escape(f"ssh://{USER}@127.0.0.1:{s.m.port}{s.m.workspace()}/paperclip-") + UUID)
        check("expiresAt" not in got, got)
        check_equal({key: metadata[key] for key in ("driver", "host", "port", "username", "remoteWorkspacePath", "remoteCwd", "shellCommand", "reuseLease")},
                    {"driver": "ssh", "host": "127.0.0.1", "port": s.m.port, "username": USER, "remoteWorkspacePath": s.m.workspace(),
                     "remoteCwd": s.directory(lease), "shellCommand": "bash", "reuseLease": False})
        check_equal(stat.S_IMODE(os.stat(s.directory(lease)).st_mode), 0o700)
        realized = s.call("RealizeWorkspace", {"lease": {"providerLeaseId": lease}, "workspace": {}})
        check_equal(realized["cwd"], s.directory(lease))
        check_equal(s.lease_call("ReleaseLease", lease), {"providerLeaseId": lease, "state": "destroyed"})
        s.nothing_left()


@test
def a_lease_that_is_reused_keeps_its_files_and_none_of_its_processes():
    with session() as s:
        lease = s.acquire(reuseLease=True)
        mark = long_sleep()
        s.sh(lease, f"echo kept > note; sleep {mark} & setsid sleep {mark} & (sleep {mark} &) ; true", reuseLease=True)
        check_equal(len(processes_with(mark)), 3)
        check_equal(s.lease_call("ReleaseLease", lease, reuseLease=True), {"providerLeaseId": lease, "state": "stopped"})
        s.no_process()
        check("no longer active" in s.error("Execute", {"lease": {"providerLeaseId": lease}, "command": "true"}, reuseLease=True), "released")
        again = s.call("ResumeLease", {"providerLeaseId": lease, "leaseMetadata": {}}, reuseLease=True)
        check_equal((again["providerLeaseId"], again["metadata"]["reuseLease"]), (lease, True))
        check_equal(s.sh(lease, "cat note", reuseLease=True)["stdout"], "kept\n")
        s.destroy(lease, reuseLease=True)
        s.nothing_left()


@test
def a_lease_of_another_worker_goes_on():
    with Worker() as worker, session() as first:
        other = Session(worker, first.m)
        lease = first.acquire(reuseLease=True)
        first.sh(lease, "echo there > note", reuseLease=True)
        check_equal(other.sh(lease, "cat note")["stdout"], "there\n")
        check_equal(other.call("ResumeLease", {"providerLeaseId": lease})["providerLeaseId"], lease)
        other.destroy(lease)
        check_equal(first.call("ResumeLease", {"providerLeaseId": lease}), {"providerLeaseId": None, "metadata": {
            "expired": True, "reason": "the directory is not there"}})
        first.nothing_left()


@test
def destroy_is_idempotent_and_what_is_gone_is_proven_to_be():
    with session() as s:
        lease = s.acquire()
        s.destroy(lease)
        s.destroy(lease)
        check_equal(s.lease_call("ReleaseLease", lease), {"providerLeaseId": lease, "state": "destroyed"})
        check_equal(s.call("ResumeLease", {"providerLeaseId": lease})["providerLeaseId"], None)
        check_equal(s.call("DestroyLease", {"providerLeaseId": None}), None)
        eaten = s.acquire()
        mark = long_sleep()
        s.sh(eaten, f"setsid sleep {mark} & rm -rf \"$PWD\"")
        check("is not there any more" in s.error("Execute", {"lease": {"providerLeaseId": eaten}, "command": "true"}), "gone")
        s.destroy(eaten)
        s.nothing_left()


@test
def what_is_not_ours_is_never_touched():
    with session() as s:
        lease = s.acquire()
        foreign = s.directory(lease)[:-1] + ("0" if lease[-1] != "0" else "1")
        os.mkdir(foreign)
        s.m.own(foreign)
        foreign_id = lease.replace(s.directory(lease), foreign)
        wrong = {
            "another place": [lease.replace("/work space/", "/other/"), f"{lease}/..", f"{lease}/../x", lease + "x", lease.replace("127.0.0.1", "127.0.0.2"),
                              lease.replace(USER + "@", "root@"), lease.replace(f":{s.m.port}", ":22"), "ssh://", "x", f"ssh://{USER}@127.0.0.1:{s.m.port}/"],
            "no marker": [foreign_id]}
        for bad in wrong["another place"]:
            for method in ("DestroyLease", "ReleaseLease", "ResumeLease"):
                check("is not of this environment" in s.error(method, {"providerLeaseId": bad}), bad)
            check("is not of this environment" in s.error("Execute", {"lease": {"providerLeaseId": bad}, "command": "true"}), bad)
        check("nothing was touched" in s.error("DestroyLease", {"providerLeaseId": foreign_id}), foreign_id)
        check_equal(s.call("ResumeLease", {"providerLeaseId": foreign_id})["providerLeaseId"], None)
        check(os.path.isdir(foreign), "it is still there")
        os.rmdir(foreign)
        # A link in its place is not followed, nor removed.
        elsewhere = s.m.write_home("precious/file", "x")
        os.rename(s.directory(lease), s.directory(lease) + ".was")
        os.symlink(os.path.dirname(elsewhere), s.directory(lease))
        check("nothing was touched" in s.error("DestroyLease", {"providerLeaseId": lease}), lease)
        check(os.path.exists(elsewhere), "it is still there")
        os.unlink(s.directory(lease))
        os.rename(s.directory(lease) + ".was", s.directory(lease))
        s.destroy(lease)
        s.nothing_left()


@test
def a_directory_that_defends_itself_is_removed():
    with session() as s:
        lease = s.acquire()
        s.sh(lease, "mkdir -p a/b/c && touch a/b/c/d '-rf' 'new\nline' && ln -s / root && chmod 0 a/b/c && chmod 500 a/b && chmod 0 a")
        s.destroy(lease)
        check(os.path.isdir("/etc"), "links were not followed")
        s.nothing_left()


@test
def a_lease_that_is_to_expire_removes_itself():
    with session() as s:
        soon = time.time() + 4
        text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(soon + 1))
        got = s.call("AcquireLease", {"runId": "r", "requestedExpiresAt": text})
        lease, mark = got["providerLeaseId"], long_sleep()
        check_equal(got["expiresAt"], text)
        s.sh(lease, f"touch file; setsid sleep {mark} & true")
        kept = s.call("AcquireLease", {"runId": "r", "requestedExpiresAt": "2100-01-01T00:00:00Z"})["providerLeaseId"]
        s.destroy(kept)
        wait_until(lambda: not os.path.exists(s.directory(lease)), "it is gone", 30)
        s.nothing_left()
        check("is in the past" in s.error("AcquireLease", {"runId": "r", "requestedExpiresAt": "2001-01-01T00:00:00Z"}), "past")


def reap(s, *more):
    config = s.m.write("config.json", json.dumps(s.config()), 0o600)
    done = subprocess.run([Build.path, "reap", "--driver", "ssh", "--config", config, *more], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          check=False)
    check_equal(done.returncode, 0)
    return done.stdout.decode()


@test
def reap_removes_what_is_past_its_time_and_what_workers_have_left_if_asked():
    with Worker() as other, session() as s:
        lost = Session(other, s.m).acquire()
        Session(other, s.m).sh(lost, "touch file")
        other.kill()
        other.wait_end()
        kept, late = s.acquire(), s.acquire()
        marker = os.path.join(s.m.workspace(), f".{late.rsplit('/', 1)[1]}.lease")
        with open(marker, encoding="ascii") as file:
            lines = file.read().splitlines()
        check_equal(lines[2], "0")
        with open(marker, "w", encoding="ascii") as file:
            file.write("\n".join([*lines[:2], "1000000000", ""]))
        check_equal(reap(s, "--dry-run"), f"{s.directory(late)}: its time is over\n1 would be removed, 2 left to their owners\n")
        check_equal(reap(s), f"{s.directory(late)}: its time is over\n1 removed, 2 left to their owners\n")
        check_equal(reap(s, "--all"), f"{s.directory(lost)}: its worker has died\n1 removed, 1 left to its owners\n")
        check_equal(reap(s, "--all"), "0 removed, 1 left to its owners\n")
        s.destroy(kept)
        s.nothing_left()


# --- commands ---


@test
def streams_exit_codes_and_signals_are_the_commands_own():
    with session() as s:
        lease = s.acquire()
        done = s.sh(lease, "echo out; echo err >&2; exit 3")
        check_equal((done["stdout"], done["stderr"], done["exitCode"], done["signal"], done["timedOut"]), ("out\n", "err\n", 3, None, False))
        codes = {code: s.send_sh(lease, f"exit {code}") for code in (0, 1, 126, 127, 128, 130, 137, 254, 255)}
        deaths = {name: s.send_sh(lease, f"echo before; kill -{name} $$") for name in ("KILL", "TERM", "SEGV", "HUP", "USR1", "ABRT")}
        for code, key in codes.items():
            done = s.w.result(key)
            check_equal((done["exitCode"], done["signal"], done["stdout"], done["stderr"]), (code, None, "", ""), f"exit {code}")
        for name, key in deaths.items():
            done = s.w.result(key)
            check_equal((done["signal"], done["stdout"], done["stderr"]), (f"SIG{name}", "before\n", ""), name)
            check(done["exitCode"] > 128, done)
        none = s.execute(lease, "no-such-program")
        check_equal(none["exitCode"], 127)
        check("no-such-program" in none["stderr"], none)
        check_equal(s.execute(lease, "/")["exitCode"], 126)
        s.destroy(lease)


@test
def arguments_environment_and_input_arrive_to_the_byte():
    special = ["", " ", "'", "\"", "\\", "$HOME", "`id`", "$(id)", "!", "!!", "*", "?", "~", "#", ";", "&", "|", "a\nb", "\n", "\t", "\r", "-n", "--", "-c",
               "ü", "日本", "\U0001f600", "%s", "{a,b}", "[!a]", "\x01\x02\x1b\x7f", "'\"'\"'", "a'b", "--EOS--", "\\n", "x" * 5000]
    with session() as s:
        lease = s.acquire()
        done = s.execute(lease, "printf", ["<%s>", *special])
        check_equal(done["stdout"], "".join(f"<{word}>" for word in special))
        env = {f"V{number}": word for number, word in enumerate(special)}
        env |= {name: "1 2" for name in ("UID", "IFS", "PPID", "OPTIND", "BASH_VERSION", "PWD", "HOME", "PATH_X", "n", "s", "m", "l", "w", "LC_ALL", "PS1", "ENV")}
        done = s.execute(lease, "/usr/bin/env", ["-0"], {"env": env})
        got = dict(entry.split("=", 1) for entry in done["stdout"].split("\0") if entry)
        check_equal({key: got.get(key) for key in env}, env)
        for text in ("", "x", "no end", "\0\x01B\xff\n", "line\n" * 3, "\x01" * 200, "ä" * 100_000):
            check_equal(s.execute(lease, "cat", more={"stdin": text})["stdout"], text, f"{len(text)} characters of input")
        check_equal(s.execute(lease, "cat")["stdout"], "")
        big = "0123456789abcdef" * 262_144
        check_equal(s.sh(lease, "base64 -d > file; wc -c < file; cat file | base64 -w0", {"stdin": big})["stdout"].strip(), f"{len(big) * 3 // 4}\n{big}")
        # What is not read is no error.
        check_equal(s.execute(lease, "true", more={"stdin": big})["exitCode"], 0)
        s.destroy(lease)


@test
def the_working_directory_is_the_leases_own_or_the_one_asked_for():
    with session() as s:
        lease = s.acquire()
        check_equal(s.execute(lease, "pwd")["stdout"].strip(), s.directory(lease))
        check_equal(s.execute(lease, "pwd", more={"cwd": "/"})["stdout"], "/\n")
        s.sh(lease, "mkdir -p \"it's a dir/-x\"")
        inner = s.directory(lease) + "/it's a dir/-x"
        check_equal(s.execute(lease, "pwd", more={"cwd": inner})["stdout"].strip(), inner)
        for cwd in ("/no/such", "/etc/passwd", s.directory(lease) + "/none"):
            check_equal(s.error("Execute", {"lease": {"providerLeaseId": lease}, "command": "pwd", "cwd": cwd}),
                        f"Working directory {cwd} cannot be entered on 127.0.0.1.")
        check("absolute path" in s.error("Execute", {"lease": {"providerLeaseId": lease}, "command": "pwd", "cwd": "relative"}), "relative")
        s.destroy(lease)


@test
def what_cannot_be_told_to_a_shell_is_refused_before_it_is_sent():
    with session() as s:
        lease = s.acquire()
        for more, text in (({"command": ""}, "command"), ({"command": "-x"}, "must not start with a dash"), ({"command": "a\0b"}, "null"),
                           ({"command": "true", "args": ["a\0b"]}, "null"), ({"command": "true", "env": {"A=B": "x"}}, "Invalid sandbox environment variable key"),
                           ({"command": "true", "env": {"A B": "x"}}, "Invalid sandbox environment variable key"),
                           ({"command": "true", "env": {"A": "x\0y"}}, "null")):
            said = s.error("Execute", {"lease": {"providerLeaseId": lease}, **more})
            check(text in said, f"{more}: {said}")
        none = s.call("Execute", {"lease": {"providerLeaseId": None}, "command": "true"})
        check_equal((none["exitCode"], none["stderr"]), (1, "No provider lease ID available for execution."))
        s.destroy(lease)


@test
def neither_arguments_nor_environment_nor_keys_can_be_seen_in_process_lists():
    secret = "s3cret" + "-value"
    with session() as s:
        lease = s.acquire()
        key = s.send_sh(lease, "read -r word; echo \"$word\"; echo started; sleep 1000", {"stdin": "go\n", "env": {"TOKEN": secret}})
        s.w.until(lambda: "started" in s.w.live_text(key), "it has started")
        seen = process_table()
        lines = [command for _, _, command in seen.values()]
        check(not any(secret in line for line in lines), "the environment")
        check(not any("PRIVATE KEY" in line or key_pair()[0].split("\n")[1] in line for line in lines), "the key")
        left = [os.path.join(top, name) for top in ("/tmp", "/dev/shm") for folder, _, names in os.walk(top) for name in names
                if folder.startswith(os.path.join(top, "psw-ssh-")) and stat.S_ISREG(os.lstat(os.path.join(folder, name)).st_mode) and name != "lock"]
        check_equal(left, [], "files of the worker's")
        s.destroy(lease)
        check_equal(s.w.answer(key)["error"]["code"], -32002)
        s.nothing_left()


@test
def output_comes_while_the_command_runs_and_is_whole():
    with session() as s:
        lease = s.acquire()
        fifo = s.directory(lease) + "/go"
        key = s.send_sh(lease, "mkfifo go; echo one; echo two >&2; read -r x < go; echo three")
        s.w.until(lambda: s.w.live_text(key) == "one\n" and s.w.live_text(key, "stderr") == "two\n", "live output")
        with open(fifo, "w", encoding="ascii") as file:
            file.write("go\n")
        done = s.w.result(key)
        check_equal((done["stdout"], done["stderr"]), ("one\nthree\n", "two\n"))
        many = s.sh(lease, "i=0; while [ $i -lt 3000 ]; do echo \"out $i\"; echo \"err $i\" >&2; i=$((i+1)); done")
        check_equal(many["stdout"], "".join(f"out {i}\n" for i in range(3000)))
        check_equal(many["stderr"], "".join(f"err {i}\n" for i in range(3000)))
        bulk = s.sh(lease, "head -c 20000000 /dev/zero | tr '\\0' x")
        check_equal((len(bulk["stdout"]), bulk["stdout"].strip("x")), (20_000_000, ""))
        odd = s.sh(lease, "printf 'a\\001Bnot\\n\\001E\\001\\377\\303'; printf '\\200' >&2")
        check_equal((odd["stdout"], odd["stderr"]), ("a\x01Bnot\n\x01E\x01\ufffd\ufffd", "\ufffd"))
        s.destroy(lease)


@test
def what_runs_in_the_background_does_not_hold_the_answer_up():
    with session() as s:
        lease = s.acquire()
        mark = long_sleep()
        done = s.sh(lease, f"sleep {mark} & echo hi")
        check_equal((done["stdout"], done["exitCode"]), ("hi\n", 0))
        check_equal(len(processes_with(mark)), 1)
        check_equal(s.sh(lease, f"kill $(ps -eo pid,args | awk '/[s]leep {mark}/ {{print $1}}') && echo ended")["stdout"], "ended\n")
        s.no_process()
        s.destroy(lease)


# --- ending ---

STUBBORN = ("trap '' TERM HUP INT; echo $$; sleep {0} & setsid sleep {0} & (setsid sh -c 'trap \"\" TERM; sleep {0}' & ) ; "
            "env -i sleep {0} & echo ready; sleep {0}; echo never")


@test
def a_timeout_keeps_what_was_printed_and_ends_the_whole_tree():
    with session() as s:
        lease = s.acquire()
        mark = long_sleep()
        done = s.sh(lease, STUBBORN.format(mark), {"timeoutMs": 1500})
        check_equal((done["exitCode"], done["timedOut"]), (None, True))
        check(done["stdout"].endswith("ready\n"), done)
        s.no_process()
        check_equal(s.sh(lease, "echo still works")["stdout"], "still works\n")
        instant = s.sh(lease, f"sleep {mark}", {"timeoutMs": 1})
        check_equal(instant["timedOut"], True)
        s.no_process()
        limited = s.sh(lease, f"sleep {mark}", timeoutMs=700)
        check_equal(limited["timedOut"], True)
        s.destroy(lease)
        s.nothing_left()


@test
def release_and_destroy_end_what_runs():
    with session() as s:
        for method in ("ReleaseLease", "DestroyLease"):
            lease = s.acquire()
            mark = long_sleep()
            key = s.send_sh(lease, STUBBORN.format(mark))
            s.w.until(lambda key=key: "ready" in s.w.live_text(key), "it runs")
            check_equal(s.lease_call(method, lease, {"cancelActiveWork": True}), {"providerLeaseId": lease, "state": "destroyed"})
            check("error" in s.w.answer(key), "the command has failed")
            s.nothing_left()


@test
def a_worker_that_is_killed_leaves_no_command_behind():
    with session() as s:
        lease = s.acquire()
        mark = long_sleep()
        key = s.send_sh(lease, STUBBORN.format(mark))
        s.w.until(lambda: "ready" in s.w.live_text(key), "it runs")
        s.w.kill()
        s.no_process()
        wait_until(lambda: not s.m.connections(), "no connection is left")


@test
def companies_share_no_connection_and_environments_do():
    with session() as s:
        first = s.acquire()
        s.acquire(environment="env-2")
        check_equal(len(s.m.connections()), 1)
        s.acquire(company=OTHER_COMPANY)
        check_equal(len(s.m.connections()), 2)
        check(all(is_alive(pid) for pid in s.m.connections()), "alive")
        s.destroy(first)


main()
