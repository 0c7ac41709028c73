#!/usr/bin/python3
"""Leases of the docker driver at a real engine: made as asked for, used, stopped, started again, removed."""

import json
import os
import socket
import subprocess
import time

from driver import FOLDER, IMAGE, Session, check_includes, lease, session, wait_until
from harness import Build, Worker, check, check_equal, check_match, main, test

LEASE_ID = r"paperclip-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
CAPABILITIES = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7  # CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID


def has_limits():
    """True if the engine has control groups."""
    with open(f"{FOLDER}/containers.conf", encoding="utf-8") as file:
        return "disabled" not in file.read()


@test
def a_lease_is_a_container_that_runs_commands_and_is_removed():
    with session() as s:
        made = s.acquire()
        lease_id = made["providerLeaseId"]
        check_match(lease_id, LEASE_ID)
        check_includes(made["metadata"], {"provider": "docker", "containerName": lease_id, "engine": "podman", "remoteCwd": "/workspace",
                                          "shellCommand": "sh", "reuseLease": False})
        check_equal(s.e.containers(), {lease_id: "running"})
        check_includes(s.e.labels(lease_id), {"io.paperclip.sandbox": "1", "io.paperclip.environment": "env-1"})
        result = s.sh(made, "pwd; echo oops >&2; exit 3")
        check_includes(result, {"exitCode": 3, "timedOut": False, "stdout": "/workspace\n", "stderr": "oops\n"})
        check_equal(s.lease_call("ReleaseLease", made), {"providerLeaseId": lease_id, "state": "destroyed"})
        check_equal(s.e.containers(), {})
        for method in ("ReleaseLease", "DestroyLease"):  # what is gone is gone
            check_equal(s.lease_call(method, made), {"providerLeaseId": lease_id, "state": "destroyed"})
        check_equal(s.w.error(s.send_sh(made, "true"))["message"], f"The docker lease {lease_id} is no longer active.")


@test
def a_container_is_confined_as_the_config_says():
    limits = {"memoryMb": 64, "cpus": 0.5, "pidsLimit": 60} if has_limits() else {}
    source = f"{FOLDER}/shared"
    os.makedirs(source, exist_ok=True)
    with open(f"{source}/file", "w", encoding="utf-8") as file:
        file.write("shared\n")
    config = {"network": "none", "mounts": [{"source": source, "target": "/data"}], "env": {"K": "v w"}, "labels": {"team": "a"}, **limits}
    with session(**config) as s, lease(s) as made:
        inspected = s.e.inspect(made["providerLeaseId"])
        check_includes(inspected["Config"]["Labels"], {"team": "a"})
        script = ("grep -E 'CapEff|NoNewPrivs' /proc/self/status; cat /data/file; touch /data/x; echo $?; echo $K; cat /proc/1/comm; "
                  "ls /sys/class/net | tr '\\n' ' '")
        lines = s.sh(made, script)["stdout"].split("\n")
        check_equal(int(lines[0].split()[1], 16), CAPABILITIES)
        check_equal(lines[1].split(), ["NoNewPrivs:", "1"])
        check_equal(lines[2:5], ["shared", "1", "v w"])
        check(lines[5] in ("podman-init", "catatonit", "docker-init"), lines)
        check_equal(lines[6].split(), ["lo"])
        if limits:
            check_includes(inspected["HostConfig"], {"Memory": 64 << 20, "NanoCpus": 500_000_000, "PidsLimit": 60})
            check_equal(s.sh(made, "tail -c 100000000 /dev/zero | wc -c >/dev/null; echo ${PIPESTATUS:-done}")["stdout"], "done\n")
            check("can't fork" in s.sh(made, "i=0; while [ $i -lt 70 ]; do sleep 5 & i=$((i+1)); done")["stderr"], "no limit of processes")


@test
def a_read_only_root_has_a_workspace_of_its_own_that_goes_with_it():
    with session(readOnlyRoot=True, user="agent") as s:
        before = s.e.volumes()
        made = s.acquire(reuseLease=True)
        result = s.sh(made, "id -un; pwd; echo kept >file; echo x >/tmp/x && echo tmp; touch /etc/x || touch /home/agent/x || echo read-only")
        check_equal(result["stdout"], "agent\n/workspace\ntmp\nread-only\n")
        check_equal(s.lease_call("ReleaseLease", made, reuseLease=True)["state"], "stopped")
        s.lease_call("ResumeLease", made, reuseLease=True)
        check_equal(s.sh(made, "cat file", reuseLease=True)["stdout"], "kept\n")
        s.destroy(made)
        check_equal(s.e.volumes(), before, "volumes that are left")


@test
def a_workspace_that_the_user_may_not_make_is_handed_to_it():
    with session(user="1000:1000", workdir="/srv/deep/work") as s, lease(s) as made:
        check_equal(made["metadata"]["remoteCwd"], "/srv/deep/work")
        check_equal(s.sh(made, "pwd; id -u; echo x >x; ls -ld . | cut -d' ' -f1")["stdout"], "/srv/deep/work\n1000\ndrwxr-xr-x\n")


@test
def realize_makes_the_directory_that_is_asked_for():
    with session() as s, lease(s) as made:
        answer = s.call("RealizeWorkspace", {"lease": s.reference(made), "workspace": {}})
        check_equal(answer["cwd"], "/workspace")
        answer = s.call("RealizeWorkspace", {"lease": {"providerLeaseId": made["providerLeaseId"]}, "workspace": {"remotePath": "/srv/a b/c"}})
        check_equal(answer["cwd"], "/srv/a b/c")
        check_equal(s.sh(made, "pwd", {"cwd": "/srv/a b/c"})["stdout"], "/srv/a b/c\n")


@test
def what_cannot_be_made_says_why_and_leaves_nothing():
    inner = f"{FOLDER}/inner.sock"
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(inner)
    cases = [
        ({"image": "localhost/sandbox:shell-less"}, "The image localhost/sandbox:shell-less cannot be used: .*/bin/sh.*"),
        ({"image": "localhost/none:1"}, "The image localhost/none:1 is not at the engine .*, and pullPolicy is never."),
        ({"user": "zork"}, ".*zork.*"),
        ({"network": "no-such-net"}, ".*no-such-net.*"),
        ({"runtime": "runsc"}, "The engine at .* used the runtime crun, not runsc as the config asks: the container was removed."),
        ({"workdir": "/proc/x"}, "The workspace /proc/x cannot be made in the container.*|.*/proc/x.*"),
        ({"mounts": [{"source": "/no/such/dir"}]}, "mounts: /no/such/dir: No such file or directory"),
        ({"mounts": [{"source": "/run", "target": "/x"}]}, "mounts: /run may hold an engine's socket.*"),
        ({"mounts": ["/:/host"]}, "mounts: / may hold an engine's socket.*"),
        ({"mounts": [{"source": FOLDER, "target": "/x"}]}, "mounts: .* may hold an engine's socket.*"),
        ({"mounts": [{"source": inner, "target": "/x"}]}, "mounts: .*inner.sock is a socket.*"),
    ]
    with session() as s:
        keys = [(s.send("AcquireLease", {"runId": "r"}, **config), pattern) for config, pattern in cases]
        for key, pattern in keys:
            check_match(s.w.error(key)["message"], pattern)
        check_equal(s.e.containers(), {})
        with lease(s, mounts=[f"{inner}:/x"], allowEngineSocket=True) as made:
            check_equal(s.sh(made, "[ -S /x ] && echo socket")["stdout"], "socket\n")
        # The runtime that the engine has anyway is no other one.
        with lease(s, runtime="crun") as made:
            check_equal(s.sh(made, "echo fine")["stdout"], "fine\n")


@test
def a_lease_is_resumed_from_every_state():
    with session(reuseLease=True) as s:
        made = s.acquire()
        name = made["providerLeaseId"]
        s.sh(made, "echo kept >file")
        check_equal(s.lease_call("ReleaseLease", made), {"providerLeaseId": name, "state": "stopped"})
        check_equal(s.lease_call("ReleaseLease", made), {"providerLeaseId": name, "state": "stopped"})
        check_equal(s.e.containers(), {name: "exited"})
        states = [None, ("stop", 204), ("kill", 204)] + ([("pause", 204)] if has_limits() else [])
        for state in states:
            if state:
                check_equal(s.e.api("POST", f"/containers/{name}/{state[0]}")[0], state[1])
            resumed = s.lease_call("ResumeLease", made)
            check_equal(resumed["providerLeaseId"], name)
            check_includes(resumed["metadata"], {"remoteCwd": "/workspace", "shellCommand": "sh", "reuseLease": True})
            check_equal(s.sh(made, "cat file")["stdout"], "kept\n", f"after {state}")
        # Another worker knows nothing of it, and needs nothing else.
        with Worker() as worker:
            other = Session(worker, s.e, reuseLease=True)
            check_equal(other.sh(made, "cat file")["stdout"], "kept\n")
        s.destroy(made)


@test
def what_is_not_ours_is_left_alone():
    with session() as s:
        status, foreign = s.e.api("POST", "/containers/create?name=paperclip-00000000-0000-4000-8000-000000000000", {"Image": IMAGE, "Cmd": ["sh"]})
        check_equal(status, 201, foreign)
        names = ["paperclip-00000000-0000-4000-8000-000000000000", foreign["Id"], "../images/prune", "paperclip-", "x" * 5000, "paperclip-new-1"]
        for name in names:
            check_equal(s.lease_call("ResumeLease", name), {"providerLeaseId": None, "metadata": {"provider": "docker", "expired": True}})
            check_includes(s.lease_call("DestroyLease", name), {"state": "destroyed"})
            check("message" in s.w.error(s.send_sh(name, "true")), name)
        check_equal(s.e.api("GET", f"/containers/{foreign['Id']}/json")[0], 200)
        s.e.api("DELETE", f"/containers/{foreign['Id']}")


@test
def an_idle_container_stops_and_the_next_command_starts_it():
    with session(idleTimeoutMs=1000) as s:
        made = s.acquire()
        name = made["providerLeaseId"]
        check_equal(s.sh(made, "echo kept >file; sleep 3; echo busy")["stdout"], "busy\n")
        wait_until(lambda: s.e.containers()[name] == "exited", "it stops by itself")
        check_equal(s.sh(made, "cat file")["stdout"], "kept\n")
        s.destroy(made)


@test
def a_container_ends_at_the_time_that_the_host_gives():
    def iso(after_s):
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + after_s))

    with session() as s:
        made = s.acquire({"requestedExpiresAt": iso(10)})
        name = made["providerLeaseId"]
        check_match(made["expiresAt"], r"20\d\d-.*Z")
        wait_until(lambda: s.e.containers()[name] == "exited", "its time is over")
        check_match(s.w.error(s.send_sh(made, "true"))["message"], f"The container {name} has reached the time at which it was to end.")
        check_equal(s.lease_call("ResumeLease", made), {"providerLeaseId": None, "metadata": {"provider": "docker", "expired": True}})
        check_equal(s.e.containers(), {})


@test
def a_probe_tells_what_is_there_and_what_is_not():
    with session() as s:
        report = s.call("Probe")
        check_equal(report["ok"], True)
        check_equal([d["code"] for d in report["diagnostics"] if d["severity"] != "warning" and d["code"] != "warnings"],
                    ["engine", "image", "sandbox", "command"])
        check("Podman 4" in report["diagnostics"][0]["message"] or "Podman" in report["diagnostics"][0]["message"], report)
        for config, code, text in [({"image": "localhost/none:1"}, "image", "pullPolicy is never"),
                                   ({"socketPath": "/no/such.sock"}, "engine", "ENOENT /no/such.sock"),
                                   ({"cpus": "many"}, "config", "cpus must be a number"),
                                   ({"user": "zork"}, "sandbox", "zork")]:
            report = s.call("Probe", **config)
            check_equal((report["ok"], report["diagnostics"][-1]["code"], report["diagnostics"][-1]["severity"]), (False, code, "error"))
            check(text in report["diagnostics"][-1]["message"] and text in report["summary"], report)


@test
def the_command_line_runs_and_keeps_and_destroys():
    config = ["--driver", "docker", "-c", f"socketPath={FOLDER}/api.sock", "-c", f"image={IMAGE}", "-c", "pullPolicy=never"]

    def run(*words, data=b"", status=0):
        done = subprocess.run([Build.path, "run", *config, *words], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                              env={"PATH": os.environ["PATH"], **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}})
        check_equal(done.returncode, status, done.stderr.decode())
        return done.stdout, done.stderr.decode()

    with session() as s:
        data = bytes(range(256)) * 1000
        check_equal(run("--", "cat", data=data)[0], data)
        check_equal(run("--", "sh", "-c", "kill -9 $$", status=137)[0], b"")
        said = run("--keep", "--", "sh", "-c", "echo kept >file")[1]
        name, = s.e.containers()
        check(name in said, said)
        check_equal(run("--reuse", name, "--", "cat", "file")[0], b"kept\n")
        run("--reuse", name, "--destroy")
        drivers = subprocess.run([Build.path, "drivers", "--json"], stdout=subprocess.PIPE, check=True).stdout
        docker, = (driver for driver in json.loads(drivers) if driver["driverKey"] == "docker")
        check_includes(docker, {"reusableLeases": True, "liveOutput": True, "interactiveSetup": True, "templates": True})


main()
