#!/usr/bin/python3
"""wire: e2b, Errors of envd; What a better client does. Streams that say what went wrong, and streams that are cut."""

from driver import FINISH, START, data, end, frame, result, session, stream
from harness import check, check_equal, check_match, main, test

SANDBOX_TIMEOUT = ("This error is likely due to sandbox timeout. You can modify the sandbox timeout by passing 'timeoutMs' when starting the "
                   "sandbox or calling '.setTimeout' on the sandbox with the desired timeout.")
REQUEST_TIMEOUT = ("This error is likely due to exceeding 'requestTimeoutMs'. You can pass the request timeout value as an option when making "
                   "the request.")
DIED = "[unknown] terminated: The sandbox was killed or reached its end of life while the request was in flight."


def failure(code, message):
    return frame({"error": {"code": code, "message": message}}, 2)


# --- the API's error table ---


@test
def each_row_of_the_apis_error_table_has_its_text():
    rows = (({"status": 401, "reply": {"code": 401, "message": "M"}}, r"Unauthorized, please check your credentials\. - M"),
            ({"status": 401}, r"Unauthorized, please check your credentials\."),
            ({"status": 429, "reply": {"code": 429, "message": "M"}}, "Rate limit exceeded, please try again later - M"),
            ({"status": 429}, "Rate limit exceeded, please try again later"),
            ({"status": 503, "times": None}, "Service temporarily unavailable, please retry"),
            ({"status": 503, "times": None, "reply": {"code": 503, "message": "M"}}, "Service temporarily unavailable, please retry - M"),
            ({"status": 403, "reply": {"code": 403, "message": "you don't have access to template 'x'"}}, "403: you don't have access to template 'x'"),
            ({"status": 404, "reply": {"code": 404, "message": "template 'x' not found"}}, "404: template 'x' not found"),
            ({"status": 409, "reply": {"code": 409, "message": "M"}}, "409: M"), ({"status": 400, "reply": "<html>x</html>"}, "400: <html>x</html>"),
            ({"status": 418, "reply": ""}, "418: "), ({"status": 500}, "500: Internal Server Error"),
            ({"reset": True}, "fetch failed: read ECONNRESET .*"), ({"reset": True, "times": None}, "fetch failed: read ECONNRESET .*"),
            ({"close": True, "after": True}, "fetch failed: socket hang up .*"), ({"truncate": 9}, "fetch failed: .*"),
            ({"stall": True}, "The operation was aborted due to timeout: no complete answer .*"),
            ({"status": 200, "reply": {}}, r"E2B answered without a sandbox\."))
    with session() as s:
        s.e.faults([{"of": f"t{number}", "path": "/v2/sandboxes$", "method": "POST", **way} for number, (way, _) in enumerate(rows)])
        keys = [s.send("AcquireLease", {"runId": "r"}, requestTimeoutMs=1000, template=f"t{number}") for number in range(len(rows))]
        for key, (way, text) in zip(keys, rows):
            check_match(s.w.error(key)["message"], text, f"{way}")
        check_match(s.error("AcquireLease", {"runId": "r"}, apiUrl="http://127.0.0.1:1"), "fetch failed: connect ECONNREFUSED 127.0.0.1:1")
        s.no_live()


@test
def a_limit_of_the_team_is_not_asked_again_and_the_rate_limiter_is():
    with session() as s:
        s.e.fault(path="/v2/sandboxes$", status=429, reply={"code": 429, "message": "maximum number"}, times=None)
        s.error("AcquireLease", {"runId": "r"})
        check_equal(len(s.e.requests()), 1)
        s.e.clear_faults()
        for way in ({"status": 429, "headers": {"Retry-After": "0"}}, {"status": 503}):
            s.e.fault(path="/v2/sandboxes$", method="POST", times=2, **way)
            s.lease_call("DestroyLease", s.acquire())
        s.no_live()


# --- envd's error table ---

BEFORE = (
    ("unavailable before the start is an absent sandbox", stream(failure("unavailable", "x")), "Sandbox is probably not running anymore"),
    ("429 of the proxy", {"status": 429}, "Sandbox is probably not running anymore"),
    ("502 of the proxy", {"status": 502}, "Sandbox is probably not running anymore"),
    ("503 of the proxy", {"status": 503}, "Sandbox is probably not running anymore"),
    ("invalid argument", stream(failure("invalid_argument", "cwd '/x' does not exist")), "[invalid_argument] cwd '/x' does not exist"),
    ("unauthenticated", {"status": 401}, "[unauthenticated] HTTP 401"),
    ("not found", stream(failure("not_found", "m")), "[not_found] m"),
    ("resource exhausted", stream(failure("resource_exhausted", "m")), "[resource_exhausted] m: Rate limit exceeded, please try again later."),
    ("canceled", stream(failure("canceled", "m")), f"[canceled] m: {REQUEST_TIMEOUT}"),
    ("internal", stream(failure("internal", "boom")), "13: [internal] boom"),
    *((code, stream(failure(code, "m")), f"{number}: [{code}] m") for number, code in (
        (2, "unknown"), (6, "already_exists"), (7, "permission_denied"), (9, "failed_precondition"), (10, "aborted"), (11, "out_of_range"),
        (12, "unimplemented"), (15, "data_loss"))),
    ("an unknown code", stream(failure("nonsense", "m")), "2: [unknown] m"),
    ("status 400", {"status": 400}, "13: [internal] HTTP 400"),
    ("status 403", {"status": 403}, "7: [permission_denied] HTTP 403"),
    ("status 404", {"status": 404}, "12: [unimplemented] HTTP 404"),
    ("status 500", {"status": 500, "reply": {"code": "not_found", "message": "ignored"}}, "2: [unknown] HTTP 500"),
    *((f"status {status}", {"status": status}, f"2: [unknown] HTTP {status}") for status in (302, 405, 418, 501)),
    ("504 of the proxy", {"status": 504}, "Sandbox is probably not running anymore"),
    ("a cut before the response", {"reset": True}, "2: [unknown] fetch failed: read ECONNRESET .*"),
    ("a response that is closed", {"close": True, "after": True}, "2: [unknown] fetch failed: socket hang up .*"),
    ("an end of the stream without an end event", stream(START, FINISH), "Process exited without a result"),
    ("another first event", stream(data(b"x"), FINISH), "Expected start event"),
    ("no event at all", stream(FINISH), "Expected start event"),
    ("a login page", {"status": 200, "reply": "<html>", "headers": {"Content-Type": "text/html"}}, "2: [unknown] unsupported content type text/html"),
    ("no end of the stream", stream(START), "2: [unknown] terminated: the connection was cut, and the command ended .*"),
    ("a compressed message", stream(START, frame({}, 1)), "13: [internal] received compressed envelope, .*"),
    ("a message that is no JSON", stream(START, b"\0\0\0\0\x03{x}"), "13: [internal] .*"),
    ("output that is no base64", stream(START, frame({"event": {"data": {"stdout": "%%"}}})), "13: [internal] .*"),
    ("a cut before the start event", {"truncate": 0}, "2: [unknown] terminated: .*"),
    ("nothing at all", stream(), "2: [unknown] missing EndStreamResponse"),
    ("half a message before the start", stream(b"\0\0\0"), "2: [unknown] missing EndStreamResponse"),
)


@test
def each_row_of_envds_error_table_has_its_text():
    with session() as s:
        lease = s.acquire()
        for name, way, text in BEFORE:
            s.e.fault(path="Process/Start", times=None, **way)
            got = s.execute_error(lease, "true")
            s.e.clear_faults()
            if text.endswith(".*"):
                check(got.startswith(text[:-2]), f"{name}: {got}")
            else:
                check_equal(got, text, name)


@test
def steps_of_an_acquire_that_fail_have_their_texts():
    with session() as s:
        for way, text in (({"path": "/timeout$", "status": 404, "reply": {"code": 404, "message": "Sandbox \"x\" doesn't exist"}}, r"Sandbox i\w+ not found"),
                          ({"path": "Process/Start", **stream(START, end(exitCode=1, status="exit status 1", error="exit status 1"), FINISH)}, "exit status 1"),
                          ({"path": "Process/Start", **stream(START, failure("deadline_exceeded", "context deadline exceeded"))},
                           r"\[deadline_exceeded\] context deadline exceeded: This error is likely due to exceeding 'timeoutMs' .*"),
                          ({"path": "Process/Start", "skip": 1, "status": 401, "times": None}, r"\[unauthenticated\] HTTP 401")):
            s.e.fault(**way)
            check_match(s.error("AcquireLease", {"runId": "r"}), text)
            s.e.clear_faults()
            s.no_live()


@test
def a_limit_that_the_service_notices_first_is_a_timeout_in_its_words():
    with session() as s:
        lease = s.acquire()
        s.e.fault(path="Process/Start", **stream(START, data(b"out", b"err"), failure("deadline_exceeded", "context deadline exceeded")))
        got = s.execute(lease, "true")
        check_equal((got["exitCode"], got["timedOut"], got["stdout"]), (None, True, "out"))
        check_match(got["stderr"], r"err\n\[deadline_exceeded\] context deadline exceeded: This error is likely due to exceeding 'timeoutMs' .*\n")


@test
def errors_of_an_upload_have_their_texts():
    rows = ((200, "200: the answer to an upload does not name the file"), (400, "M"), (401, "M"), (404, "M"), (507, "M"), (429, "M: The requests are being rate limited."), (502, f"M: {SANDBOX_TIMEOUT}"), (500, "500: M"),
            (418, "418: M"))
    with session() as s:
        lease = s.acquire()
        s.e.faults([{"path": "/files", "body": f"input {status}", "status": status, "reply": {"code": status, "message": "M"}, "times": None}
                    for status, _ in rows])
        keys = [s.send_execute(lease, "cat", [], {"stdin": f"input {status}"}, requestTimeoutMs=1500) for status, _ in rows]
        for key, (status, text) in zip(keys, rows):
            check_equal(s.w.error(key)["message"], text, f"{status}")


@test
def odd_but_valid_streams_are_understood():
    with session() as s:
        lease = s.acquire()
        for frames, want in (
                ((START, end(exitCode=0), FINISH), result()), ((START, frame({"event": {"end": {"exited": True, "exit_code": 7}}}), FINISH), result(7)),
                ((START, frame({"event": {"keepalive": {}}}), frame({"newer": 1}), frame({"event": {"newer": {}}}), data(b"a"), end(), FINISH), result(0, "a")),
                ((START, frame({"event": {"data": {"pty": "YQ=="}}}), end(), FINISH), result(0, "a")),
                ((START, data(b"\xf0\x9f"), data(b"\x98\x80|"), data(b"\xff\xfe"), data(b"\0"), end(), FINISH), result(0, "😀|\ufffd\ufffd\0")),
                ((START, data(b"\xf0\x9f\x98"), end(), FINISH), result(0, "\ufffd")), ((START, data(b"x"), end()), result(0, "x"))):
            s.e.fault(path="Process/Start", **stream(*frames))
            check_equal(s.execute(lease, "true"), want)


@test
def envelopes_may_be_cut_anywhere():
    with session() as s:
        text = "".join(f"line {i} ü\n" for i in range(2000))
        script = "i=0; while [ $i -lt 2000 ]; do echo \"line $i ü\"; i=$((i+1)); done; echo err >&2; exit 5"
        for split in (1, 2, 5, 6, 4096, 1000000):
            s.e.behave(split=split)
            lease = s.acquire()
            check_equal(s.execute(lease, "sh", ["-c", script]), result(5, text, "err\n"))


@test
def big_output_comes_whole():
    with session() as s:
        lease = s.acquire()
        got = s.execute(lease, "sh", ["-c", "head -c 6000000 /dev/zero | tr '\\0' x; head -c 3000000 /dev/zero | tr '\\0' y >&2"])
        check_equal((got["exitCode"], len(got["stdout"]), len(got["stderr"]), set(got["stdout"]), set(got["stderr"])),
                    (0, 6000000, 3000000, {"x"}, {"y"}))


# --- streams that are cut ---


@test
def a_cut_stream_is_attached_again_and_the_command_goes_on():
    with session() as s:
        lease = s.acquire()
        for way in ("dropStream", "truncate"):
            s.e.fault(path="Process/Start", **{way: 60})
            script = "while [ ! -e go ]; do sleep 0.05; done; rm go; echo after; exit 3"
            home = s.e.state()["sandboxes"][0]["home"]
            since = len(s.e.requests())
            key = s.send_execute(lease, "sh", ["-c", "sleep 0.3; echo before-the-cut-with-some-more-text; " + script], {"cwd": home})
            s.e.wait_for(lambda e: e.requests("POST", "Process/Connect", since), "attached")
            s.e.cut(lease)
            s.e.wait_for(lambda e: len(e.requests("POST", "Process/Connect", since)) >= 2, "attached again")
            s.execute(lease, "touch", [f"{home}/go"])
            got = s.w.result(key)
            check_equal((got["exitCode"], got["timedOut"], got["stdout"].endswith("after\n")), (3, False, True))
            check(got["metadata"]["outputGaps"] >= 1, "the gap is told")


@test
def the_end_that_came_during_a_cut_is_still_had():
    with session() as s:
        lease = s.acquire()
        s.e.fault(path="Process/Connect", times=2, status=500)
        s.e.fault(path="Process/Start", dropStream=45)
        got = s.execute(lease, "sh", ["-c", "exit 9"])
        check_equal((got["exitCode"], got["timedOut"]), (9, False))
        s.e.behave(forgets=True)
        s.e.fault(path="Process/Start", dropStream=45)
        check_match(s.execute_error(lease, "sh", ["-c", "exit 9"]), r"2: \[unknown\] terminated: .*its exit code is not known")


@test
def a_command_that_cannot_be_attached_to_is_killed():
    with session() as s:
        lease = s.acquire()
        s.e.fault(path="Process/Connect", status=500, times=None)
        s.e.fault(path="Process/Start", dropStream=45)
        check_match(s.execute_error(lease, "sleep", ["100000"], requestTimeoutMs=1000), r"2: \[unknown\] terminated: .*")
        s.e.wait_for(lambda e: not e.state()["running"], "it was killed")


@test
def a_command_whose_start_was_not_answered_is_found_and_killed():
    with session() as s:
        lease = s.acquire()
        for way in ({"reset": True, "after": True}, {"stall": True, "after": True}, {"status": 500, "after": True}):
            s.e.fault(path="Process/Start", **way)
            s.execute_error(lease, "sleep", ["100000"], requestTimeoutMs=1000)
            s.e.wait_for(lambda e: not e.state()["running"], "it was killed")
            s.e.clear_faults()


@test
def a_start_that_is_never_answered_is_an_error_and_no_timeout():
    with session() as s:
        lease = s.acquire()
        s.e.faults([{"path": "Process/Start", "body": "case-1", "stall": True}, {"path": "Process/Start", "body": "case-2", "stallBody": 0}])
        for key in [s.send_execute(lease, "true", [f"case-{number}"], requestTimeoutMs=1000) for number in (1, 2)]:
            check_equal(s.w.error(key)["message"], f"[canceled] Request handshake timed out after 1000ms: {REQUEST_TIMEOUT}")


@test
def silence_is_noticed_by_missing_signs_of_life_and_a_quiet_command_that_gives_them_is_left_alone():
    with session() as s:
        lease = s.acquire()
        since = len(s.e.requests())
        s.e.fault(path="Process/Start", body="exit 5", stallBody=45)
        silent = s.send_execute(lease, "sh", ["-c", "sleep 4; exit 5"], requestTimeoutMs=1200)
        quiet = s.send_execute(lease, "sh", ["-c", "sleep 3.5; exit 4"], requestTimeoutMs=1000)
        check_equal(s.w.result(quiet), result(4))
        check_equal(s.w.result(silent)["exitCode"], 5)
        check_equal(len(s.e.requests("POST", "Process/Connect", since)), 1)


@test
def a_sandbox_that_dies_under_a_command_is_told_from_a_timeout():
    with session() as s:
        for end_it in ("destroy", "pause"):
            lease = s.acquire()
            key = s.send_execute(lease, "sh", ["-c", "echo x; sleep 100000"])
            s.w.until(lambda: s.w.live_text(key) == "x\n", "output")
            getattr(s.e, end_it)(lease)
            check_equal(s.w.error(key)["message"], DIED)
            s.lease_call("DestroyLease", lease)


@test
def a_service_that_does_not_keep_the_limit_is_not_waited_for():
    with session() as s:
        lease = s.acquire()
        s.e.faults([{"path": "Process/Start", "body": "never", **stream(START, data(b"out"))}, {"path": "Process/Connect", "stall": True, "times": None},
                    {"path": "Process/Start", "body": "sleep", "stallBody": 60}])
        cut = s.send_execute(lease, "never", [], {"timeoutMs": 1000})
        stalls = s.send_execute(lease, "sh", ["-c", "sleep 100000"], {"timeoutMs": 1000})
        for key, stdout in ((cut, "out"), (stalls, "")):
            got = s.w.result(key)
            check_equal((got["exitCode"], got["timedOut"], got["stdout"]), (None, True, stdout))
        s.e.clear_faults()
        s.e.wait_for(lambda e: not e.state()["running"], "it was killed")


@test
def a_hundred_commands_at_once_come_out_right():
    with session() as s:
        lease = s.acquire()
        keys = [s.send_execute(lease, "sh", ["-c", f"echo {i}; exit {i % 7}"]) for i in range(100)]
        for i, key in enumerate(keys):
            check_equal(s.w.result(key), result(i % 7, f"{i}\n"))


main()
