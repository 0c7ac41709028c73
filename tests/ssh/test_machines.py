#!/usr/bin/python3
"""Keys and host keys, right and wrong; login shells, polite and not; what the probe says of them."""

import re

from driver import session
from harness import Skip, check, check_equal, check_match, main, test
from machine import USER, key_pair, program


def probe(s, **config):
    """(ok, {code: (severity, message)})"""
    got = s.call("Probe", **config)
    entries = {entry["code"]: (entry["severity"], entry["message"]) for entry in got["diagnostics"]}
    check_equal(len(entries), len(got["diagnostics"]), "each step once")
    if not got["ok"]:
        check("PRIVATE KEY" not in str(got) and "/proc/" not in str(got) and "psw-ssh" not in str(got), str(got))
    return got, entries


def steps(entries):
    return [code for code, (severity, _) in entries.items() if severity == "info"]


def acquires(s, **config):
    s.destroy(s.acquire(**config), **config)


# --- the probe ---


@test
def the_probe_goes_through_all_steps_and_leaves_nothing():
    with session() as s:
        got, entries = probe(s)
        check_equal((got["ok"], got["summary"]), (True, f"Connected to {USER}@127.0.0.1:{s.m.port} over SSH."))
        check_equal(steps(entries), ["config", "connection", "host-key", "login", "commands", "workspace"])
        check_equal(got["metadata"]["shellCommand"], "bash")
        s.nothing_left()


@test
def the_probe_names_the_step_that_fails_and_what_to_do():
    with session() as s:
        got, entries = probe(s, privateKey=...)
        check_equal((got["ok"], steps(entries)), (False, []))
        check("require privateKey" in entries["config"][1], entries)
        _, entries = probe(s, privateKey=key_pair(7)[0])
        check_equal(steps(entries), ["config", "connection", "host-key"])
        check("Permission denied" in entries["login"][1] and "authorized_keys" in entries["login"][1], entries)
        _, entries = probe(s, username="nobody-there")
        check("refuses the key or the user" in entries["login"][1], entries)
        _, entries = probe(s, remoteWorkspacePath="/dev/null/none")
        check_equal(steps(entries), ["config", "connection", "host-key", "login", "commands"])
        check("Making the directory /dev/null/none/" in entries["workspace"][1], entries)


@test
def without_known_hosts_nothing_is_trusted_and_the_probe_shows_what_to_enter():
    with session() as s:
        said = s.error("AcquireLease", {"runId": "r"}, knownHosts=...)
        check(said.startswith("knownHosts is empty, so no host key of 127.0.0.1 is trusted."), said)
        got, entries = probe(s, knownHosts="")
        check_equal((got["ok"], steps(entries)), (False, ["config", "connection"]))
        offered = entries["offered-keys"][1]
        check("does not prove" in offered, offered)
        acquires(s, knownHosts=offered.split("\n", 1)[1])
        s.m.stop()
        got, entries = probe(s, knownHosts="")
        check_equal((got["ok"], steps(entries), "connection" in entries), (False, ["config"], True))


# --- host keys ---


@test
def a_host_that_shows_another_key_is_refused():
    with session() as s:
        other = " ".join(key_pair(99)[1].split()[:2])
        wrong = f"[127.0.0.1]:{s.m.port} {other}\n"
        said = s.error("AcquireLease", {"runId": "r"}, knownHosts=wrong)
        check_match(said, re.escape(f"The host key of {USER}@127.0.0.1:{s.m.port} is not the one that is known: it shows ") + "SHA256:[A-Za-z0-9+/]+\\. .*")
        check("offered-keys" in probe(s, knownHosts=wrong)[1], "the probe shows it")
        for unknown in (f"127.0.0.1 {other}\n", f"other.example {other}", "# nothing", "garbage"):
            said = s.error("AcquireLease", {"runId": "r"}, knownHosts=unknown)
            check("is not known" in said, f"{unknown}: {said}")
        revoked = f"@revoked * {' '.join(s.m.public_host_key.split()[:2])}\n" + s.m.known_hosts()
        check("revoked" in s.error("AcquireLease", {"runId": "r"}, knownHosts=revoked), "revoked")
        acquires(s, knownHosts="# mine\r\n" + s.m.known_hosts().strip() + "\r\n")
        s.nothing_left()


@test
def what_was_taken_at_first_sight_is_not_changed_later():
    with session() as s:
        loose = {"strictHostKeyChecking": False, "knownHosts": ...}
        lease = s.acquire(**loose)
        s.m.stop()
        s.m.set_host_key(1)
        s.m.start()
        said = s.error("Execute", {"lease": {"providerLeaseId": lease}, "command": "true"}, **loose)
        check("is not the one that is known" in said, said)
        check("is not the one that is known" in s.error("DestroyLease", {"providerLeaseId": lease}, **loose), "destroy")
        s.destroy(lease)
        s.nothing_left()


# --- private keys ---


@test
def a_key_that_a_form_has_mangled_is_mended():
    key = key_pair()[0]
    with session() as s:
        for name, text in (("no newline", key.strip()), ("CRLF", key.replace("\n", "\r\n")), ("one line", key.replace("\n", " ")),
                           ("escaped", key.replace("\n", "\\n")), ("blanks around", "\n\n  " + key + "\n \n"),
                           ("indented", key.replace("\n", "\n    "))):
            check_equal(s.acquire(privateKey=text, company=name)[:6], "ssh://", name)
        rsa = key_pair(3, kind="rsa")
        s.m.authorize(key_pair()[1], rsa[1])
        check("BEGIN RSA PRIVATE KEY" in rsa[0], "an old format")
        check_equal(s.acquire(privateKey=rsa[0].replace("\n", "\r\n"))[:6], "ssh://")
        for text, want in (("garbage", "is not a private key"), (key_pair()[1], "is not a private key"), (key[:80], "is not a private key"),
                           (key.replace("b3BlbnNzaC1rZXktdjE", "AAAAAAAAAAAAAAAAAAA"), "cannot be read: its text is damaged")):
            said = s.error("AcquireLease", {"runId": "r"}, privateKey=text)
            check(want in said, f"{text[:40]}: {said}")


@test
def a_key_with_a_passphrase_is_opened_by_it_and_by_nothing_else():
    locked = key_pair(4, passphrase="pass 'word\" $x")
    old = key_pair(5, passphrase="secret", kind="rsa")
    with session() as s:
        s.m.authorize(locked[1], old[1])
        acquires(s, privateKey=locked[0], privateKeyPassphrase="pass 'word\" $x")
        acquires(s, privateKey=old[0], privateKeyPassphrase="secret")
        said = s.error("AcquireLease", {"runId": "r"}, privateKey=locked[0])
        check_equal(said, "The private key has a passphrase: set privateKeyPassphrase.")
        said = s.error("AcquireLease", {"runId": "r"}, privateKey=locked[0], privateKeyPassphrase="wrong one")
        check_equal(said, "The private key cannot be read: privateKeyPassphrase is wrong, or the key's text is damaged.")
        s.m.authorize(key_pair()[1])
        acquires(s, privateKeyPassphrase="not needed")
        s.nothing_left()


@test
def jump_hosts_are_passed_in_their_order():
    with session() as s:
        via = f"{USER}@127.0.0.1:{s.m.port}"
        acquires(s, jumpHosts=via)
        lease = s.acquire(jumpHosts=f"127.0.0.1:{s.m.port}, {via}", company="two hops")
        check_equal(s.sh(lease, "echo there", jumpHosts=f"127.0.0.1:{s.m.port}, {via}", company="two hops")["stdout"], "there\n")
        # Each hop is a log-in of its own.
        check_equal(s.m.log().count("Accepted publickey"), 2 + 3)
        said = s.error("AcquireLease", {"runId": "r"}, jumpHosts="127.0.0.1:1", company="none")
        check("127.0.0.1" in said, said)
        s.destroy(lease)
        s.nothing_left()


# --- login shells ---


NOISE = "echo noise; echo noise >&2; printf '\\001Bnot a mark\\n'\n"


@test
def any_login_shell_will_do_however_much_it_says():
    shells = {name: program(name) for name in ("sh", "bash", "dash", "fish", "tcsh", "zsh", "ksh", "mksh")}
    shells = {name: path for name, path in shells.items() if path}
    with session(users=shells, options=[]) as s:
        for name in shells:
            s.m.write_home(".bashrc", NOISE, name)
            s.m.write_home(".zshenv", NOISE, name)
            s.m.write_home(".tcshrc", "echo noise\n", name)
            s.m.write_home(".config/fish/config.fish", "echo noise; echo noise >&2\n", name)
            s.m.write_home(".profile", NOISE + "export FROM_PROFILE=yes\n", name)
        started = {name: s.send("AcquireLease", {"runId": "r"}, username=name, remoteWorkspacePath=s.m.workspace(name)) for name in shells}
        for name, key in started.items():
            config = {"username": name, "remoteWorkspacePath": s.m.workspace(name)}
            lease = s.w.result(key)["providerLeaseId"]
            words = ["a b", "", "'", "!x", "new\nline", "\\", "$HOME"]
            done = s.execute(lease, "printf", ["<%s>", *words], {"stdin": "in"}, **config)
            check_equal((done["stdout"], done["stderr"]), ("".join(f"<{word}>" for word in words), ""), name)
            done = s.sh(lease, "cat; echo \"$FROM_PROFILE\"; exit 9", {"stdin": "in"}, **config)
            check_equal((done["stdout"], done["stderr"], done["exitCode"]), ("inyes\n", "", 9), name)
            s.destroy(lease, **config)
            check_equal(s.m.leases(name), [])
        s.no_process()


@test
def a_banner_is_not_part_of_any_output():
    with session() as s:
        s.m.stop()
        banner = s.m.write("banner", "Keep out!\n" * 50)
        s.m.options.append(f'Banner "{banner}"')
        s.m.start()
        lease = s.acquire()
        done = s.sh(lease, "echo out")
        check_equal((done["stdout"], done["stderr"]), ("out\n", ""))
        s.destroy(lease)


@test
def an_account_that_runs_no_commands_is_told_from_one_that_fails():
    with session(users={"locked": program("false")}) as s:
        said = s.error("AcquireLease", {"runId": "r"}, username="locked")
        check(said.startswith(f"locked@127.0.0.1:{s.m.port} lets us in, but runs no commands: the login shell ended with status 1"), said)
        got, entries = probe(s, username="locked")
        check_equal((got["ok"], steps(entries)), (False, ["config", "connection", "host-key", "login"]))
        check("commands" in entries, entries)
        s.nothing_left()
    with session(options=["ForceCommand echo This account is currently not available."]) as s:
        said = s.error("AcquireLease", {"runId": "r"})
        check("It said: This account is currently not available." in said, said)


@test
def a_profile_that_ends_the_shell_is_left_out_and_told_once():
    with session() as s:
        s.m.write_home(".profile", "exit 0\n")
        lease = s.acquire()
        for _ in range(3):
            done = s.sh(lease, "echo ran; exit 4")
            check_equal((done["stdout"], done["stderr"], done["exitCode"]), ("ran\n", "", 4))
        told = [note["params"]["message"] for note in s.w.notes if "profile" in note["params"]["message"]]
        check_equal(len(told), 1)
        check("loginShell" in told[0], told)
        s.m.write_home(".profile", "export X=from-profile\n")
        check_equal(s.sh(lease, "echo $X")["stdout"], "from-profile\n")
        check_equal(s.sh(lease, "echo $X", loginShell=False)["stdout"], "\n")
        s.destroy(lease)


main()
