#!/usr/bin/python3
"""wire: cloudflare, The event stream: every rule of it, cut and split anywhere."""

import json

from driver import result, session
from harness import check, check_equal, main, test

UNFINISHED = "Cloudflare sandbox bridge streaming response ended without a completion event."
DONE = {"exitCode": 3, "signal": None, "timedOut": False, "stdout": "hé😀\n", "stderr": "oops\n"}
COMPLETE = f"event: complete\ndata: {json.dumps(DONE)}\n\n"
WHOLE = f'event: stdout\ndata: {{"data":"hé😀\\n"}}\n\n: keepalive\n\nevent: stderr\ndata: {{"data":"oops\\n"}}\n\n{COMPLETE}'


def event(name, value):
    return f"event: {name}\ndata: {value if isinstance(value, str) else json.dumps(value)}\n\n"


def check_result(s, text, want, what):
    answer = s.stream(text)
    check_equal(answer.get("result", answer), want, what)


@test
def each_rule_of_the_format_holds():
    split = json.dumps(DONE, indent=1).replace("\n", "\ndata: ")
    cases = {
        "as recorded": WHOLE, "with CRLF": WHOLE.replace("\n", "\r\n"), "with a byte order mark": "\ufeff" + WHOLE,
        "with a lone CR": WHOLE.replace("\n", "\r"), "JSON over several lines": f"event: complete\ndata: {split}\n\n",
        "data before event": f"data: {json.dumps(DONE)}\nevent: complete\n\n", "the last name counts": f"event: error\nevent: complete\ndata: {json.dumps(DONE)}\n\n",
        "blanks around": f"event:  complete \t\ndata:  {json.dumps(DONE)}\n\n", "no blanks": f"event:complete\ndata:{json.dumps(DONE)}\n\n",
        "other fields": f"id: 1\nretry: 5\n event: error\nnonsense\n{COMPLETE}", "events of other names": event("ping", {}) + "data: {}\n\n" + COMPLETE,
        "events without data": "event: error\n\nevent: complete\n\n\n\n" + COMPLETE, "no line end at the end": COMPLETE.rstrip("\n"),
        "one line end at the end": COMPLETE[:-1], "pieces that are empty or no text": event("stdout", {"data": ""}) + event("stderr", {"data": 5}) + COMPLETE,
        "pieces that are no JSON": event("stdout", "{oops") + event("stderr", "null") + event("stdout", "[]") + COMPLETE,
        "an error after the completion": COMPLETE + event("error", {"error": "late"}), "nonsense after the completion": COMPLETE + event("complete", "null") + "\0",
    }
    with session() as s:
        for what, text in cases.items():
            check_result(s, text, DONE, what)


@test
def each_end_without_a_completion_is_an_error_in_its_words():
    failed = "Cloudflare sandbox bridge streaming command failed."
    cases = {"": UNFINISHED, event("stdout", {"data": "x"}): UNFINISHED, event("complete", "null"): UNFINISHED, "event: complete\n\n": UNFINISHED,
             event("error", {"error": " no luck "}): " no luck ", event("error", {"error": " "}): failed, event("error", {}): failed,
             event("error", "oops"): failed, event("error", {"error": "first"}) + COMPLETE: "first"}
    with session() as s:
        for text, message in cases.items():
            check_equal(s.stream(text)["error"], {"code": -32002, "message": message}, text)
        for text in (event("complete", "{oops"), event("complete", "[]"), event("complete", {}), event("complete", "5")):
            check("makes no sense" in s.stream(text)["error"]["message"], text)
        s.e.fault(path="/exec", status=200, reply="<html>Log in</html>")
        check_equal(s.w.error(s.send_execute("x", "true"))["message"], UNFINISHED, "a page")


@test
def bytes_that_are_no_text_are_repaired():
    with session() as s:
        check_result(s, b'event: complete\ndata: {"exitCode":0,"signal":null,"timedOut":false,"stdout":"a\xff\xe2\x82z","stderr":""}\n\n',
                     result(0, "a\ufffd\ufffdz"), "invalid UTF-8")
        check_result(s, event("complete", '{"exitCode":0,"signal":null,"timedOut":false,"stdout":"\\ud83d\\u0000","stderr":""}'),
                     result(0, "\ufffd\0"), "a lone surrogate and a NUL")


@test
def pieces_are_a_prefix_of_the_result_and_the_result_has_the_last_word():
    with session() as s:
        text = event("stdout", {"data": "hé"}) + COMPLETE
        s.e.fault(path="/exec", status=200, reply=text, headers={"Content-Type": "text/event-stream"})
        key = s.send_execute("pc-1", "true")
        check_equal(s.w.result(key), DONE, "the service lost the last pieces")
        check_equal(s.w.live_text(key), "hé😀\n")


@test
def a_stream_cut_into_pieces_of_any_size_gives_the_same():
    with session() as s:
        lease = s.acquire()
        for size in (1, 2, 3, 5, 7, 11, 64):
            s.e.behave(split=size, keepalive=True)
            check_equal(s.execute(lease, "sh", ["-c", "printf 'hé😀\\n'; echo oops >&2; exit 3"]), DONE, f"pieces of {size} bytes")


@test
def a_stream_that_breaks_off_anywhere_is_an_error_unless_all_was_said():
    with session() as s:
        lease = s.acquire()
        script = "printf 'hé😀\\n'; exit 3"
        want = {**DONE, "stderr": ""}
        length = len((event("stdout", '{"data":"hé😀\\n"}') + event("complete", json.dumps(want, ensure_ascii=False, separators=(",", ":")))).encode())
        keys = {}
        for at in range(0, length + 1, 3):
            for way in ("truncate", "dropStream"):
                s.e.fault(path="/exec", body=f'"{way}-{at}"', **{way: at})
                keys[way, at] = s.send_execute(lease, "sh", ["-c", script, f"{way}-{at}"])
        for (way, at), key in keys.items():
            answer = s.w.answer(key)
            if at >= length:
                check_equal(answer["result"], want, f"{way} at {at} of {length}")
            elif at < length - 2:
                check("error" in answer and "127.0.0.1" in answer["error"]["message"], f"{way} at {at} of {length}: {answer}")


@test
def the_completion_ends_the_call_though_the_stream_goes_on():
    with session() as s:
        lease = s.acquire()
        s.e.fault(path="/exec", stallBody=100_000, times=None)
        check_equal(s.execute(lease, "sh", ["-c", "printf 'hé😀\\n'; echo oops >&2; exit 3"]), DONE)
        s.e.clear_faults()


@test
def the_end_of_the_worker_closes_the_stream():
    with session() as s:
        lease = s.acquire()
        key = s.send_execute(lease, "sh", ["-c", "echo x; sleep 100000"])
        s.w.until(lambda: s.w.live_text(key) == "x\n", "it runs")
        check_equal(s.w.shutdown(), 0)
        check("error" in s.w.answer(key), "no result")


main()
