#!/usr/bin/python3
"""Who owns a container: what a worker that dies leaves behind, and what `reap` makes of it; and an engine on another machine, with TLS."""

import os
import subprocess
import sys
import tempfile
import time

from driver import IMAGE, Engine, Session, check_includes, session, wait_until
from harness import Build, Worker, check, check_equal, check_match, main, remove_dir, test
from relay import Relay, TlsFront

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

PROGRAM = "paperclip-sandbox-worker"


def reap(socket_path, *words, status=0):
    """(its lines, what it said on stderr)"""
    done = subprocess.run([Build.path, "reap", "--driver", "docker", "-c", f"socketPath={socket_path}", *words], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False,
                          env={key: value for key, value in os.environ.items() if key == "PATH" or key.endswith("SAN_OPTIONS")})
    check_equal(done.returncode, status, done.stderr.decode())
    return done.stdout.decode().splitlines(), done.stderr.decode()


def iso(after_s):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + after_s))


@test
def what_a_worker_that_was_killed_was_making_is_reaped_and_its_leases_only_when_asked():
    engine = Engine()
    with Relay(engine.socket) as relay:
        with Worker(stderr_ok=True) as worker:
            s = Session(worker, engine, socketPath=relay.socket)
            kept = s.acquire()["providerLeaseId"]
            for path in ("/containers/.*/start$", "/rename"):
                before = len(relay.asked("POST", path))
                relay.fault(method="POST", path=path, stall=True)
                s.send("AcquireLease", {"runId": "r"})
                worker.until(lambda path=path, before=before: len(relay.asked("POST", path)) > before, f"a request of {path}")
            check_equal(reap(engine.socket), (["0 removed, 3 left to their owners"], ""), "with the worker alive")
            check_equal(len(engine.containers()), 3)
            worker.kill()
        half = sorted(name for name in engine.containers() if name.startswith("paperclip-new-"))
        check_equal(len(half), 2, engine.containers())
        # Another worker's are its own.
        with session() as other:
            made = other.acquire()
            told = [f"{name}: its worker died before the host had it" for name in half]
            lines, _ = reap(engine.socket, "--dry-run")
            check_equal((sorted(lines[:2]), lines[2:]), (told, ["2 would be removed, 2 left to their owners"]))
            check_equal(len(engine.containers()), 4)
            lines, _ = reap(engine.socket)
            check_equal((sorted(lines[:2]), lines[2:]), (told, ["2 removed, 2 left to their owners"]))
            check_equal(sorted(engine.containers()), sorted([kept, made["providerLeaseId"]]))
            check_equal(reap(engine.socket, "--all")[0], [f"{kept}: its worker has died", "1 removed, 1 left to its owners"])
            check_equal(other.sh(made, "echo fine")["stdout"], "fine\n")
            other.destroy(made)
    check_equal(reap(engine.socket)[0], ["0 removed"])


@test
def what_is_past_its_time_is_reaped_though_its_worker_lives():
    with session() as s:
        name = s.acquire({"requestedExpiresAt": iso(10)})["providerLeaseId"]
        wait_until(lambda: s.e.containers()[name] == "exited", "its time is over")
        check_equal(reap(s.e.socket)[0], [f"{name}: its time is over", "1 removed"])


@test
def containers_of_others_are_not_reaped():
    engine = Engine()
    _, foreign = engine.api("POST", "/containers/create?name=paperclip-new-00000000-0000-4000-8000-000000000000", {"Image": IMAGE, "Cmd": ["sh"]})
    elsewhere = {"io.paperclip.sandbox": "1", "io.paperclip.worker": "0123456789abcdef.boot.1.2.3"}
    engine.api("POST", "/containers/create?name=paperclip-new-11111111-0000-4000-8000-000000000000",
               {"Image": IMAGE, "Cmd": ["sh"], "Labels": elsewhere})
    check_equal(reap(engine.socket, "--all")[0], ["0 removed, 1 left to its owners"])
    check_equal(engine.api("GET", f"/containers/{foreign['Id']}/json")[0], 200)
    for name in (foreign["Id"], "paperclip-new-11111111-0000-4000-8000-000000000000"):
        engine.api("DELETE", f"/containers/{name}")


@test
def a_reap_that_fails_says_so():
    out, err = reap("/no/such.sock", status=1)
    check_equal(out, [])
    check_match(err, f"{PROGRAM}: reap of docker: The container engine cannot be reached: connect ENOENT /no/such.sock.*\n")
    engine = Engine()
    with Relay(engine.socket) as relay, session() as s:
        name = s.acquire({"requestedExpiresAt": iso(10)})["providerLeaseId"]
        wait_until(lambda: s.e.containers()[name] == "exited", "its time is over")
        relay.fault(method="DELETE", times=None, reply=(500, {"message": "device or resource busy"}))
        out, _ = reap(relay.socket, status=1)
        check_equal(out, [f"{name}: its time is over, but it could not be removed: device or resource busy", "0 removed, 1 could not be removed"])
        s.destroy(name)


# --- over the network ---


def certificates():
    import stub_http_server  # pylint: disable=import-outside-toplevel

    folder = tempfile.mkdtemp(prefix="psw certificates ")
    stub_http_server.make_certificates(folder)
    return folder


@test
def an_engine_over_tls_wants_our_certificate_and_shows_its_own():
    folder = certificates()
    try:
        with TlsFront(Engine().socket, f"{folder}/good.pem", f"{folder}/good.key", f"{folder}/ca.pem") as front:
            tls = {"socketPath": None, "host": f"https://127.0.0.1:{front.port}", "caFile": f"{folder}/ca.pem",
                   "tlsCertFile": f"{folder}/client.pem", "tlsKeyFile": f"{folder}/client.key"}
            with session(**tls) as s:
                made = s.acquire()
                check_includes(s.execute(made, "cat", [], {"stdin": "hello é"}), {"stdout": "hello é", "exitCode": 0})
                check_includes(s.sh(made, "echo out; echo err >&2; exit 5"), {"stdout": "out\n", "stderr": "err\n", "exitCode": 5})
                key = s.send_sh(made, "echo begun; sleep 1000", {"timeoutMs": 4000})
                check_includes(s.w.result(key), {"timedOut": True, "stdout": "begun\n"})
                for config, text in [({"tlsCertFile": None, "tlsKeyFile": None}, "tlsCertFile"), ({"caFile": None}, "caFile"),
                                     ({"tlsKeyFile": f"{folder}/good.key"}, "client certificate"), ({"tlsCertFile": "/no/such.pem"}, "/no/such.pem")]:
                    check(text in s.error("AcquireLease", {"runId": "r"}, **config)["message"], config)
                s.destroy(made)
                # What the command line reads goes whole, and byte for byte.
                data = bytes(range(256)) * 5000
                words = [word for key, value in {**s.config(), **tls}.items() if value is not None for word in ("-c", f"{key}={value}")]
                done = subprocess.run([Build.path, "run", "--driver", "docker", *words, "--", "cat"], input=data, stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, check=False)
                check_equal((done.returncode, done.stdout == data), (0, True), done.stderr.decode())
    finally:
        remove_dir(folder)


@test
def an_engine_on_a_loopback_port_needs_no_tls_and_sees_the_end_of_input():
    with Relay(Engine().socket, tcp=True) as relay, session(socketPath=None, host=f"tcp://127.0.0.1:{relay.port}") as s:
        made = s.acquire()
        check_equal(s.execute(made, "cat", [], {"stdin": "hello"})["stdout"], "hello")
        s.destroy(made)


main()
