#!/usr/bin/python3
"""wire: modal. What a command costs, output as it comes, deadlines, and the ends of leases."""

import os
import re
import time

from driver import EXECUTE, LOOK, check_includes, result, session
from harness import COMPANY, OTHER_COMPANY, check, check_equal, check_match, main, test, wait_until

UNAVAILABLE, INTERNAL = 14, 13
PROFILES = ('if [ -f /etc/profile ]; then . /etc/profile >/dev/null 2>&1 || true; fi && '
            'if [ -f "$HOME/.profile" ]; then . "$HOME/.profile" >/dev/null 2>&1 || true; fi && '
            'if [ -f "$HOME/.bash_profile" ]; then . "$HOME/.bash_profile" >/dev/null 2>&1 || true; '
            'elif [ -f "$HOME/.bashrc" ]; then . "$HOME/.bashrc" >/dev/null 2>&1 || true; fi && '
            'if [ -f "$HOME/.zprofile" ]; then . "$HOME/.zprofile" >/dev/null 2>&1 || true; fi && ')
GONE = result(1, "", "Modal sandbox lease is no longer available.\n")


def sorted_calls(s, since):
    return sorted(s.e.calls(since))


# --- calls ---


@test
def a_command_in_a_known_lease_costs_four_calls_and_with_stdin_nine_more():
    with session() as s:
        lease = s.acquire()
        check_equal(s.e.calls(), ["AuthTokenGet", "AppGetOrCreate", "ImageGetOrCreate", "SandboxCreate", "SandboxTagsSet", "SandboxGetTaskId",
                                  "TaskGetCommandRouterAccess", "TaskExecStart", "TaskExecWait"])
        since = len(s.e.calls())
        for _ in range(3):
            check_equal(s.sh(lease, "echo hi"), result(stdout="hi\n"))
        check_equal(sorted_calls(s, since), sorted(EXECUTE * 3))
        since = len(s.e.calls())
        check_equal(s.execute(lease, "cat", [], {"stdin": "in"})["stdout"], "in")
        check_equal(len(s.e.calls(since)), 13)


@test
def a_lease_of_another_worker_is_looked_up_once():
    with session() as s:
        lease = s.sandbox()
        since = len(s.e.calls())
        for _ in range(2):
            check_equal(s.execute(lease, "true", environment="env-2"), result())
        check_equal(sorted_calls(s, since), sorted(LOOK + EXECUTE * 2))


@test
def the_creation_is_the_documented_one():
    with session() as s:
        s.acquire(environment=None, idleTimeoutMs=60000, sandboxTimeoutMs=120000, cidrAllowlist=["10.0.0.0/8", " ", 7])
        s.acquire({"runId": ""}, blockNetwork=True, reuseLease=True)
        first, second = (request["request"] for request in s.e.requests("SandboxCreate"))
        check_includes(first["definition"], {"timeout_secs": 120, "idle_timeout_secs": 60, "workdir": s.workdir,
                                             "network_access": {"network_access_type": 3, "allowed_cidrs": ["10.0.0.0/8"]}})
        check_equal(second["definition"]["network_access"], {"network_access_type": 2})
        check("idle_timeout_secs" not in second["definition"], second)
        tags = [{"tag_name": name, "tag_value": value} for name, value in (
            ("paperclip-provider", "modal"), ("paperclip-company-id", COMPANY), ("paperclip-environment-id", "None"),
            ("paperclip-reuse-lease", "false"), ("paperclip-run-id", "run-1"))]
        del tags[2]
        check_equal([tag for tag in first["tags"] if tag["tag_name"] != "paperclip-environment-id"], tags)
        check_equal([tag["tag_name"] for tag in second["tags"]], ["paperclip-provider", "paperclip-company-id", "paperclip-environment-id",
                                                                   "paperclip-reuse-lease"])
        for request in s.e.requests("ImageGetOrCreate"):
            check_equal(request["request"]["builder_version"], "2024.10")


@test
def the_script_is_the_documented_one():
    with session() as s:
        lease = s.acquire()
        for more, start, end in (
                ({"env": {"B": "x y'", "N": 5, "A": "", "L": None}}, "cd '/' && ", """exec env B='x y'"'"'' A='' 'true'"""),
                ({"cwd": ""}, "", "exec 'true'"), ({"cwd": None}, f"cd '{s.workdir}' && ", "exec 'true'"), ({"env": {"N": 1}}, "cd '/' && ", "exec 'true'")):
            check_equal(s.execute(lease, "true", [], more), result())
            script = s.scripts()[-1]
            check(script.endswith(f"; fi && {start}{end}"), script)
        check_equal(script[:len(PROFILES)], PROFILES)


@test
def every_call_carries_its_metadata():
    with session() as s:
        s.e.fault(rpc="SandboxCreate", status=[UNAVAILABLE, "busy"], times=2)
        s.acquire()
        creates = s.e.requests("SandboxCreate")
        check_equal([one["metadata"]["x-retry-attempt"] for one in creates], ["0", "1", "2"])
        check_equal(len({one["metadata"]["x-idempotency-key"] for one in creates}), 1)
        check("x-retry-delay" not in creates[0]["metadata"], creates[0])
        check_match(creates[1]["metadata"]["x-retry-delay"], r"\d\.\d{3}")
        for call in s.e.requests():
            metadata = call["metadata"]
            if call["rpc"].startswith("TaskExec"):
                check_match(metadata["authorization"], "Bearer .+")
                check("x-modal-token-secret" not in metadata, "the router gets no credentials")
                continue
            check_includes(metadata, {"content-type": "application/grpc", "te": "trailers", "x-modal-client-type": "8",
                                      "x-modal-client-version": "1.0.0", "x-modal-libmodal-version": "modal-js/0.7.4",
                                      "x-modal-token-id": "test-id", "x-modal-token-secret": "test-secret"})
            check_equal("x-modal-auth-token" in metadata, call["rpc"] != "AuthTokenGet")
            check_match(metadata["x-idempotency-key"], r"[0-9a-f-]{36}")


# --- config ---


@test
def what_cannot_be_created_is_refused_before_any_call():
    with session() as s:
        for config, text in (
                ({"sandboxTimeoutMs": 0}, "timeoutMs must be positive, got 0"),
                ({"sandboxTimeoutMs": 1500}, "timeoutMs must be a multiple of 1000ms, got 1500"),
                ({"idleTimeoutMs": -1}, "idleTimeoutMs must be positive, got -1"),
                ({"idleTimeoutMs": 1}, "idleTimeoutMs must be a multiple of 1000ms, got 1"),
                ({"workdir": "rel"}, "workdir must be an absolute path, got: rel"),
                ({"blockNetwork": True, "cidrAllowlist": ["a"]}, "cidrAllowlist cannot be used when blockNetwork is enabled"),
                ({"tokenId": None}, "Modal sandbox environments require both tokenId and tokenSecret to be configured."),
                ({"tokenId": None, "tokenSecret": " "}, "Profile is missing token_id or token_secret. Please set them in .modal.toml, or as "
                                                        "environment variables, or via ModalClient constructor."),
                ({"serverUrl": "http://modal.example"}, "serverUrl must be an https:// URL, or an http:// URL of this machine.")):
            error = s.error("AcquireLease", {"runId": "r"}, **config)
            check_equal((error["code"], error["message"]), (-32002, text))
        check_equal(s.error("Probe", tokenId=None)["message"], "Modal sandbox environments require both tokenId and tokenSecret to be configured.")
        check_equal(s.e.calls(), [])


@test
def numbers_and_texts_of_the_config_are_read_as_JavaScript_reads_them():
    with session() as s:
        def normalized(**config):
            got = s.w.call("environmentValidateConfig", {"driverKey": "modal", "config": {
                "appName": "a", "image": "i", "tokenId": "t", "tokenSecret": "s", **config}})
            return got.get("normalizedConfig", got.get("errors"))
        for value, want in (("0x7D0", 2000), ("1e3", 1000), ("+3000", 3000), ([5000], 5000), (" 4000 ", 4000), (2000.9, 2000), (None, 300000),
                            ("", 300000), ("3000ms", 300000), ({}, 300000), ([1, 2], 300000), ("1e999", 300000)):
            check_equal(normalized(execTimeoutMs=value)["execTimeoutMs"], want, f"{value!r}")
        for value in (True, [], " ", 0, 1500):
            check_equal(normalized(execTimeoutMs=value), ["execTimeoutMs must be a positive multiple of 1000."], f"{value!r}")
        got = normalized(idleTimeoutMs="", cidrAllowlist=["  ", 1], environment="\ufeff\u00a0", blockNetwork="true", reuseLease=1, odd=2)
        check_equal((got["idleTimeoutMs"], got["cidrAllowlist"], got["environment"], got["blockNetwork"], got["reuseLease"], "odd" in got,
                     "serverUrl" in got), (None, None, None, False, False, False, False))
        check_equal(normalized(serverUrl=" http://localhost:1 ")["serverUrl"], "http://localhost:1")
        check_equal(normalized(serverUrl="nonsense"), ["serverUrl must be an https:// URL, or an http:// URL of this machine."])


# --- output ---


@test
def output_is_shown_while_the_command_runs():
    with session() as s:
        lease = s.acquire()
        go = os.path.join(s.workdir, "go")
        key = s.send_execute(lease, "sh", ["-c", f"echo first; echo problem >&2; until test -e '{go}'; do sleep 0.02; done; echo last"])
        s.w.until(lambda: s.w.live_text(key) == "first\n" and s.w.live_text(key, "stderr") == "problem\n", "live output")
        with open(go, "w", encoding="ascii"):
            pass
        check_equal(s.w.result(key), result(0, "first\nlast\n", "problem\n"))


@test
def bytes_become_text_as_decoders_make_it():
    with session() as s:
        lease = s.acquire()
        odd = "\\377\\376 \\303( \\360\\237\\216 \\355\\240\\200 \\300\\257 x\\303"
        got = s.execute(lease, "printf", [odd])["stdout"]
        check_equal(got, "\ufffd\ufffd \ufffd( \ufffd \ufffd\ufffd\ufffd \ufffd\ufffd x\ufffd")
        for text, want in (("\\357\\273\\277a\\357\\273\\277", "a\ufeff"), ("\\357\\273", "\ufffd"), ("\\357\\273x", "\ufffdx"), ("\\357\\273\\277", ""),
                           ("a\\000b", "a\0b")):
            got = s.sh(lease, f"printf '{text}'; printf '{text}' >&2")
            check_equal((got["stdout"], got["stderr"]), (want, want))
        split = s.sh(lease, r"printf '\357'; sleep 0.05; printf '\273'; sleep 0.05; printf '\277x'")
        check_equal(split["stdout"], "x")


@test
def big_output_comes_whole_and_big_input_arrives_whole():
    with session() as s:
        lease = s.acquire()
        got = s.sh(lease, "seq 1 700000")
        check_equal(got["stdout"], "".join(f"{n}\n" for n in range(1, 700001)))
        text = "0123456789abcde\n" * (20 << 16)  # 20 MiB: two pieces
        check_equal(s.execute(lease, "sh", ["-c", "wc -c; ls /proc/self/fd >/dev/null"], {"stdin": text})["stdout"].strip(), str(len(text)))
        sizes = [request["request"]["file_write_request"]["data"]["bytes"] for request in s.e.requests("ContainerFilesystemExec")
                 if "file_write_request" in request["request"]]
        check_equal(sizes, [16 << 20, 4 << 20])
        check_equal(s.execute(lease, "cat", [], {"stdin": ""}), result())


@test
def a_stream_that_breaks_goes_on_where_it_broke():
    want = "".join(f"line {n}\n" for n in range(20000))
    script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"
    ways = [{"reset": True}, {"rst": 2}, {"rst": 8}, {"status": [UNAVAILABLE, "moved"]}, {"status": [INTERNAL, "odd"]}, {"end": True}, {"half": True},
            {"goaway": 0}, {"compressed": True}, {"status": [16, "expired"]}]
    with session() as s:
        lease = s.acquire()
        for way in ways:
            s.e.fault(rpc="TaskExecStdioRead", body='^(?!.*"file_descriptor")', at=70000, **way)
            s.e.fault(rpc="TaskExecStdioRead", body='^(?!.*"file_descriptor")', at=5, **way)
            got = s.sh(lease, script)
            check(got == result(stdout=want), f"with {way}: {len(got['stdout'])} of {len(want)} bytes, {got['exitCode']}")
        offsets = [one["request"].get("offset", 0) for one in s.e.requests("TaskExecStdioRead") if one["fault"]]
        check(offsets.count(70000) >= len(ways) - 1, offsets)


@test
def what_a_stream_says_is_final_fails_the_command():
    with session() as s:
        lease = s.acquire()
        for way in ({"status": [7, "not%20this €"]}, {"garbage": True}):
            s.e.fault(rpc="TaskExecStdioRead", times=None, **way)
            message = s.w.error(s.send_execute(lease, "echo", ["hi"]))["message"]
            check(message.endswith("PERMISSION_DENIED: not%20this €") or message == "Modal's answer to TaskExecStdioRead is malformed", message)
            s.e.clear_faults()


@test
def a_wait_that_breaks_is_asked_again_and_the_command_runs_once():
    with session() as s:
        lease = s.acquire()
        for way in ({"reset": True}, {"status": [UNAVAILABLE, ""]}, {"end": True}):
            s.e.fault(rpc="TaskExecWait", **way)
        check_equal(s.sh(lease, f"echo ran >>'{s.workdir}/ran'; exit 4"), result(4))
        for way in ({"reset": True, "after": True}, {"status": [UNAVAILABLE, ""], "after": True}, {"end": True, "after": True}):
            s.e.fault(rpc="TaskExecStart", **way)
        check_equal(s.sh(lease, f"echo ran >>'{s.workdir}/ran'"), result())
        with open(f"{s.workdir}/ran", encoding="ascii") as file:
            check_equal(file.read(), "ran\nran\n")


@test
def exit_codes_and_signals():
    with session() as s:
        lease = s.acquire()
        keys = {script: s.send_execute(lease, "sh", ["-c", script]) for script in ("exit 0", "exit 255", "kill -9 $$", "kill -TERM $$", "none")}
        codes = [s.w.result(key)["exitCode"] for key in keys.values()]
        check_equal(codes, [0, 255, 137, 143, 127])
        check_equal(s.sh(lease, "cd /none/there", more={"cwd": "/none"})["exitCode"] > 0, True)
        s.e.fault(rpc="TaskExecWait", answer={})
        check_equal(s.w.error(s.send_execute(lease, "true"))["message"], "Unexpected exit status")
        since = len(s.e.calls())
        s.w.error(s.send_execute(lease, "x" * 70000, [], {"stdin": "x"}))
        check_equal(s.e.calls(since), [])
        error = s.w.error(s.send_execute(lease, "x" * 70000))
        check_match(error["message"], r"Total length of CMD arguments must be less than 65536 bytes \(ARG_MAX\)\. Got \d+ bytes\.")


# --- deadlines ---


@test
def a_timeout_is_always_timed_out_and_keeps_what_was_printed():
    with session() as s:
        lease = s.acquire()
        script = "echo before; echo problem >&2; exec sleep 1000"
        s.e.fault(rpc="TaskExecWait", body=".*", stall=True, skip=3, times=None)
        keys = [s.send_execute(lease, "sh", ["-c", script], {"timeoutMs": timeout}) for timeout in (1000, 1999, 1200.5)]
        keys.append(s.send_execute(lease, "sh", ["-c", script], {"timeoutMs": 0}, execTimeoutMs=1000))
        for key in keys:
            got = s.w.result(key)
            check_equal((got["exitCode"], got["timedOut"], got["stdout"]), (None, True, "before\n"))
            check_match(got["stderr"], r"problem\nDeadline exceeded while waiting for exec [0-9a-f-]{36}\n")
        check_equal({one["request"]["timeout_secs"] for one in s.e.requests("TaskExecStart")[1:5]}, {1})
        s.e.clear_faults()


@test
def a_service_that_says_nothing_more_ends_in_a_timeout_soon_after_the_deadline():
    with session() as s:
        lease = s.acquire()
        s.e.fault(rpc="TaskExec(Wait|StdioRead)", stall=True, times=None)
        began = time.monotonic()
        keys = [s.send_execute(lease, "true", [], {"timeoutMs": 1000})]
        s.e.fault(rpc="TaskExecStart", body="'late'", stall=True, times=None)
        keys.append(s.send_execute(lease, "late", [], {"timeoutMs": 1000}))
        for key in keys:
            check_equal(s.w.result(key)["timedOut"], True)
        check(time.monotonic() - began < 30, "long after the deadline")
        s.e.clear_faults()


@test
def a_command_that_is_killed_early_is_no_timeout():
    with session() as s:
        lease = s.acquire()
        check_equal(s.sh(lease, "kill -9 $$", more={"timeoutMs": 60000})["exitCode"], 137)


@test
def what_a_command_that_was_given_up_has_started_is_ended():
    with session() as s:
        lease = s.acquire(reuseLease=True)
        mark = os.path.join(s.workdir, "alive")
        # Nobody of the service ends it: its time is far away, and the lease is kept.
        key = s.send_execute(lease, "sh", ["-c", f"(while sleep 0.02; do date >'{mark}'; done) & wait"], {"timeoutMs": 600000}, reuseLease=True)
        wait_until(lambda: os.path.exists(mark), "the command runs")
        s.lease_call("ReleaseLease", lease, reuseLease=True)
        check("error" in s.w.answer(key), "the command has no result")
        s.e.wait_for(lambda m: m.state()["running"] == 0, "the command has ended")
        os.unlink(mark)
        check_equal(s.e.live(), [lease["providerLeaseId"]])


# --- the ends of leases ---


@test
def release_and_destroy_end_a_running_command_with_proof():
    with session() as s:
        for method, reuse in (("ReleaseLease", False), ("DestroyLease", False), ("ReleaseLease", True)):
            lease = s.acquire(reuseLease=reuse)
            key = s.send_execute(lease, "sleep", ["100000"], reuseLease=reuse)
            s.e.wait_for(lambda m: m.state()["running"] > 0, "the command runs")
            got = s.lease_call(method, lease, {"cancelActiveWork": True}, reuseLease=reuse)
            check_equal(got, {"providerLeaseId": lease["providerLeaseId"], "state": "destroyed"})
            check("error" in s.w.answer(key), "the command has no result")
            s.no_live()
            s.e.wait_for(lambda m: m.state()["running"] == 0, "the command has ended")


@test
def a_lease_that_has_ended_takes_no_commands_until_it_is_resumed():
    with session() as s:
        lease = s.acquire(reuseLease=True)
        s.lease_call("ReleaseLease", lease, reuseLease=True)
        since = len(s.e.calls())
        check_equal(s.execute(lease, "true", reuseLease=True), GONE)
        check_equal(s.e.calls(since), [])
        again = s.lease_call("ResumeLease", lease, {"leaseMetadata": lease["metadata"]}, reuseLease=True)
        check_equal((again["providerLeaseId"], again["expiresAt"]), (lease["providerLeaseId"], lease["expiresAt"]))
        check_equal(s.execute(lease, "true", reuseLease=True), result())


@test
def the_end_of_a_sandbox_is_told_and_comes_at_the_latest_when_asked_for():
    def unix(text):
        return time.mktime(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    with session() as s:
        before = time.time()
        lease = s.acquire(sandboxTimeoutMs=600000)
        check(before + 598 < unix(lease["expiresAt"]) < time.time() + 602, lease)
        asked = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() + 60))
        lease = s.acquire({"requestedExpiresAt": asked})
        check(before < unix(lease["expiresAt"]) <= unix(asked), lease)
        check(50 <= s.e.requests("SandboxCreate")[-1]["request"]["definition"]["timeout_secs"] <= 56, s.e.requests("SandboxCreate")[-1])
        past = {"runId": "r", "requestedExpiresAt": "2020-01-01T00:00:00.000Z"}
        check_match(s.error("AcquireLease", past)["message"], "requestedExpiresAt leaves a sandbox no time.*")


@test
def a_probe_tells_its_steps():
    with session() as s:
        codes = [entry["code"] for entry in s.call("Probe")["diagnostics"]]
        check_equal(codes, ["modal.app", "modal.image", "modal.sandbox", "modal.workspace", "modal.command"])
        s.e.fault(rpc="SandboxCreate", status=[8, "out of quota"])
        got = s.call("Probe")
        check_equal([(entry["severity"], entry["code"]) for entry in got["diagnostics"]],
                    [("info", "modal.app"), ("info", "modal.image"), ("error", "modal.failed")])
        check_match(got["metadata"]["error"], ".*RESOURCE_EXHAUSTED: out of quota")


# --- many at once, over TLS ---


@test
def a_thousand_commands_at_once_share_few_connections():
    with session(tls=True) as s:
        leases = [s.acquire(environment=f"env-{n}") for n in range(4)]
        s.e.behave(idle=True)
        with s.w.one_write():
            keys = [(n, s.send_execute(leases[n % 4], "echo", [str(n)], {"timeoutMs": 200000}, environment=f"env-{n % 4}")) for n in range(1000)]
        for n, key in keys:
            check_equal(s.w.result(key), result(stdout=f"{n}\n"))
        state = s.e.state()
        check(state["connections"]["peak"] <= 80, state["connections"])


main()
