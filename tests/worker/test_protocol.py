#!/usr/bin/python3
"""host contract, "Framing", "Messages", "Error codes", "General methods": what any worker owes its host."""

import json
import os
import random
import subprocess
import uuid

from harness import (Build, COMPANY, Worker, check, check_equal, check_match, main, raw_id, temp_dir, remove_dir, test)

INITIALIZE = {"manifest": {}, "config": {}, "apiVersion": 1, "instanceInfo": {}, "databaseNamespace": None}


def line(id_text, method="health", params="{}"):
    return f'{{"jsonrpc":"2.0","id":{id_text},"method":"{method}","params":{params}}}\n'


# --- framing ---


@test
def a_request_is_answered_on_a_socket_a_pipe_and_a_file():
    directory = temp_dir()
    path = os.path.join(directory, "requests")
    with open(path, "w", encoding="utf-8") as file:
        file.write(line(1, "initialize", json.dumps(INITIALIZE)) + line(2))
    try:
        for transport in ("socket", "pipe", "nonblocking", path):
            with Worker(transport) as w:
                w.expect(1)
                w.expect(2)
                if transport != path:
                    w.write(line(1, "initialize", json.dumps(INITIALIZE)) + line(2))
                check_equal(w.result(1)["ok"], True)
                check_equal(w.result(2)["status"], "ok", transport)
    finally:
        remove_dir(directory)


@test
def a_pipe_that_others_share_is_not_made_nonblocking():
    theirs_in, ours_in = os.pipe()
    ours_out, theirs_out = os.pipe()
    with subprocess.Popen([Build.path], stdin=theirs_in, stdout=theirs_out) as process:
        os.write(ours_in, line(1).encode())
        check(os.read(ours_out, 65536).startswith(b'{"jsonrpc":"2.0","id":1,'), "answered")
        blocking = os.get_blocking(theirs_in), os.get_blocking(theirs_out)
        os.close(ours_in)
        process.wait()
    for fd in (theirs_in, theirs_out, ours_out):
        os.close(fd)
    check_equal(blocking, (True, True), "the pipes still block")
    check_equal(process.returncode, 0)


@test
def a_large_answer_passes_through_each_kind_of_descriptor():
    for transport in ("socket", "pipe", "nonblocking"):
        with Worker(transport) as w:
            text = "0123456789abcde\n" * 400_000
            check(w.execute("cat", stdin=text)["stdout"] == text, transport)


@test
def carriage_returns_blank_lines_and_a_byte_order_mark_are_ignored():
    with Worker() as w:
        w.expect(1)
        w.expect(2)
        w.write(b"\xef\xbb\xbf" + line(1).replace("\n", "\r\n").encode() + b"\n\r\n  \n\t\n" + line(2).encode() + b"\n\n")
        check_equal(w.result(1)["status"], "ok")
        check_equal(w.result(2)["status"], "ok")


@test
def white_space_around_a_message_is_ignored():
    with Worker() as w:
        w.expect(1)
        w.write('  \t{ "jsonrpc" : "2.0" , "id" : 1 , "method" : "health" }  \n')
        check_equal(w.result(1)["status"], "ok")


@test
def unescaped_line_separators_in_the_input_do_not_end_a_line():
    with Worker() as w:
        for text in ("a\u2028b", "a\u2029b", "a\u0085b", "a\u007fb"):
            check_equal(w.execute("printf", ["%s", text])["stdout"], text)


@test
def line_separators_and_controls_in_the_output_are_escaped():
    # The reader of the harness fails on any raw one.
    everything = "".join(chr(c) for c in range(1, 0x20)) + "\u2028\u2029\u0085\u007f\ufeff\"\\/"
    with Worker() as w:
        check_equal(w.execute("printf", ["%s", everything])["stdout"], everything)
        error = w.call_error("no\u2028such\u2029method\n")
        check_equal(error["message"], "Unknown method: no\u2028such\u2029method\n")


@test
def a_session_that_is_cut_at_every_byte_gives_the_same_answers():
    session = (line('"ä\\u2028"') + line(7, "environmentValidateConfig",
               '{"driverKey":"fake-plugin","config":{"image":"a\u2028é\\ud83d\\ude00"}}') + "{bad\n").encode()
    with Worker() as w:
        def play(pieces):
            keys = [raw_id('"ä\\u2028"'.encode()), raw_id(7)]
            before = [len(w.answers.get(key, ())) for key in keys]
            for key in keys:
                w.expect(key)
            for piece in pieces:
                w.write(piece)
                w.until(lambda: not w.pending, "sent")
            got = [w.answer(key, nth) for key, nth in zip(keys, before)]
            return got[1:] + [w.parse_error()]

        want = play([session])
        check_equal(want[0]["result"]["normalizedConfig"]["image"], "a\u2028é\U0001f600")
        check_match(want[1]["message"], "Parse error: Invalid JSON: \\{bad")
        for cut in range(1, len(session)):
            check_equal(play([session[:cut], session[cut:]]), want, f"cut at {cut}")
        check_equal(play([session[i:i + 1] for i in range(len(session))]), want, "single bytes")


@test
def thousands_of_requests_in_one_write_are_all_answered():
    count = 20_000
    with Worker() as w:
        for i in range(count):
            w.expect(i + 1)
        w.write("".join(line(i + 1) for i in range(count)))
        w.until(lambda: len(w.answers) == count, f"{count} answers")
        w.next_id = count + 1
        check_equal(w.result(count)["status"], "ok")


@test
def an_unfinished_last_line_is_served_when_the_input_ends():
    with Worker() as w:
        w.expect(1)
        w.write(line(1).rstrip("\n"))
        w.close_stdin()
        w.wait_end()
        check_equal(w.answers[b"1"][0]["result"]["status"], "ok")


# --- ids ---


@test
def ids_of_any_type_are_echoed_byte_for_byte():
    ids = ["0", "-1", "1.5", "1e400", "-0", "1E5", "1.0", "9007199254740993", "123456789012345678901234567890", '""', '"a"', '"1"',
           '"\\u0041"', '"\\/"', '"ä"', '"\\ud83d\\ude00"', '"\\ud800"', '"\\u0000"', '"' + "x" * 10_000 + '"', "0.1e-7",
           '"a\\"b\\\\"']
    with Worker() as w:
        for text in ids:
            w.expect(text.encode())
            w.write(line(text))
        for text in ids:
            check_equal(w.result(text.encode())["status"], "ok", f"id {text[:40]}")


@test
def ids_that_json_rpc_does_not_know_are_echoed_too():
    # The reference takes any id but null for a request's.
    with Worker() as w:
        for text in ("true", "false", "[1]", '{"a":1}'):
            w.expect(text.encode())
            w.write(line(text))
        for text in ("true", "false", "[1]", '{"a":1}'):
            check_equal(w.result(text.encode())["status"], "ok", f"id {text}")


@test
def two_requests_with_the_same_id_get_an_answer_each():
    with Worker() as w:
        w.expect(1)
        w.expect(1)
        w.write(line(1) + line(1))
        check_equal(w.answer(1, 1)["result"]["status"], "ok")


@test
def the_last_of_duplicate_keys_counts():
    with Worker() as w:
        w.expect(2)
        w.write('{"jsonrpc":"1","id":1,"method":"x","id":2,"method":"health","jsonrpc":"2.0"}\n')
        check_equal(w.result(2)["status"], "ok")


@test
def keys_are_compared_after_unescaping():
    with Worker() as w:
        w.expect(1)
        w.write('{"json\\u0072pc":"2\\u002e0","\\u0069d":1,"meth\\u006fd":"he\\u0061lth"}\n')
        check_equal(w.result(1)["status"], "ok")


# --- lines that are no requests ---


@test
def a_line_that_is_no_json_is_answered_with_its_first_200_characters():
    with Worker() as w:
        for text in ("nonsense", "{", '{"a":}', "[1,2", '"', "{'a':1}", "\u00e4" * 300, "x" * 5000, "\U0001f600" * 150, "01", "NaN",
                     '{"a":1}}', '{"a":1} x', "tru", '"\x01"', "{\"a\":\"\\x\"}"):
            w.write(text + "\n")
            error = w.parse_error()
            check_equal(error["code"], -32700)
            start = "Parse error: Invalid JSON: "
            check(error["message"].startswith(start), error["message"])
            quoted = error["message"][len(start):]
            check(text.startswith(quoted) and len(quoted) >= min(len(text), 100), f"quote of {text[:50]!r}: {quoted!r}")
        check_equal(w.call("health")["status"], "ok")


@test
def json_that_is_no_object_is_a_parse_error():
    with Worker() as w:
        for text in ("null", "true", "5", '"text"', "1e400"):
            w.write(text + "\n")
            check_equal(w.parse_error(), {"code": -32700, "message": "Parse error: Message must be a JSON object"})


@test
def an_array_is_no_message_and_has_as_in_javascript_no_version():
    with Worker() as w:
        for text in ("[]", "[{}]", '[{"jsonrpc":"2.0","id":1,"method":"health"}]'):
            w.write(text + "\n")
            check_equal(w.parse_error(), {"code": -32700, "message":
                        'Parse error: Invalid or missing jsonrpc version (expected "2.0", got undefined)'})


@test
def a_wrong_jsonrpc_version_is_a_parse_error_that_names_it():
    with Worker() as w:
        for member, shown in (("", "undefined"), ('"jsonrpc":"1.0",', '"?1.0"?'), ('"jsonrpc":2,', "2"), ('"jsonrpc":null,', "null"),
                              ('"jsonrpc":true,', "true"), ('"jsonrpc":2.0,', "2"), ('"jsonrpc":"",', '("")?')):
            w.write(f'{{{member}"method":"health"}}\n')
            error = w.parse_error()
            check_equal(error["code"], -32700)
            check_match(error["message"],
                        rf'Parse error: Invalid or missing jsonrpc version \(expected "2\.0", got {shown}\)', member)


@test
def the_id_of_a_broken_line_is_salvaged_where_it_can_be_read():
    with Worker() as w:
        for text, key in (('{"jsonrpc":"2.0","id":41,"method":"health","params":{', b"41"),
                          ('{"jsonrpc":"2.0","id":"abc","params":nonsense}', b'"abc"'),
                          ('{"jsonrpc":"1.0","id":42,"method":"health"}', b"42"),
                          ('{"id":43,"method":"health"}', b"43")):
            w.expect(key)
            w.write(text + "\n")
            error = w.error(key)
            check_equal(error["code"], -32700, text)
            check(error["message"].startswith("Parse error: "), error["message"])


@test
def objects_that_are_neither_request_nor_response_are_ignored():
    with Worker() as w:
        for text in ('{"jsonrpc":"2.0"}', '{"jsonrpc":"2.0","id":null,"method":"health"}', '{"jsonrpc":"2.0","method":"onEvent","params":{}}',
                     '{"jsonrpc":"2.0","method":"agents.sessions.event"}', '{"jsonrpc":"2.0","method":"no such thing"}',
                     '{"jsonrpc":"2.0","id":77,"result":null}', '{"jsonrpc":"2.0","id":78,"error":{"code":1,"message":"x"}}',
                     '{"jsonrpc":"2.0","id":79}', '{"jsonrpc":"2.0","id":80,"method":5}', '{"jsonrpc":"2.0","id":"81","result":{},"error":{}}'):
            w.write(text + "\n")
        check_equal(w.call("health", id=99)["status"], "ok")
        check_equal(list(w.answers), [b"99"])


@test
def bytes_that_are_not_utf8_do_not_stop_the_worker():
    with Worker() as w:
        w.write(b"\xff\xfe{\n")
        check_equal(w.parse_error()["code"], -32700)
        w.expect(5)
        w.write(b'{"jsonrpc":"2.0","id":5,"method":"caf\xe9 \xf0\x9f\x98"}\n')
        check_equal(w.error(5)["message"], "Unknown method: caf\ufffd \ufffd")


@test
def nul_bytes_in_the_input_are_a_parse_error():
    with Worker() as w:
        w.write(b"\0\0\0\n")
        check_equal(w.parse_error()["code"], -32700)
        w.write(b'{"jsonrpc":"2.0",\0"method":"health"}\n')
        check_equal(w.parse_error()["code"], -32700)


@test
def random_lines_are_each_answered_or_ignored_and_never_fatal():
    random_source = random.Random(20260501)
    alphabet = ['{', '}', '[', ']', '"', ':', ',', '\\', 'u', '0', '1', 'e', '-', '.', ' ', 'true', 'null', '"jsonrpc"', '"2.0"', '"id"',
                '"method"', '"health"', '"params"', '\u2028', '\ud7ff', '\U0001f600', "\t"]
    with Worker() as w:
        for _ in range(3000):
            w.write("".join(random_source.choice(alphabet) for _ in range(random_source.randrange(1, 40))) + "\n")
        check_equal(w.call("health", id=4242)["status"], "ok")
        for message in w.unasked:
            check_equal(message["error"]["code"], -32700)
        check(len(w.unasked) > 2000, "most of the lines are nonsense and answered as such")
        w.unasked.clear()


# --- methods ---


@test
def initialize_answers_ok_with_the_supported_methods():
    with Worker() as w:
        answer = w.initialize()
        check_equal(answer["ok"], True)
        methods = answer["supportedMethods"]
        check_equal(len(methods), len(set(methods)), "no duplicates")
        for method in ("health", "environmentValidateConfig", "environmentProbe", "environmentAcquireLease",
                       "environmentResumeLease", "environmentReleaseLease", "environmentDestroyLease", "environmentRealizeWorkspace",
                       "environmentExecute", "environmentStartInteractiveSetup", "environmentGetInteractiveSetup",
                       "environmentCaptureTemplate", "environmentCancelInteractiveSetup", "environmentDeleteTemplate"):
            check(method in methods, f"{method} is listed")
        check("initialize" not in methods, "initialize is never listed")
        check_equal(("environmentSyncIn" in methods), ("environmentSyncOut" in methods), "sync both ways or not at all")
        check_equal(methods[0], "health")


@test
def what_is_listed_is_served_and_what_is_not_listed_says_so():
    with Worker() as w:
        methods = w.initialize()["supportedMethods"]
        optional = ["environmentSyncIn", "environmentSyncOut", "environmentRunnerIngressEndpoint", "loginPtyOpen", "loginPtyInput",
                    "loginPtyStop", "loginPtyClose", "duplexChannelOpen", "duplexChannelWrite", "duplexChannelStop",
                    "duplexChannelClose", "validateConfig", "onEvent", "runJob", "handleWebhook", "handleApiRequest", "getData",
                    "performAction", "executeTool", "detectExternalObjects", "resolveExternalObject", "refreshExternalObjects"]
        for method in optional:
            if method in methods:
                continue
            check_equal(w.call_error(method, {}), {"code": -32004, "message": f"{method} is not implemented by this plugin"})
            check_equal(w.call_error(method, w.base()), {"code": -32004, "message": f"{method} is not implemented by this plugin"})
        drivers = json.loads(subprocess.run([Build.path, "manifest"], check=True, stdout=subprocess.PIPE, env={}).stdout)["environmentDrivers"]
        for method in methods:
            codes = {}
            for driver in drivers:
                message = w.answer(w.send(method, {"driverKey": driver["driverKey"], "config": {}}))
                codes[driver["driverKey"]] = message.get("error", {}).get("code")
            check(any(code not in (-32601, -32004) for code in codes.values()), f"{method} is listed and served by some driver")
            if method in ("environmentSyncIn", "environmentSyncOut"):
                # The host uses native sync with each driver that does not say no to it.
                for driver in drivers:
                    refused = driver.get("sandboxCapabilities", {}).get(method.replace("environment", "native")) is False
                    check_equal(codes[driver["driverKey"]] == -32004, refused, f"{driver['driverKey']} declares whether it has {method}")


@test
def a_second_initialize_is_refused():
    with Worker() as w:
        w.initialize()
        check_equal(w.call_error("initialize", INITIALIZE), {"code": -32002, "message": "Worker already initialized"})
        check_equal(w.call("health")["status"], "ok")


@test
def requests_in_the_same_read_as_initialize_are_served():
    with Worker() as w:
        for i in (1, 2, 3):
            w.expect(i)
        w.write(line(1, "initialize", json.dumps(INITIALIZE)) + line(2) + line(3, "environmentValidateConfig",
                '{"driverKey":"fake-plugin","config":{}}'))
        check_equal(w.result(1)["ok"], True)
        check_equal(w.result(2)["status"], "ok")
        check_equal(w.result(3)["ok"], True)


@test
def an_unknown_method_is_named():
    with Worker() as w:
        for method in ("nope", "", "Health", "environmentExecuteX", "ä\U0001f600", "__proto__", "constructor", "x" * 3000):
            check_equal(w.call_error(method), {"code": -32601, "message": f"Unknown method: {method}"})


@test
def health_answers_at_once_with_details():
    with Worker() as w:
        hanging = w.send_execute("sleep", ["1000"])
        answer = w.call("health")
        check_equal(answer["status"], "ok")
        check(isinstance(answer.get("message"), str) and answer["message"], "a message for people")
        check(isinstance(answer.get("details"), dict) and answer["details"], "details for people")
        check_equal(answer["details"]["requestsInFlight"], 1)
        w.shutdown()
        check("error" in w.answer(hanging), "the hanging command was ended")


@test
def config_changed_is_accepted_for_several_companies():
    with Worker() as w:
        for company in ("c-1", "c-2", None, "c-1"):
            check_equal(w.call("configChanged", {"companyId": company, "config": {"a": company}}), None)


@test
def params_may_be_absent_null_or_of_a_wrong_type():
    with Worker() as w:
        for params in ("", ',"params":null', ',"params":[]', ',"params":5', ',"params":"x"', ',"params":{}'):
            w.expect(1)
            w.write(f'{{"jsonrpc":"2.0","id":1,"method":"health"{params}}}\n')
        w.until(lambda: len(w.answers.get(b"1", ())) == 6, "six answers")
        for params in ("", ',"params":null', ',"params":[]', ',"params":5'):
            w.expect(2)
            w.write(f'{{"jsonrpc":"2.0","id":2,"method":"environmentExecute"{params}}}\n')
        w.until(lambda: len(w.answers.get(b"2", ())) == 4, "four answers")
        for message in w.answers[b"2"]:
            check_equal(message["error"]["code"], -32002)


@test
def unknown_keys_are_ignored_everywhere():
    with Worker() as w:
        key = w.send("environmentExecute", {**w.execute_params("echo", ["hi"]), "nobody": {"knows": ["this"]}}, newInTheHost=True)
        check_equal(w.result(key)["stdout"], "hi\n")


@test
def requests_run_at_the_same_time_and_are_answered_as_they_end():
    with Worker() as w:
        first = w.send_sh("read line; echo got", stdin=None, lease={"providerLeaseId": "a"})
        w.result(first)
        fifo = os.path.join(w.temp, "fifo")
        os.mkfifo(fifo)
        waiting = w.send_execute("cat", [fifo])
        other = w.execute("echo", ["second"])
        check_equal(other["stdout"], "second\n")
        check(waiting not in w.answers, "the first is still running")
        with open(fifo, "w", encoding="ascii") as file:
            file.write("late")
        check_equal(w.result(waiting)["stdout"], "late")
        os.unlink(fifo)


@test
def live_output_carries_the_invocation_of_its_request():
    with Worker() as w:
        keys = [w.send_sh(f"echo out-{i}; echo err-{i} >&2; exec sleep 0.1") for i in range(20)]
        for i, key in enumerate(keys):
            result = w.result(key)
            check_equal(w.live_text(key), f"out-{i}\n")
            check_equal(w.live_text(key, "stderr"), f"err-{i}\n")
            check_equal((result["stdout"], result["stderr"]), (f"out-{i}\n", f"err-{i}\n"))


@test
def a_request_without_an_invocation_streams_nothing():
    with Worker() as w:
        params = w.execute_params("echo", ["quiet"])
        del params["companyId"]
        check_equal(w.call("environmentExecute", params)["stdout"], "quiet\n")
        check_equal(w.live, {})


@test
def an_invocation_of_odd_shape_does_no_harm():
    with Worker() as w:
        for invocation in ("null", "5", "[]", "{}", '{"id":5}', '{"id":""}', '{"id":"x","scope":null}', '{"id":"\\u0000"}',
                           '{"id":"\\ud800"}'):
            params = json.dumps(w.execute_params("echo", ["x"]))
            w.expect(1)
            w.write(f'{{"jsonrpc":"2.0","id":1,"method":"environmentExecute","params":{params},"paperclipInvocation":{invocation}}}\n')
        w.until(lambda: len(w.answers.get(b"1", ())) == 9, "all answered")
        for message in w.answers[b"1"]:
            check_equal(message["result"]["stdout"], "x\n")


@test
def log_lines_are_notifications_with_level_and_message():
    with Worker() as w:
        w.initialize()
        w.call("health")
        texts = [note["params"]["message"] for note in w.notes]
        check("Fake sandbox provider plugin ready" in texts, f"the driver's line is among {texts}")


@test
def stdout_carries_the_protocol_alone():
    # A child that writes to the worker's own descriptor 1 must not find the channel there.
    with Worker() as w:
        w.call("health")
        target = os.readlink(f"/proc/{w.pid}/fd/1")
        channel = os.fstat(w.out_end)
        stdout = os.stat(f"/proc/{w.pid}/fd/1")
        peers = [os.readlink(f"/proc/{w.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{w.pid}/fd")]
        check(channel.st_ino != stdout.st_ino, "not our own end")
        check(target == os.readlink(f"/proc/{w.pid}/fd/2"), f"descriptor 1 is stderr now, not {target} of {peers}")
        listing = w.sh("ls -l /proc/self/fd")["stdout"]
        for fd in os.listdir(f"/proc/{w.pid}/fd"):
            name = os.readlink(f"/proc/{w.pid}/fd/{fd}")
            if name.startswith("socket:"):
                check(name not in listing, f"a command inherits {name} of the worker:\n{listing}")


@test
def an_invocation_id_stays_with_its_own_request():
    with Worker() as w:
        mine = str(uuid.uuid4())
        key = w.send("environmentExecute", w.execute_params("echo", ["hi"]), invocation=mine)
        other = w.send_execute("echo", ["other"])
        w.result(key)
        w.result(other)
        check_equal("".join(w.live[mine]["stdout"]), "hi\n")
        check_equal(COMPANY, w.base()["companyId"])


if __name__ == "__main__":
    main()
