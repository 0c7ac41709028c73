#!/usr/bin/python3
"""wire: e2b. The driver e2b: its config, what it sends, what it answers."""

import base64
import json
import os
import re

from driver import KEY, envelope_of, result, session, started
from harness import COMPANY, OTHER_COMPANY, check, check_equal, check_match, main, test

PROFILES = (
    "if [ -f /etc/profile ]; then . /etc/profile >/dev/null 2>&1 || true; fi && "
    'if [ -f "$HOME/.profile" ]; then . "$HOME/.profile" >/dev/null 2>&1 || true; fi && '
    'if [ -f "$HOME/.bash_profile" ]; then . "$HOME/.bash_profile" >/dev/null 2>&1 || true; elif [ -f "$HOME/.bashrc" ]; then '
    '. "$HOME/.bashrc" >/dev/null 2>&1 || true; fi && '
    'if [ -f "$HOME/.zprofile" ]; then . "$HOME/.zprofile" >/dev/null 2>&1 || true; fi')
TIMEOUT_TEXT = ("[deadline_exceeded] the operation timed out: This error is likely due to exceeding 'timeoutMs' — the total time a long running "
                "request (like command execution or directory watch) can be active. It can be modified by passing 'timeoutMs' when making the "
                "request. Use '0' to disable the timeout.")


# --- config ---


@test
def a_config_is_normalised_as_javascript_does_it():
    with session() as s:
        base = {"template": "base", "apiKey": KEY, "timeoutMs": 3600000, "reuseLease": False}
        for config, change in (
                ({}, {}), ({"template": " \u00a0mine\u3000 "}, {"template": "mine"}), ({"template": 5}, {}), ({"template": None}, {}),
                ({"timeoutMs": "1e3"}, {"timeoutMs": 1000}), ({"timeoutMs": [7]}, {"timeoutMs": 7}), ({"timeoutMs": "0x10"}, {"timeoutMs": 16}),
                ({"timeoutMs": True}, {"timeoutMs": 1}), ({"timeoutMs": 1234.9}, {"timeoutMs": 1234}), ({"timeoutMs": {}}, {}),
                ({"timeoutMs": "12px"}, {}), ({"timeoutMs": None}, {}), ({"reuseLease": True}, {"reuseLease": True}), ({"reuseLease": "true"}, {}),
                ({"unknown": 1}, {}), ({"apiUrl": " https://api.x "}, {"apiUrl": "https://api.x"}), ({"domain": "x.test"}, {"domain": "x.test"}),
                ({"sandboxUrl": "http://127.0.0.1:1"}, {"sandboxUrl": "http://127.0.0.1:1"}), ({"apiUrl": " ", "domain": ""}, {}),
                ({"requestTimeoutMs": "2000"}, {"requestTimeoutMs": 2000}), ({"proxyUrl": "http://p:1"}, {"proxyUrl": "http://p:1"}),
                ({"caFile": "/ca.pem"}, {"caFile": "/ca.pem"})):
            check_equal(s.validate({"apiKey": f" {KEY} ", **config}), {"ok": True, "normalizedConfig": {**base, **change}}, str(config))


@test
def what_is_wrong_with_a_config_is_said_in_order():
    with session() as s:
        for config, errors in (
                ({"template": " ", "timeoutMs": 0}, ["E2B sandbox environments require a template.", "timeoutMs must be between 1 and 86400000."]),
                ({"timeoutMs": 86400001}, ["timeoutMs must be between 1 and 86400000."]), ({"timeoutMs": 0.5}, ["timeoutMs must be between 1 and 86400000."]),
                ({"apiUrl": "nonsense"}, ["apiUrl must be a valid URL."]),
                ({"apiUrl": "http://api.example"}, ["apiUrl must be an https URL (http is for this machine only)."]),
                ({"domain": "a/b"}, ["domain must be a host name like e2b.app."]), ({"sandboxUrl": "x"}, ["sandboxUrl must be a valid URL."]),
                ({"requestTimeoutMs": 5}, ["requestTimeoutMs must be between 1000 and 86400000."]),
                ({"caFile": "ca.pem"}, ["caFile must be an absolute path."])):
            check_equal(s.validate({"apiKey": KEY, **config}), {"ok": False, "errors": errors})
        got = s.validate({})
        check_equal((got["ok"], got["normalizedConfig"]["apiKey"]), (True, None))
        check_equal(got["warnings"], ["E2B sandbox environments require an API key in config or E2B_API_KEY."])


@test
def without_a_key_nothing_is_asked_and_the_environment_may_hold_it():
    text = "E2B sandbox environments require an API key in config or E2B_API_KEY."
    with session() as s:
        check_equal(s.error("AcquireLease", {"runId": "r"}, apiKey=...), text)
        got = s.call("Probe", apiKey="  ")
        check_equal((got["ok"], got["metadata"]["error"], got["diagnostics"][-1]["severity"]), (False, text, "error"))
        check_equal(s.e.requests(), [])
    with session(env={"E2B_API_KEY": f" {KEY} "}) as s:
        s.lease_call("DestroyLease", s.acquire(apiKey=...), apiKey=...)
        check_equal({request["headers"]["x-api-key"] for request in s.e.requests("POST", "/v2/sandboxes")}, {KEY})


@test
def the_environment_may_say_where_the_service_is():
    with session(env=lambda e: {"E2B_API_URL": e.services["apiUrl"], "E2B_SANDBOX_URL": e.services["sandboxUrl"]}) as s:
        lease = s.acquire(apiUrl=..., sandboxUrl=...)
        check_equal(s.execute(lease, "echo", ["hi"], apiUrl=..., sandboxUrl=...), result(0, "hi\n"))
        s.lease_call("DestroyLease", lease, apiUrl=..., sandboxUrl=...)


# --- what is sent ---


def shape(s, request, lease):
    """A request as the recording has it."""
    def plain(text):
        text = text.replace(lease, "<id>").replace(PROFILES, "<profiles>")
        text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", "<uuid>", text)
        return re.sub(r"/[^' ]*/home/user", "<home>", text)

    def plain_value(value):
        if isinstance(value, str):
            return plain(value)
        if isinstance(value, list):
            return [plain_value(item) for item in value]
        return {key: plain_value(item) for key, item in value.items()} if isinstance(value, dict) else value

    body = request["body"]
    if isinstance(body, dict):
        body = base64.b64decode(body["base64"]).decode("latin-1")
    if "connect+json" in request["headers"].get("content-type", ""):
        check_equal(body[0], "\0", "flags of the envelope")
        body = body[5:]
    if body and request["headers"].get("content-type", "").endswith("json"):
        body = json.loads(body)
        body.get("metadata", {}).pop("paperclipCreateId", None)  # our own
    return [request["method"], plain(request["target"]), plain_value(body) if body != "" else None]


@test
def a_whole_run_sends_what_was_recorded():
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "recorded.json"), encoding="utf-8") as file:
        recorded = json.load(file)

    def compare(s, part, since, lease):
        got = s.e.requests(since=since)
        want = recorded[part]
        check_equal([shape(s, request, lease) for request in got], [entry[:3] for entry in want], part)
        for request, entry in zip(got, want):
            for name, value in (entry[3] if len(entry) > 3 else {}).items():
                check_equal(request["headers"].get(name), value, f"{name} of {request['path']}")
        return since + len(got)

    with session() as s:
        lease = s.acquire()
        since = compare(s, "acquire", 0, lease)
        check_equal(s.execute(lease, "cat", [], {"stdin": "in\n", "cwd": "/tmp", "timeoutMs": 20000}), result(0, "in\n"))
        since = compare(s, "execute with stdin", since, lease)
        check_equal(s.lease_call("ReleaseLease", lease), None)
        since = compare(s, "release", since, lease)
        lease = s.acquire(reuseLease=True)
        since = len(s.e.requests())
        s.lease_call("ReleaseLease", lease, reuseLease=True)
        compare(s, "release of a lease that is reused", since, lease)


@test
def each_request_bears_its_headers_and_tokens_are_in_no_answer():
    with session() as s:
        lease = s.acquire()
        s.execute(lease, "cat", [], {"stdin": "x"})
        token = s.e.state()["sandboxes"][0]["token"]
        for request in s.e.requests():
            headers = request["headers"]
            if request["path"].startswith("/api"):
                check_equal(headers["x-api-key"], KEY)
                check("x-access-token" not in headers, "the token goes to envd only")
                continue
            check_equal((headers["e2b-sandbox-id"], headers["e2b-sandbox-port"], headers["x-access-token"]), (lease, "49983", token))
            check("authorization" not in headers and "x-api-key" not in headers and "connect-accept-encoding" not in headers, f"{headers}")
            if "/process.Process/" in request["path"]:
                check_equal((headers["connect-protocol-version"], headers["keepalive-ping-interval"]), ("1", "50"))
        s.e.fault(path="/v2/sandboxes$", status=400, reply={"code": 400, "message": f"bad {KEY} and {token}"})
        check_equal(s.error("AcquireLease", {"runId": "r"}), "400: bad *** and ***")


@test
def an_old_envd_gets_a_user_and_a_form():
    with session() as s:
        s.e.behave(envdVersion="0.3.9")
        lease = s.acquire()
        check_equal(s.execute(lease, "cat", [], {"stdin": "ü\0\r\n"}), result(0, "ü\0\r\n"))
        upload, = s.e.requests("POST", "/files")
        check_equal((upload["query"]["username"], upload["headers"]["authorization"]), ("user", "Basic dXNlcjo="))
        check_match(upload["headers"]["content-type"], "multipart/form-data; boundary=.*")
        s.e.behave(envdVersion="0.0.9")
        check_equal(s.error("AcquireLease", {"runId": "r"}), "You need to update the template to use the new SDK.")
        check_equal(s.e.live(), [lease])


@test
def operations_cost_the_documented_number_of_requests():
    with session() as s:
        def cost(action, n):
            since = len(s.e.requests())
            got = action()
            check_equal(len(s.e.requests(since=since)), n, str(s.routes(since)))
            return got
        cost(lambda: s.call("Probe"), 5)
        lease = cost(s.acquire, 4)
        for _ in range(2):
            cost(lambda: s.execute(lease, "true"), 3)
        cost(lambda: s.execute(lease, "cat", [], {"stdin": "x"}), 5)
        cost(lambda: s.call("RealizeWorkspace", {"lease": {"providerLeaseId": lease}, "workspace": {"remotePath": "/tmp"}}), 2)
        cost(lambda: s.call("RealizeWorkspace", {"lease": {}, "workspace": {}}), 0)
        cost(lambda: s.lease_call("ReleaseLease", lease, reuseLease=True), 1)
        cost(lambda: s.lease_call("ResumeLease", lease), 4)
        s.lease_call("ReleaseLease", lease, reuseLease=True)
        cost(lambda: s.lease_call("DestroyLease", lease), 1)
        s.no_live()
        for method in ("ReleaseLease", "DestroyLease"):
            cost(lambda: s.call(method, {"providerLeaseId": None}), 0)
        cost(lambda: s.execute(None, "true"), 0)


# --- leases ---


@test
def acquire_answers_the_documented_metadata_and_the_workspace_is_there():
    with session() as s:
        got = s.call("AcquireLease", {"runId": "r"}, template=" base ", timeoutMs=299001)
        sandbox, = s.e.state()["sandboxes"]
        home = sandbox["home"]
        check_equal(got, {"providerLeaseId": sandbox["sandboxID"], "metadata": {
            "provider": "e2b", "shellCommand": "bash", "template": "base", "timeoutMs": 299001, "reuseLease": False,
            "sandboxId": sandbox["sandboxID"], "sandboxDomain": "e2b.app", "remoteCwd": f"{home}/paperclip-workspace", "resumedLease": False}})
        check(os.path.isdir(f"{home}/paperclip-workspace"), "no workspace")
        check_equal(json.loads(s.e.requests("POST", "/v2/sandboxes")[0]["body"])["timeout"], 300)


@test
def a_lease_that_must_end_by_a_time_does():
    with session() as s:
        ends = "2020-01-01T00:00:00.000Z"
        got = s.call("AcquireLease", {"runId": "r", "requestedExpiresAt": ends})
        check_equal(got["expiresAt"], ends)
        check_equal(json.loads(s.e.requests("POST", "/v2/sandboxes")[0]["body"])["timeout"], 1)


@test
def a_paused_lease_is_resumed_and_takes_no_commands_in_between():
    with session() as s:
        lease = s.acquire(reuseLease=True)
        check_equal(s.lease_call("ReleaseLease", lease, {"cancelActiveWork": True}, reuseLease=True), {"providerLeaseId": lease, "state": "stopped"})
        check_equal(s.e.state()["paused"], [lease])
        check_equal(s.execute_error(lease, "true"), f"E2B sandbox lease {lease} is no longer active.")
        got = s.lease_call("ResumeLease", lease, reuseLease=True)
        check_equal((got["providerLeaseId"], got["metadata"]["resumedLease"]), (lease, True))
        check_equal(s.execute(lease, "true"), result())
        s.e.pause(lease)
        check_equal(s.lease_call("ReleaseLease", lease, {"cancelActiveWork": True}, reuseLease=True), {"providerLeaseId": lease, "state": "stopped"})


@test
def only_a_proven_not_found_is_expired():
    with session() as s:
        gone = {"providerLeaseId": None, "metadata": {"expired": True}}
        check_equal(s.lease_call("ResumeLease", "i0123456789abcdef000"), gone)
        lease = s.acquire()
        for way in ({"status": 404, "reply": "<html>no such page</html>"}, {"status": 500}, {"status": 403, "reply": {"code": 403, "message": "no"}}):
            s.e.fault(path="/connect$", times=None, **way)
            s.error("ResumeLease", {"providerLeaseId": lease})
            s.e.clear_faults()
        ways = ({"status": 502, "reply": {"code": 502}}, {"status": 503}, {"status": 500}, {"reset": True})
        leases = [s.acquire(template=f"t{number}") for number in range(len(ways))]
        for times in (None, 1):
            s.e.faults([{"of": f"t{number}", "path": "Process/Start", "times": times, **way} for number, way in enumerate(ways)])
            answers = [s.w.answer(key) for key in [s.send("ResumeLease", {"providerLeaseId": each}) for each in leases]]
            s.e.clear_faults()
            check_equal(["error" in answer for answer in answers], [times is None] * len(ways), f"{answers}")
            check_equal(sorted(s.e.live()), sorted([lease, *leases]))
        s.e.fault(path="/connect$", status=200, reply={"sandboxID": lease, "envdVersion": "0.6.13"})
        s.e.fault(path="/timeout$", status=204)
        s.e.destroy(lease)
        check_equal(s.lease_call("ResumeLease", lease), gone)


@test
def what_may_be_done_twice_is_after_a_fault_that_passes():
    ways = [{"reset": True}, {"reset": True, "after": True}, {"close": True}, {"truncate": 0}, {"status": 429}, {"status": 500},
            {"status": 502, "reply": "<html>"}, {"status": 503}]
    with session() as s:
        leases = [s.acquire(reuseLease=True, template=f"t{number}") for number in range(len(ways))]
        for method, path, more in (("ReleaseLease", "/pause$", {"reuseLease": True}), ("ResumeLease", "/connect$", {}), ("ResumeLease", "/timeout$", {}),
                                   ("DestroyLease", "/sandboxes/", {})):
            s.e.faults([{"of": f"t{number}", "path": path, **way} for number, way in enumerate(ways) if path == "/connect$" or way != {"truncate": 0}])
            keys = [s.send(method, {"providerLeaseId": lease, "cancelActiveWork": True}, **more) for lease in leases]
            for lease, way, key in zip(leases, ways, keys):
                got = s.w.result(key)
                check_equal((got["providerLeaseId"], got.get("state", "stopped")), (lease, "destroyed" if method == "DestroyLease" else "stopped"), f"{path} {way}")
            s.e.clear_faults()
        s.no_live()


@test
def a_lifetime_that_cannot_be_set_stops_no_command():
    with session() as s:
        lease = s.acquire()
        for way in ({"status": 400}, {"status": 404, "reply": {"code": 404, "message": "gone"}}, {"status": 401}):
            s.e.fault(path="/timeout$", **way)
            check_equal(s.execute(lease, "echo", ["x"]), result(0, "x\n"))


@test
def the_token_of_the_sandbox_is_kept_where_connect_does_not_repeat_it():
    with session() as s:
        lease = s.acquire()
        s.e.fault(path="/connect$", merge={"envdAccessToken": None})
        check_equal(s.execute(lease, "echo", ["x"]), result(0, "x\n"))


@test
def a_second_release_or_destroy_is_no_error():
    with session() as s:
        for method in ("ReleaseLease", "DestroyLease"):
            lease = s.acquire()
            for _ in range(3):
                check_equal(s.lease_call(method, lease, {"cancelActiveWork": True}), {"providerLeaseId": lease, "state": "destroyed"})
            check_equal(s.lease_call(method, lease, reuseLease=True), None)
            s.no_live()


@test
def a_pause_that_fails_is_followed_by_a_kill():
    with session() as s:
        lease = s.acquire()
        s.e.fault(path="/pause$", status=400, reply={"code": 400, "message": "no"}, times=None)
        got = s.lease_call("ReleaseLease", lease, {"cancelActiveWork": True}, reuseLease=True)
        check_equal(got, {"providerLeaseId": lease, "state": "destroyed"})
        check_equal([note["params"]["message"] for note in s.w.notes],
                    ["Failed to pause E2B sandbox during lease release: 400: no. Attempting kill instead."])
        s.no_live()


@test
def realize_makes_the_directory_or_says_why_not():
    with session() as s:
        lease = s.acquire()
        path = s.e.state()["sandboxes"][0]["home"] + "/it's"
        got = s.call("RealizeWorkspace", {"lease": {"providerLeaseId": lease, "metadata": {"remoteCwd": f" {path} "}}, "workspace": {}})
        check_equal(got, {"cwd": path, "metadata": {"provider": "e2b", "remoteCwd": path}})
        check(os.path.isdir(path), "no directory")
        for workspace, cwd in (({"remotePath": "/r", "localPath": "/l"}, "/r"), ({"localPath": "/l"}, "/l"), ({}, "/paperclip-workspace")):
            check_equal(s.call("RealizeWorkspace", {"lease": {}, "workspace": workspace})["cwd"], cwd)
        check_equal(s.error("RealizeWorkspace", {"lease": {"providerLeaseId": "i0"}, "workspace": {}}), "Paused sandbox i0 not found")


@test
def a_probe_tells_step_by_step():
    with session() as s:
        got = s.call("Probe")
        check_equal((got["ok"], got["summary"]), (True, "Connected to E2B sandbox template base."))
        check_equal([entry["code"] for entry in got["diagnostics"]], ["config", "create", "lifetime", "commands", "kill"])
        check_equal(set(got["metadata"]), {"provider", "template", "timeoutMs", "reuseLease", "sandboxId", "sandboxDomain", "remoteCwd"})
        for config, error, steps in (({"template": "none"}, "404: template 'none' not found", ["config", "create"]),
                                     ({"apiKey": "wrong-key"}, "Unauthorized, please check your credentials. - Invalid API key, please visit", ["config", "create"])):
            got = s.call("Probe", **config)
            check_equal((got["ok"], got["summary"]), (False, f"E2B sandbox probe failed for template {config.get('template', 'base')}."))
            check(got["metadata"]["error"].startswith(error), got["metadata"]["error"])
            check_equal([entry["code"] for entry in got["diagnostics"]], steps)
            check_equal(got["diagnostics"][-1]["severity"], "error")
        s.no_live()


# --- commands ---


@test
def commands_end_with_their_code_or_signal():
    with session() as s:
        lease = s.acquire()
        check_equal(s.execute(lease, "sh", ["-c", "printf 'h\\303\\251'; echo err >&2; exit 3"]), result(3, "hé", "err\n"))
        for number, name in ((9, "SIGKILL"), (15, "SIGTERM"), (11, "SIGSEGV")):
            check_equal(s.execute(lease, "sh", ["-c", f"kill -{number} $$"]), {**result(-1), "signal": name})
        check_equal(s.execute(lease, "no-such-command")["exitCode"], 127)
        words = ["it's", "a b", "$HOME", "`id`", "ü", "", "-n", "\n", "\\", '"']
        got = s.execute(lease, "printf", ["%s|", *words], {"env": {"A": "x'y\n", "B": 5}, "cwd": "/"})
        check_equal(got["stdout"], "".join(f"{word}|" for word in words))
        check_equal(s.execute(lease, "sh", ["-c", "pwd; echo \"$A|${B-unset}\""], {"env": {"A": "1", "B": 5}, "cwd": "/"}), result(0, "/\n1|unset\n"))
        since = len(s.e.requests())
        check_equal(s.execute_error(lease, "true", [], {"env": {"1A": "x"}}), "Invalid sandbox environment variable key: 1A")
        check_equal(len(s.e.requests(since=since)), 0)


@test
def no_lease_is_a_result():
    with session() as s:
        for lease in (None, ""):
            check_equal(s.execute(lease, "true"), result(1, "", "No provider lease ID available for execution."))


@test
def stdin_is_uploaded_and_every_end_removes_it():
    with session() as s:
        lease = s.acquire()
        check_equal(s.execute(lease, "cat", [], {"stdin": ""}), result())
        big = "line ü\n" * 300_000
        check_equal(s.execute(lease, "cat", [], {"stdin": big})["stdout"], big)
        for way in ({"status": 500}, {"reset": True}, {"status": 200, "reply": "<html>", "headers": {"Content-Type": "text/html"}}):
            s.e.fault(path="Process/Start", **way)
            s.execute_error(lease, "cat", [], {"stdin": "x"})
        s.e.fault(path="/files", status=507, reply={"code": 507, "message": "not enough disk space available"}, after=True)
        check_equal(s.execute_error(lease, "cat", [], {"stdin": "x"}), "not enough disk space available")
        check_equal(s.execute(lease, "sleep", ["1000"], {"stdin": "x", "timeoutMs": 300})["timedOut"], True)
        check_equal(s.e.state()["files"], [])


@test
def output_is_shown_while_a_command_runs():
    with session() as s:
        lease = s.acquire()
        key = s.send_execute(lease, "sh", ["-c", "echo one; echo oops >&2; sleep 1000"])
        s.w.until(lambda: s.w.live_text(key) == "one\n" and s.w.live_text(key, "stderr") == "oops\n", "live output")
        s.lease_call("DestroyLease", lease)
        check("error" in s.w.answer(key), "the command has no result")


@test
def a_timeout_keeps_what_was_printed():
    with session() as s:
        lease = s.acquire()
        for script, stderr in (("echo out; sleep 1000", TIMEOUT_TEXT + "\n"), ("echo out; printf err >&2; sleep 1000", f"err\n{TIMEOUT_TEXT}\n"),
                               ("echo out; echo err >&2; exec sleep 1000", f"err\n{TIMEOUT_TEXT}\n")):
            check_equal(s.execute(lease, "sh", ["-c", script], {"timeoutMs": 400}), result(None, "out\n", stderr, True))
        text = TIMEOUT_TEXT.replace("'", "'\"'\"'")
        got = s.execute(lease, "sh", ["-c", f"echo '{text}' >&2; sleep 1000"], {"timeoutMs": 400})
        check_equal(got["stderr"], TIMEOUT_TEXT + "\n")
        s.e.wait_for(lambda e: not e.state()["running"], "nothing runs")


@test
def a_timeout_ends_what_the_command_had_started():
    with session() as s:
        lease = s.acquire()
        marker = "10000077.5"
        script = f"(trap '' TERM; sleep {marker}) >/dev/null 2>&1 & sleep {marker}"
        check_equal(s.execute(lease, "sh", ["-c", script], {"timeoutMs": 2500})["timedOut"], True)
        s.e.wait_for(lambda e: not [pid for pid in os.listdir("/proc") if pid.isdigit() and marker in command_line(pid)], "no process is left")


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


@test
def a_command_without_a_limit_has_none():
    with session() as s:
        lease = s.acquire()
        check_equal(s.execute(lease, "echo", ["x"], {"timeoutMs": 0}), result(0, "x\n"))
        start = s.e.requests("POST", "Process/Start")[-1]
        check("connect-timeout-ms" not in start["headers"], "a limit was sent")
        check("cwd" not in envelope_of(start)["process"], "a directory that nobody named")
        s.execute(lease, "true", [], {"cwd": ""})
        check_equal(envelope_of(s.e.requests("POST", "Process/Start")[-1])["process"]["cwd"], "")
        s.execute(lease, "true", timeoutMs=7000)
        check_equal(s.e.requests("POST", "Process/Start")[-1]["headers"]["connect-timeout-ms"], "7000")


@test
def release_and_destroy_end_a_running_command_with_proof():
    with session() as s:
        for method, reuse, state in (("ReleaseLease", False, "destroyed"), ("DestroyLease", False, "destroyed"), ("ReleaseLease", True, "stopped")):
            lease = s.acquire()
            key = s.send_execute(lease, "sh", ["-c", "sleep 1000000 & sleep 100000"], {"stdin": ""})
            s.e.wait_for(started("sleep 100000"), "the command runs")
            got = s.lease_call(method, lease, {"cancelActiveWork": True}, reuseLease=reuse)
            check_equal(got, {"providerLeaseId": lease, "state": state})
            check("error" in s.w.answer(key), "the command has no result")
            s.e.wait_for(lambda e: not e.state()["running"] and not e.state()["files"], "nothing is left")
            s.lease_call("DestroyLease", lease)


@test
def leases_of_one_company_are_not_known_to_another():
    with session() as s:
        lease = s.acquire(reuseLease=True)
        s.lease_call("ReleaseLease", lease, reuseLease=True)
        check_equal(s.execute(lease, "echo", ["hi"], company=OTHER_COMPANY), result(0, "hi\n"))
        check_equal(s.execute_error(lease, "true", company=COMPANY), f"E2B sandbox lease {lease} is no longer active.")


main()
