#!/usr/bin/python3
"""What cannot be served has a defined answer on its own id, and the worker goes on."""

import json
import re

from harness import Build, Skip, Worker, check, check_equal, check_match, main, raw_id, shorten, test

ENVIRONMENT_METHODS = ["environmentProbe", "environmentAcquireLease", "environmentResumeLease", "environmentReleaseLease",
                       "environmentDestroyLease", "environmentRealizeWorkspace", "environmentExecute",
                       "environmentStartInteractiveSetup", "environmentGetInteractiveSetup", "environmentCaptureTemplate",
                       "environmentCancelInteractiveSetup", "environmentDeleteTemplate"]
ALL_METHODS = ["environmentValidateConfig", *ENVIRONMENT_METHODS]


def still_works(w):
    check_equal(w.execute("echo", ["fine"])["stdout"], "fine\n")


def clear_error(w, method, params, *patterns):
    error = w.call_error(method, params)
    check_equal(error["code"], -32002, f"{method} {shorten(params, 200)}")
    for pattern in patterns:
        check(re.search(pattern, error["message"]), f"{method}: {error['message']!r} says {pattern}")


@test
def an_unknown_driver_is_named():
    with Worker() as w:
        for method in ALL_METHODS:
            for driver in ("nobody", "", "Fake-Plugin", "fake-plugin ", "constructor", "\u2028"):
                clear_error(w, method, {**w.base(driver=driver)}, "driver", re.escape(driver))
        still_works(w)


@test
def a_driver_key_that_is_missing_or_no_string_is_an_error():
    with Worker() as w:
        for method in ALL_METHODS:
            for key in (None, 5, True, [], {}, ["fake-plugin"]):
                clear_error(w, method, {**w.base(), "driverKey": key}, "driverKey")
            params = w.base()
            del params["driverKey"]
            clear_error(w, method, params, "driverKey")
        still_works(w)


@test
def params_that_are_no_object_are_an_error():
    with Worker() as w:
        for method in ALL_METHODS:
            for params in ([], 5, "x", True, [w.base()]):
                clear_error(w, method, params)
            for params in ("", ',"params":null'):
                w.expect(b'"none"')
                w.write(f'{{"jsonrpc":"2.0","id":"none","method":"{method}"{params}}}\n')
        w.until(lambda: len(w.answers.get(b'"none"', ())) == 2 * len(ALL_METHODS), "all answered")
        for message in w.answers[b'"none"']:
            check_equal(message["error"]["code"], -32002)
        still_works(w)


@test
def a_config_that_is_no_object_is_an_error():
    with Worker() as w:
        for method in ALL_METHODS:
            for config in ([], 5, "x", True):
                clear_error(w, method, {**w.base(), "config": config}, "config")
        still_works(w)


@test
def a_config_that_is_absent_or_null_is_an_empty_one():
    with Worker() as w:
        for params in ({"driverKey": "fake-plugin"}, {"driverKey": "fake-plugin", "config": None}):
            check_equal(w.call("environmentValidateConfig", params)["normalizedConfig"]["image"], "fake:latest")
            check_equal(w.call("environmentProbe", {**w.base(), **params})["ok"], True)


@test
def each_param_of_a_wrong_type_is_named():
    with Worker() as w:
        for method, name, values in (
                ("environmentAcquireLease", "runId", [5, True, [], {}]),
                ("environmentAcquireLease", "environmentId", [5, {}]),
                ("environmentAcquireLease", "companyId", [5, []]),
                ("environmentAcquireLease", "requestedExpiresAt", [5, "tomorrow", "2026-13-45T99:99:99Z", ""]),
                ("environmentResumeLease", "providerLeaseId", [5, {}, ["x"]]),
                ("environmentResumeLease", "leaseMetadata", [5, "x", []]),
                ("environmentReleaseLease", "providerLeaseId", [5, {}]),
                ("environmentDestroyLease", "providerLeaseId", [5, {}]),
                ("environmentRealizeWorkspace", "lease", [5, "x", []]),
                ("environmentRealizeWorkspace", "workspace", [5, "x", []]),
                ("environmentExecute", "lease", [5, "x", []]),
                ("environmentExecute", "command", [5, {}, [], None]),
                ("environmentExecute", "args", [5, "x", {}]),
                ("environmentExecute", "env", [5, "x", []]),
                ("environmentExecute", "stdin", [5, {}, []]),
                ("environmentExecute", "cwd", [5, {}, []]),
                ("environmentStartInteractiveSetup", "sessionId", [5, {}]),
                ("environmentGetInteractiveSetup", "providerLeaseId", [5, {}]),
                ("environmentDeleteTemplate", "templateRef", [5, {}])):
            for value in values:
                params = {**w.execute_params("true"), "runId": "r", "sessionId": "s", "providerLeaseId": "l", "workspace": {}, "config": {},
                          name: value}
                if name == "companyId":
                    error = w.error(w.send(method, params, invocation="some-invocation"))
                    check_equal(error["code"], -32002)
                else:
                    clear_error(w, method, params, name)
        still_works(w)


@test
def a_name_that_is_needed_and_missing_is_asked_for():
    with Worker() as w:
        clear_error(w, "environmentAcquireLease", w.base(), "runId")
        params = {**w.base(config={"reuseLease": True}), "runId": "r"}
        del params["environmentId"]
        clear_error(w, "environmentAcquireLease", params, "environmentId")
        clear_error(w, "environmentResumeLease", w.base(), "providerLeaseId")
        clear_error(w, "environmentStartInteractiveSetup", w.base(), "sessionId")
        clear_error(w, "environmentExecute", w.base(), "command")
        still_works(w)


@test
def a_timeout_of_a_wrong_type_counts_as_absent():
    with Worker() as w:
        for value in ("500", True, [], {}, None):
            check_equal(w.execute("echo", ["hi"], timeoutMs=value)["stdout"], "hi\n")


# --- JavaScript's JSON ---


def execute_line(w, key, **members):
    """A request whose members are given as JSON text."""
    params = {name: json.dumps(value) for name, value in w.execute_params("cat").items()}
    params.update(members)
    w.expect(key)
    w.write('{"jsonrpc":"2.0","id":%d,"method":"environmentExecute","params":{%s}}\n'
            % (key, ",".join(f'"{name}":{value}' for name, value in params.items())))
    return key


@test
def ten_thousand_levels_of_nesting_are_answered_on_their_id():
    depth = 10_000
    with Worker() as w:
        for key, deep in ((1, "[" * depth + "]" * depth), (2, '{"a":' * depth + "1" + "}" * depth), (3, '[{"x":' * depth + "[]" + "}]" * depth)):
            for place in ("params", "params-member", "top"):
                w.expect(key)
                params = json.dumps(w.execute_params("true"))[:-1]
                if place == "params":
                    w.write(f'{{"jsonrpc":"2.0","id":{key},"method":"environmentExecute","params":{deep}}}\n')
                elif place == "params-member":
                    w.write(f'{{"jsonrpc":"2.0","id":{key},"method":"environmentExecute","params":{params},"deep":{deep}}}}}\n')
                else:
                    w.write(f'{{"jsonrpc":"2.0","id":{key},"method":"health","deep":{deep}}}\n')
            check_equal(w.answer(key, 2)["result"]["status"], "ok", "nesting in what nobody reads")
            check("error" in w.answer(key, 0), "params of the wrong shape")
        still_works(w)


@test
def a_million_levels_of_nesting_are_answered():
    depth = 1_000_000
    with Worker() as w:
        w.write("[" * depth + "\n")
        check_match(w.parse_error()["message"], r"Parse error: Invalid JSON: \[+")
        w.write("[" * depth + "]" * depth + "\n")
        check_equal(w.parse_error()["code"], -32700)
        w.write('{"a":' * depth + "\n")
        check_equal(w.parse_error()["code"], -32700)
        w.expect(7)
        w.write('{"jsonrpc":"2.0","id":7,"method":"health","params":' + '{"a":' * depth + "1" + "}" * depth + "}\n")
        w.answer(7)
        still_works(w)


@test
def a_hundred_megabytes_of_stdin_reach_the_command():
    size = 100 * 1024 * 1024
    with Worker() as w:
        check_equal(w.execute("wc", ["-c"], stdin="x" * size)["stdout"].strip(), str(size))
        still_works(w)


@test
def thirty_megabytes_go_in_and_come_back_unharmed():
    text = "".join(f"{i:07d} ä\u2028\"\\\n" for i in range(1_500_000))
    with Worker() as w:
        check(w.execute("cat", stdin=text)["stdout"] == text, "the same text")


@test
def a_method_or_id_of_megabytes_is_answered():
    long = "x" * 5_000_000
    with Worker() as w:
        check_equal(w.call_error(long)["code"], -32601)
        w.expect(long)
        w.write(f'{{"jsonrpc":"2.0","id":"{long}","method":"health"}}\n')
        check_equal(w.result(long)["status"], "ok")
        still_works(w)


@test
def a_line_above_the_ceiling_is_refused_on_its_id_and_the_next_one_is_served():
    if Build.sanitized:
        raise Skip("too slow with sanitizers")
    with Worker() as w:
        w.expect(1)
        w.write('{"jsonrpc":"2.0","id":1,"method":"environmentExecute","params":{"stdin":"')
        chunk = "x" * (16 * 1024 * 1024)
        for _ in range(20):
            w.write(chunk)
            w.until(lambda: not w.pending, "sent")
        w.write('"}}\n')
        error = w.error(1)
        check_equal(error["code"], -32700)
        check("line" in error["message"], error["message"])
        still_works(w)


@test
def lone_surrogates_become_replacement_characters():
    with Worker() as w:
        for text, want in (('"a\\ud800b"', "a\ufffdb"), ('"\\udc00"', "\ufffd"), ('"\\ud83d\\ude00"', "\U0001f600"),
                           ('"\\ud83d\\ud83d\\ude00"', "\ufffd\U0001f600"), ('"\\uDBFF\\uDFFF"', "\U0010ffff"), ('"\\ud800\\u0041"', "\ufffdA")):
            key = execute_line(w, w.next_id, stdin=text)
            w.next_id += 1
            check_equal(w.result(key)["stdout"], want, text)


@test
def nul_characters_pass_through_stdin_and_stdout():
    with Worker() as w:
        key = execute_line(w, 1, stdin='"a\\u0000b\\u0000"')
        check_equal(w.result(key)["stdout"], "a\0b\0")


@test
def numbers_beyond_doubles_and_64_bits_are_taken():
    with Worker() as w:
        for number in ("1e400", "-1e400", "123456789012345678901234567890", "1e-400", "0.1e1", "-0", "2E5"):
            key = execute_line(w, w.next_id, timeoutMs=number if number not in ("1e-400", "0.1e1") else "1e4", stdin='"x"',
                               unknown=number, config=f'{{"timeoutMs":{number},"n":{number}}}')
            w.next_id += 1
            check_equal(w.result(key)["stdout"], "x", number)
        w.expect(900)
        w.write('{"jsonrpc":"2.0","id":900,"method":"environmentValidateConfig","params":{"driverKey":"fake-plugin","config":'
                '{"timeoutMs":1e400}}}\n')
        check_equal(w.result(900)["ok"], True)


@test
def the_last_of_duplicate_params_counts():
    with Worker() as w:
        w.expect(1)
        w.write('{"jsonrpc":"2.0","id":1,"method":"environmentExecute","params":{"driverKey":"x","command":"false","command":"printf",'
                '"args":["no"],"driverKey":"fake-plugin","args":["%s","yes"],"env":{"A":"1","A":"2"}}}\n')
        check_equal(w.result(1)["stdout"], "yes")


@test
def escaped_and_odd_keys_are_understood():
    with Worker() as w:
        w.expect(1)
        w.write('{"jsonrpc":"2.0","id":1,"method":"environmentExecute","params":{"driver\\u004bey":"fake-plugin","\\u0063ommand":"echo",'
                '"args":["x"],"":0,"\\u0000":1,"\\ud800":2,"__proto__":{"command":"false"}}}\n')
        check_equal(w.result(1)["stdout"], "x\n")


@test
def thousands_of_arguments_and_variables_pass():
    with Worker() as w:
        args = [f"argument-{i}" for i in range(10_000)]
        check_equal(w.execute("sh", ["-c", 'echo $#', "sh", *args])["stdout"], "10000\n")
        env = {f"VARIABLE_{i}": "v" * 20 for i in range(5000)}
        check_equal(len(w.execute("env", env=env)["stdout"].splitlines()), 5001)
        error = w.call_error("environmentExecute", w.execute_params("echo", ["y" * 100_000] * 100))
        check_equal(error["message"], "spawn E2BIG")
        still_works(w)


@test
def a_request_that_is_cut_off_by_the_end_of_input_is_a_parse_error():
    with Worker() as w:
        w.expect(3)
        w.write('{"jsonrpc":"2.0","id":3,"method":"health","par')
        w.close_stdin()
        w.wait_end()
        check_equal(w.answers[raw_id(3)][0]["error"]["code"], -32700)


@test
def an_error_text_repeats_no_environment_values_or_stdin():
    with Worker() as w:
        secret = "s3cret-value-of-the-test"
        for params in (w.execute_params("no-such-command", env={"TOKEN": secret}, stdin=secret),
                       {**w.execute_params("x"), "env": {"TOKEN": secret}, "args": 5, "stdin": secret},
                       w.execute_params("x", config={"apiKey": secret}, cwd="/nonexistent")):
            check(secret not in json.dumps(w.call_error("environmentExecute", params)), "no secret in the error")
        check(secret not in json.dumps(w.notes), "no secret in the log")


if __name__ == "__main__":
    main()
