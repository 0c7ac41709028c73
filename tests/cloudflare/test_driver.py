#!/usr/bin/python3
"""wire: cloudflare. What is asked of the bridge, what its answers become, and what happens when it misbehaves."""

import time

from client import Emulator
from driver import TOKEN, result, session
from harness import OTHER_COMPANY, check, check_equal, check_match, main, test

SETTINGS = {"keepAlive": False, "sleepAfter": "1h", "normalizeId": True, "sessionStrategy": "named", "sessionId": "paperclip", "timeoutMs": 30000}
LOST = "Cloudflare sandbox state is no longer available."


def paperclip_headers(request):
    return {name: value for name, value in request["headers"].items() if name.startswith("x-paperclip-")}


# --- requests ---


@test
def every_operation_costs_one_request():
    with session() as s:
        s.call("Probe")
        lease = s.acquire()
        s.lease_call("ResumeLease", lease)
        s.call("RealizeWorkspace", {"lease": {"providerLeaseId": lease}, "workspace": {}})
        s.execute(lease, "true")
        s.plain(lease, "true", more={"stdin": "x"})
        s.lease_call("ReleaseLease", lease)
        s.lease_call("DestroyLease", lease)
        check_equal(s.routes(), ["POST /probe", "POST /leases/acquire", "POST /leases/resume", "POST /exec", "POST /exec", "POST /exec",
                                 "POST /leases/release", f"DELETE /leases/{lease}"])
        s.no_live()


@test
def nothing_is_asked_where_there_is_no_lease():
    with session() as s:
        for lease in (None, ""):
            check_equal(s.call("ReleaseLease", {"providerLeaseId": lease}), None)
            check_equal(s.call("DestroyLease", {"providerLeaseId": lease}), None)
            check_equal(s.execute(lease, "true"), result(1, "", "No provider lease ID available for execution.\n"))
            check_equal(s.call("RealizeWorkspace", {"lease": {"providerLeaseId": lease}, "workspace": {"localPath": "/x"}}),
                        {"cwd": "/x", "metadata": {"provider": "cloudflare", "remoteCwd": "/x"}})
        check_equal(s.e.requests(), [])


@test
def the_acquire_body_is_the_documented_one():
    with session() as s:
        s.acquire("run-1", {"issueId": "issue-1", "requestedCwd": " "}, timeoutMs=..., bridgeRequestTimeoutMs=...)
        documented = {"environmentId": "env-1", "runId": "run-1", "issueId": "issue-1", "reuseLease": False, "keepAlive": False,
                      "sleepAfter": "1h", "normalizeId": True, "requestedCwd": "/workspace/paperclip", "sessionStrategy": "named",
                      "sessionId": "paperclip", "timeoutMs": 300000}
        check_equal(s.body(), documented)
        for issue in (None, ""):
            s.acquire("run-1", {"issueId": issue, "requestedCwd": " /workspace/b "}, timeoutMs="5000")
            check_equal(s.body(), {**documented, "issueId": issue, "requestedCwd": "/workspace/b", "timeoutMs": 5000})
        s.acquire("run-1", {}, timeoutMs=300000)
        check("issueId" not in s.body(), "an issue that nobody named")


@test
def the_headers_say_who_asks_and_the_token_is_in_no_answer():
    with session() as s:
        lease = s.acquire("run-1", {"issueId": "issue-1"})
        more = {"issueId": "issue-1", "runId": "run-1"}
        s.lease_call("ResumeLease", lease, more)
        s.execute(lease, "true", more={**more, "issueId": ""})
        workspace = {"metadata": {"workspaceRealizationRequest": {"issueId": " issue-2 "}}}
        s.call("RealizeWorkspace", {"lease": {"providerLeaseId": lease}, "workspace": workspace, "issueId": "  "})
        s.call("RealizeWorkspace", {"lease": {"providerLeaseId": lease}, "workspace": workspace, "issueId": " issue-3 "})
        s.lease_call("DestroyLease", lease, more, environment="")
        asked = s.e.requests()
        for request in asked:
            check_equal((request["headers"]["authorization"], request["headers"]["content-type"]), (f"Bearer {TOKEN}", "application/json"))
        names = [[header.removeprefix("x-paperclip-") + "=" + value for header, value in sorted(paperclip_headers(request).items())] for request in asked]
        check_equal(names, [["environment-id=env-1", "issue-id=issue-1", "run-id=run-1"], ["environment-id=env-1", "issue-id=issue-1"],
                            ["environment-id=env-1"], ["environment-id=env-1", "issue-id=issue-2"], ["environment-id=env-1", "issue-id=issue-3"],
                            ["issue-id=issue-1"]])
        s.e.fault(path="/acquire", status=400, reply={"message": f"bad token {TOKEN}!"})
        check_equal(s.error("AcquireLease", {"runId": "r"})["message"], "bad token ***!")


@test
def a_path_in_the_url_stays_and_a_lease_id_is_encoded():
    with session() as s:
        s.e.fault(times=None, status=200, reply={"ok": True})
        s.lease_call("DestroyLease", "a/b c%d?e#ü'()*~!", bridgeBaseUrl=s.e.url + "/p///")
        check_equal(s.e.requests()[-1]["target"], "/p/api/paperclip-sandbox/v1/leases/a%2Fb%20c%25d%3Fe%23%C3%BC'()*~!")
        s.lease_call("DestroyLease", "l", bridgeBaseUrl=s.e.url + "/?x=1#y")
        check_equal(s.e.requests()[-1]["target"], "/?x=1")


# --- what an answer becomes ---


@test
def the_message_of_a_failed_request_is_the_bridges_own_or_the_status():
    plain = "Cloudflare sandbox bridge request failed with HTTP 500."
    cases = [({"message": " as it came \n"}, {}, " as it came \n"), ({"message": "m", "error": "e"}, {"Content-Type": "Application/JSON; x"}, "m"),
             ({"message": "m"}, {"Content-Type": "x; application/json"}, "m"), ({"message": "m"}, {"Content-Type": "text/plain"}, plain),
             ({"message": " \u00a0"}, {}, plain), ({"message": 5}, {}, plain), ({"error": "e"}, {}, plain), ([], {}, plain),
             ("{oops", {"Content-Type": "application/json"}, plain), ("<html>no</html>", {}, plain), ("", {}, plain)]
    with session() as s:
        for reply, headers, text in cases:
            s.e.fault(status=500, reply=reply, headers=headers)
            error = s.error("AcquireLease", {"runId": "r"})
            check_equal((error["code"], error["message"]), (-32002, text))


@test
def each_status_is_an_error_of_each_operation_but_for_lost_leases():
    statuses = (301, 302, 400, 401, 403, 404, 409, 429, 500, 502, 503, 504, 524)
    operations = {"AcquireLease": {"runId": "r"}, "ResumeLease": {"providerLeaseId": "l"}, "ReleaseLease": {"providerLeaseId": "l"},
                  "DestroyLease": {"providerLeaseId": "l"}, "RealizeWorkspace": {"lease": {"providerLeaseId": "x"}, "workspace": {}},
                  "Execute": {"lease": {"providerLeaseId": "x"}, "command": "true"}}
    with session() as s:
        for status in statuses:
            text = f"Cloudflare sandbox bridge request failed with HTTP {status}."
            for method, more in operations.items():
                s.e.fault(status=status, reply="<html>", headers={"Location": "https://elsewhere.example/"} if status < 400 else {})
                answer = s.w.answer(s.send(method, more))
                if status in (404, 409) and method == "ResumeLease":
                    check_equal(answer["result"], {"providerLeaseId": None, "metadata": {"provider": "cloudflare", "expired": True}})
                elif status in (404, 409) and method == "Execute":
                    check_equal(answer["result"], result(1, "", f"{text}\n"))
                elif method == "RealizeWorkspace":
                    check_equal(answer["error"]["message"], f"Failed to prepare Cloudflare sandbox workspace at /workspace/paperclip: {text}")
                else:
                    check_equal(answer["error"]["message"], text, f"{method} {status}")
            s.e.fault(status=status, reply="<html>")
            check_equal(s.call("Probe")["metadata"], {"provider": "cloudflare", "error": text})
        check_equal(len(s.e.requests()), len(statuses) * (len(operations) + 1), "requests")


@test
def a_lost_lease_is_a_result_of_a_command_on_both_channels():
    with session() as s:
        for send in (s.execute, s.plain):
            s.e.fault(path="/exec", status=409, reply={"error": "sandbox_state_lost", "message": LOST})
            check_equal(send("pc-1", "true"), result(1, "", LOST + "\n"))


@test
def a_success_that_makes_no_sense_is_an_error_of_each_operation():
    cases = ["<html>Log in</html>", "", "[]", "null", "{oops", "5"]
    with session() as s:
        for reply in cases:
            for method, more in (("AcquireLease", {"runId": "r"}), ("ResumeLease", {"providerLeaseId": "l"}),
                                 ("RealizeWorkspace", {"lease": {"providerLeaseId": "x"}, "workspace": {}}),
                                 ("ReleaseLease", {"providerLeaseId": "l"}), ("DestroyLease", {"providerLeaseId": "l"})):
                s.e.fault(status=200, reply=reply, headers={} if reply.startswith("<") else {"Content-Type": "application/json"})
                answer = s.w.answer(s.send(method, more))
                if reply == "" and method in ("ReleaseLease", "DestroyLease"):
                    check_equal(answer["result"], None)
                else:
                    check("makes no sense" in answer["error"]["message"], f"{method}, {reply}: {answer}")
            s.e.fault(status=200, reply=reply, headers={"Content-Type": "application/json"})
            check("makes no sense" in s.w.error(s.send_plain("x", "true"))["message"], reply)
        for reply in ({}, {"providerLeaseId": ""}, {"providerLeaseId": None}, {"providerLeaseId": 5}):
            s.e.fault(status=200, reply=reply, times=2)
            for method, more in (("AcquireLease", {"runId": "r"}), ("ResumeLease", {"providerLeaseId": "l"})):
                check("makes no sense" in s.error(method, more)["message"], f"{reply}")
        for reply in ({}, {"exitCode": "7"}, {"exitCode": 1.5}, {"exitCode": 1e300}):
            s.e.fault(status=200, reply=reply)
            check("makes no sense" in s.w.error(s.send_plain("x", "true"))["message"], f"{reply}")


@test
def answers_are_passed_on_as_they_came():
    with session() as s:
        lease = {"providerLeaseId": "pc-1", "metadata": {"provider": "cloudflare", "odd": [1, None]}, "expiresAt": None, "newer": {"a": "ü"}}
        s.e.fault(status=200, reply=lease, times=2)
        check_equal(s.call("AcquireLease", {"runId": "r"}), lease)
        check_equal(s.lease_call("ResumeLease", "pc-1"), lease)
        probe = {"ok": False, "summary": "s", "metadata": {"x": 1}, "diagnostics": [{"severity": "info", "message": "m"}], "newer": 1}
        s.e.fault(status=200, reply=probe)
        check_equal(s.call("Probe"), probe)
        for send in (s.execute, s.plain):  # JSON answers a streaming request too
            run = {"exitCode": None, "signal": "SIGKILL", "timedOut": False, "stdout": "a\u2028\0b", "stderr": "e", "metadata": {"m": 1}, "newer": [2]}
            s.e.fault(status=200, reply=run)
            check_equal(send("pc-1", "true"), run)


@test
def a_redirect_within_the_bridge_is_followed_if_it_keeps_the_request_and_no_other():
    with session() as s:
        with Emulator() as other:
            for status, place, follows in ((307, "/elsewhere/api", True), (308, s.e.url + "/elsewhere/api", True), (302, "/elsewhere/api", False),
                                           (303, "/elsewhere/api", False), (307, other.url + "/x", False)):
                since = len(s.e.requests())
                s.e.fault(path="/leases/acquire", status=status, headers={"Location": place})
                s.e.fault(path="/elsewhere", status=200, reply={"providerLeaseId": "pc-1"})
                answer = s.w.answer(s.send("AcquireLease", {"runId": "r"}))
                check_equal("result" in answer, follows, f"{status} {place}: {answer}")
                check_equal([request["method"] for request in s.e.requests(since=since)], ["POST"] * (2 if follows else 1))
                s.e.clear_faults()
            check_equal(other.requests(), [], "requests at another host")


@test
def a_bridge_that_cannot_be_reached_is_named_with_the_cause():
    with session() as s:
        for url, pattern in (("http://127.0.0.1:1", r"Cloudflare sandbox bridge request failed: connect ECONNREFUSED 127\.0\.0\.1:1"),
                             ("https://no-such-host.invalid", r"Cloudflare sandbox bridge request failed: getaddrinfo ENOTFOUND no-such-host\.invalid.*")):
            check_match(s.error("AcquireLease", {"runId": "r"}, bridgeBaseUrl=url)["message"], pattern)
            probe = s.call("Probe", bridgeBaseUrl=url)
            check_match(probe["metadata"]["error"], pattern)
            check_equal([(step["code"], step["severity"]) for step in probe["diagnostics"]], [("config", "info"), ("connection", "error")])


@test
def the_probe_says_which_step_failed():
    cases = [({"status": 401, "reply": {"message": "Missing or invalid bridge bearer token."}}, "token"), ({"status": 403, "reply": "<html>"}, "bridge"),
             ({"status": 404, "reply": {"message": "No bridge route matched POST /x."}}, "bridge"), ({"status": 200, "reply": "<html>"}, "bridge"),
             ({"status": 302, "reply": ""}, "bridge"), ({"status": 500, "reply": {"message": "ensure workspace /x failed"}}, "sandbox"),
             ({"close": True}, "connection"), ({"status": 200, "reply": {"x": 1}}, "sandbox")]
    with session() as s:
        for fault, code in cases:
            s.e.fault(path="/probe", times=2, **fault)  # a kept connection that dies is not the answer
            got = s.call("Probe")
            check_equal((got["ok"], got["diagnostics"][-1]["code"], got["diagnostics"][-1]["severity"]), (False, code, "error"), f"{fault}")
            s.e.clear_faults()
            check(all(step["severity"] == "info" for step in got["diagnostics"][:-1]), f"{got}")
        s.no_live()


# --- leases ---


@test
def a_reused_lease_is_found_again_resumed_and_left_running():
    with session() as s:
        more = {"reuseLease": True, "keepAlive": True}
        lease = s.acquire("run-1", **more)
        check_equal(lease, "pc-env-env-1")
        check_equal(s.lease_call("ReleaseLease", lease, **more), None)
        check_equal(s.body(), {"providerLeaseId": lease, "reuseLease": True, "keepAlive": True})
        check_equal(s.acquire("run-2", **more), lease)
        got = s.lease_call("ResumeLease", lease, {"leaseMetadata": {"remoteCwd": " /workspace/paperclip "}}, **more)
        check_equal((got["providerLeaseId"], got["metadata"]["resumedLease"]), (lease, True))
        check_equal(s.body(), {**SETTINGS, "keepAlive": True, "providerLeaseId": lease, "requestedCwd": "/workspace/paperclip"})
        check_equal(s.e.live(), [lease])
        s.e.destroy(lease)
        check_equal(s.lease_call("ResumeLease", lease, **more), {"providerLeaseId": None, "metadata": {"provider": "cloudflare", "expired": True}})
        check_equal(s.e.live(), [lease], "the empty sandbox that the bridge made")
        s.lease_call("DestroyLease", lease, **more)
        s.no_live()


@test
def a_lease_that_has_ended_starts_no_sandbox_any_more_until_it_begins_again():
    with session() as s:
        more = {"reuseLease": True, "keepAlive": True}
        for method in ("ReleaseLease", "DestroyLease"):
            lease = s.acquire()
            s.lease_call(method, lease)
            since = len(s.e.requests())
            text = f"Cloudflare sandbox lease {lease} is no longer active."
            check_equal(s.execute(lease, "true"), result(1, "", text + "\n"))
            check_equal(s.error("RealizeWorkspace", {"lease": {"providerLeaseId": lease}, "workspace": {}})["message"],
                        f"Failed to prepare Cloudflare sandbox workspace at /workspace/paperclip: {text}")
            check_equal(s.e.requests(since=since), [])
            check_equal(s.lease_call(method, lease), None, "once more")
        s.no_live()
        lease = s.acquire(**more)
        s.lease_call("DestroyLease", lease, **more)
        check_equal(s.acquire(**more), lease)
        check_equal(s.execute(lease, "echo", ["x"], **more), result(0, "x\n"))
        check_equal(s.w.result(s.send_execute(lease, "true", company=OTHER_COMPANY))["exitCode"], 0, "another company's lease")


@test
def release_and_destroy_end_a_running_command_with_proof():
    with session() as s:
        for method in ("ReleaseLease", "DestroyLease"):
            for send in (s.send_execute, s.send_plain):
                for more in ({}, {"reuseLease": True, "keepAlive": True}):
                    lease = s.acquire(**more)
                    key = send(lease, "sleep", ["100000"], **more)
                    s.e.wait_for(lambda b: b.state()["running"] > 0, "the command runs")
                    started = time.monotonic()
                    got = s.lease_call(method, lease, {"cancelActiveWork": True}, **more)
                    check(time.monotonic() - started < 8, "within 8 s")
                    check_equal(got, {"providerLeaseId": lease, "state": "destroyed"})
                    check("error" in s.w.answer(key), "the command has no result")
                    s.no_live()
                    check_equal(s.e.state()["running"], 0)


@test
def realize_makes_the_directory_of_the_first_that_names_one():
    with session() as s:
        lease = s.acquire()
        documented = {"providerLeaseId": lease, "command": "mkdir", "cwd": "/", "timeoutMs": 30000, "sessionStrategy": "named",
                      "sessionId": "paperclip", "streamOutput": False}
        both = {"remotePath": "/workspace/r", "localPath": "/workspace/l"}
        for metadata, workspace, path in (({"remoteCwd": " /workspace/m "}, both, "/workspace/m"), ({"remoteCwd": " "}, both, "/workspace/r"),
                                          ({"remoteCwd": 5}, {"localPath": "/workspace/l"}, "/workspace/l"), ({}, {"remotePath": None}, "/workspace/paperclip")):
            got = s.call("RealizeWorkspace", {"lease": {"providerLeaseId": lease, "metadata": metadata}, "workspace": workspace})
            check_equal(got, {"cwd": path, "metadata": {"provider": "cloudflare", "remoteCwd": path}})
            check_equal(s.body(), {**documented, "args": ["-p", path]})
            check_equal(s.execute(lease, "pwd", more={"cwd": path})["stdout"], path + "\n")


@test
def a_mkdir_that_fails_fails_realize():
    prefix = "Failed to prepare Cloudflare sandbox workspace at /workspace/paperclip: "
    with session() as s:
        for reply, text in (({"exitCode": 1, "stderr": "mkdir: no\n"}, "mkdir: no"), ({"exitCode": 3, "stderr": " "}, "mkdir exited with 3"),
                            ({"exitCode": None, "timedOut": True, "stderr": ""}, "mkdir timed out"),
                            ({"exitCode": 0, "timedOut": True, "stderr": "late\n"}, "late")):
            s.e.fault(path="/exec", status=200, reply=reply)
            check_equal(s.error("RealizeWorkspace", {"lease": {"providerLeaseId": "pc-1"}, "workspace": {}})["message"], prefix + text)


# --- commands ---


@test
def the_body_of_a_command_holds_what_was_given_and_no_more():
    with session() as s:
        bare = {"providerLeaseId": "pc-1", "command": "true", "stdin": None, "timeoutMs": 30000, "sessionStrategy": "named",
                "sessionId": "paperclip", "streamOutput": True}
        key = s.send("Execute", {"lease": {"providerLeaseId": "pc-1"}, "command": "true"})
        s.w.result(key)
        check_equal(s.body(), bare)
        more = {"cwd": "", "env": {}, "stdin": "", "timeoutMs": 1500.5}
        s.execute("pc-1", "true", [], more, sessionStrategy="default", sessionId="s")
        check_equal(s.body(), {**bare, **more, "args": [], "sessionStrategy": "default", "sessionId": "s"})
        words = ["it's", "a b", "$HOME", "`id`", "ü", "", "-n", "\n", "\\", '"', "\u2028"]
        got = s.execute("pc-1", "printf", ["%s|", *words], {"env": {"A": "x'y\n", "N": 5}, "cwd": "/", "timeoutMs": None})
        check_equal(got["stdout"], "".join(f"{word}|" for word in words) + "\n")
        check_equal(s.body()["env"], {"A": "x'y\n", "N": 5})


@test
def the_hosts_own_channel_has_its_own_session_and_is_not_streamed():
    with session() as s:
        for value, strategy, want in (("bridge", "named", ["named", "s-bridge", False]), ("bridge", "default", ["named", "s-bridge", False]),
                                      ("Bridge", "default", ["default", "s", True]), (5, "named", ["named", "s", True])):
            s.execute("pc-1", "true", [], {"env": {"PAPERCLIP_SANDBOX_EXEC_CHANNEL": value}}, sessionStrategy=strategy, sessionId="s")
            body = s.body()
            check_equal([body["sessionStrategy"], body["sessionId"], body["streamOutput"]], want)
            check_equal(body["env"], {})
        s.plain("pc-1", "true", more={"env": {"PAPERCLIP_SANDBOX_EXEC_CHANNEL": "bridge", "A": "1"}})
        check_equal(s.body()["env"], {"A": "1"})


@test
def control_traffic_runs_beside_the_agents_command():
    with session() as s:
        lease = s.acquire()
        key = s.send_execute(lease, "sh", ["-c", "while [ ! -e $HOME/go ]; do sleep 0.01; done; echo gone"])
        check_equal(s.plain(lease, "sh", ["-c", "echo x; touch $HOME/go"]), result(0, "x"))
        check_equal(s.w.result(key), result(0, "gone\n"))


@test
def output_comes_live_and_once_with_every_character_whole():
    with session() as s:
        s.e.behave(split=1, keepalive=True)
        lease = s.acquire()
        key = s.send_execute(lease, "sh", ["-c", "echo 'hé😀llo'; echo oops >&2; while [ ! -e $HOME/go ]; do sleep 0.01; done; printf end; exit 3"])
        s.w.until(lambda: s.w.live_text(key) == "hé😀llo\n" and s.w.live_text(key, "stderr") == "oops\n", "the first lines, live")
        s.plain(lease, "sh", ["-c", "touch $HOME/go"])
        check_equal(s.w.result(key), result(3, "hé😀llo\nend\n", "oops\n"))


@test
def big_output_and_big_input_come_whole():
    with session() as s:
        lease = s.acquire()
        text = ("ü" * 2000 + "\n") * 1000
        check_equal(s.execute(lease, "cat", [], {"stdin": text}), result(0, text))
        check_equal(s.plain(lease, "cat", [], {"stdin": text}), result(0, text.removesuffix("\n")))


@test
def ends_of_commands_are_the_bridges():
    with session() as s:
        lease = s.acquire()
        check_equal(s.execute(lease, "no-such-command")["exitCode"], 127)
        check_equal(s.execute(lease, "sh", ["-c", "kill -9 $$"]), result(137))
        got = s.execute(lease, "true", more={"cwd": "/no/such/dir"})
        check(got["exitCode"] in (1, 2) and "cd" in got["stderr"], f"{got}")
        for send in (s.send_execute, s.send_plain):
            env = {"PAPERCLIP_SANDBOX_EXEC_CHANNEL": "bridge" if send == s.send_plain else "", "bad-key": "x"}
            check_equal(s.w.error(send(lease, "true", more={"env": env}))["message"], "Invalid sandbox environment variable key: bad-key")
        check_equal(s.plain(lease, "sleep", ["100"], {"timeoutMs": 0}), result(None, "", "Command timed out\n", True))


@test
def a_command_past_its_time_is_a_result_with_what_it_printed_whatever_the_bridge_does():
    with session() as s:
        lease = s.acquire()
        late = s.send_execute(lease, "sh", ["-c", "echo so far; echo err >&2; sleep 100000"], {"timeoutMs": 1000})
        s.w.until(lambda: s.w.live_text(late), "its output")
        s.e.fault(path="/exec", body="stalls", stall=True, times=2)
        plain = s.send_plain(lease, "stalls", [], {"timeoutMs": 1000}, bridgeRequestTimeoutMs=1000)
        streamed = s.send_execute(lease, "stalls", [], {"timeoutMs": 1000})
        check_equal(s.plain(lease, "sleep", ["100"], {"timeoutMs": 100}), result(None, "", "Command timed out\n", True), "the bridge's own")
        check_equal(s.w.result(late), result(None, "so far\n", "err\n", True))
        check_equal(s.w.result(plain), result(None, timed_out=True))
        check_equal(s.w.result(streamed), result(None, timed_out=True))


@test
def a_bridge_that_does_not_answer_in_time_is_an_error_with_the_time():
    with session() as s:
        s.e.fault(stall=True, times=None)
        text = "Cloudflare sandbox bridge request timed out after 300ms."
        keys = [s.send(method, more, bridgeRequestTimeoutMs=300, timeoutMs=100) for method, more in
                (("AcquireLease", {"runId": "r"}), ("ResumeLease", {"providerLeaseId": "a"}), ("ReleaseLease", {"providerLeaseId": "b"}),
                 ("DestroyLease", {"providerLeaseId": "c"}))]
        keys += [s.send_plain("x", "true", [], {"timeoutMs": 100}, bridgeRequestTimeoutMs=300),
                 s.send_execute("x", "true", [], {"timeoutMs": 100}, bridgeRequestTimeoutMs=300),
                 s.send_execute("x", "true", [], {"timeoutMs": 0}, bridgeRequestTimeoutMs=300),
                 s.send("RealizeWorkspace", {"lease": {"providerLeaseId": "x"}, "workspace": {}}, bridgeRequestTimeoutMs=300, timeoutMs=100)]
        probe = s.send("Probe", bridgeRequestTimeoutMs=300)
        for key in keys:
            check(s.w.error(key)["message"].endswith(text), key)
        check_equal(s.w.result(probe)["metadata"]["error"], text)
        s.e.clear_faults()


@test
def two_hundred_commands_at_once_are_all_right():
    with session() as s:
        lease = s.acquire()
        for at in range(200):
            s.e.fault(path="/exec", body=f'"n{at}"', status=200, headers={"Content-Type": "text/event-stream"},
                      reply=f'event: stdout\ndata: {{"data":"{at}\\n"}}\n\nevent: complete\ndata: {{"exitCode":0,"signal":null,"timedOut":false,"stdout":"{at}\\n","stderr":""}}\n\n')
        keys = [s.send_execute(lease, f"n{at}") for at in range(200)]
        for at, key in enumerate(keys):
            check_equal(s.w.result(key), result(0, f"{at}\n"))


@test
def what_is_not_offered_is_said_so():
    with session() as s:
        for method in ("SyncIn", "SyncOut", "StartInteractiveSetup", "CaptureTemplate"):
            error = s.error(method)
            check_equal((error["code"], error["message"]), (-32004, f"environment{method} is not implemented by this plugin"))


main()
