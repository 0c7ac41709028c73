#!/usr/bin/python3
"""Recorded sessions (tests/data/transcripts, made by record_transcripts.py) are played again, and must go as they went.

A line that came in is sent when the answers recorded before it have come. Answers are compared by id. What differs from run to run
(UUIDs, directories, times) is compared by its place: a recorded value stands for the value that was found in its stead, also in
later requests. Live output is compared as the harness compares it for every session: as a prefix of the final text.
"""

import glob
import json
import os
import re

from harness import Failure, Worker, check, check_equal, main, raw_id, temp_dir, remove_dir, test, TESTS

HERE = os.path.dirname(os.path.abspath(__file__))
TRANSCRIPTS = os.path.join(HERE, "..", "data", "transcripts")

VOLATILE = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|(?:/[^/\"'\n]*)*/paperclip-fake-sandbox-[A-Za-z0-9]{6}\b"
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
# Of the process, not of the session.
VOLATILE_KEYS = {"details", "durationMs"}
# A later worker may offer more.
GROWING_KEYS = {"supportedMethods"}


class Replay:
    def __init__(self, worker):
        self.worker = worker
        self.found = {}  # recorded text -> present text
        self.seen = {}

    def translate(self, text):
        for recorded, present in self.found.items():
            text = text.replace(recorded, present)
        return text

    def send(self, entry):
        if "raw" in entry:
            self.worker.write(entry["raw"] + "\n")
            return
        message = json.loads(self.translate(json.dumps(entry["line"], ensure_ascii=False)))
        if isinstance(message, dict) and isinstance(message.get("method"), str) and message.get("id") is not None:
            self.worker.expect(message["id"])
            invocation = (message.get("paperclipInvocation") or {}).get("id")
            if invocation:
                self.worker.invocation_of[raw_id(message["id"])] = invocation
        self.worker.write_line(message)

    def compare(self, got, want, where):
        if isinstance(want, dict) and isinstance(got, dict):
            check_equal(list(got), list(want), f"members of {where}")
            for key, value in want.items():
                if key in GROWING_KEYS:
                    check(set(value) <= set(got[key]), f"{where}.{key} lacks something of {value}")
                elif key not in VOLATILE_KEYS:
                    self.compare(got[key], value, f"{where}.{key}")
        elif isinstance(want, list) and isinstance(got, list):
            check_equal(len(got), len(want), f"length of {where}")
            for i, (one, other) in enumerate(zip(got, want)):
                self.compare(one, other, f"{where}[{i}]")
        elif isinstance(want, str) and isinstance(got, str):
            self.compare_text(got, want, where)
        else:
            check_equal(got, want, where)

    def compare_text(self, got, want, where):
        check_equal(VOLATILE.sub("<>", got), VOLATILE.sub("<>", want), where)
        for present, recorded in zip(VOLATILE.findall(got), VOLATILE.findall(want)):
            if recorded != present:
                self.found.setdefault(recorded, present)

    def receive(self, want):
        if want.get("id") is None:
            check_equal(self.worker.parse_error(), want["error"], "answer with id null")
            return
        key = raw_id(want["id"])
        nth = self.seen.get(key, 0)
        self.seen[key] = nth + 1
        self.compare(self.worker.answer(key, nth), want, f"answer to {key.decode()}")


def is_answer(entry):
    return entry["dir"] == "out" and isinstance(entry.get("line"), dict) and "method" not in entry["line"]


def play(path):
    with open(path, encoding="utf-8") as file:
        entries = [json.loads(line) for line in file]
    check(any(is_answer(entry) for entry in entries), "a session with answers")
    temp = temp_dir()
    try:
        with Worker(temp=temp) as w:
            replay = Replay(w)
            for entry in entries:
                if entry["dir"] == "in":
                    replay.send(entry)
                elif is_answer(entry):
                    replay.receive(entry["line"])
            w.close_stdin()
            w.wait_end()
        check_equal(os.listdir(temp), [], "left in the temporary directory")
    finally:
        remove_dir(temp)


def add_test(path):
    def run():
        play(path)

    run.__name__ = "replays_" + re.sub(r"\W", "_", os.path.basename(path).removesuffix(".ndjson"))
    test(run)


@test
def a_transcript_that_went_otherwise_is_noticed():
    with Worker() as w:
        replay = Replay(w)
        replay.send({"dir": "in", "line": {"jsonrpc": "2.0", "id": 1, "method": "nope"}})
        try:
            replay.receive({"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "Unknown method: other"}})
        except Failure:
            return
        check(False, "another answer was not noticed")


for transcript in sorted(glob.glob(os.path.join(TRANSCRIPTS, "*.ndjson"))):
    add_test(transcript)


@test
def there_are_transcripts():
    check(len(TESTS) > 5, f"no recorded sessions in {TRANSCRIPTS}")


if __name__ == "__main__":
    main()
