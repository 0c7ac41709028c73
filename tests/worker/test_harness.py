#!/usr/bin/python3
"""The harness itself: a worker that does wrong must not get through."""

import os
import stat
import sys
import textwrap

import harness
from harness import Failure, Worker, check, main, remove_dir, temp_dir, test

WORKER = '''\
    #!{python}
    import json, os, subprocess, sys
    fault = {fault!r}
    def put(text):
        sys.stdout.buffer.write(text.encode() if isinstance(text, str) else text)
        sys.stdout.buffer.flush()
    def answer(message, result):
        return '{{"jsonrpc":"2.0","id":%s,"result":%s}}\\n' % (json.dumps(message["id"]), json.dumps(result))
    def live(message, chunk):
        return json.dumps({{"jsonrpc": "2.0", "method": "execute.log", "params": {{"stream": "stdout", "chunk": chunk}},
                           "paperclipInvocationId": message["paperclipInvocation"]["id"]}}) + "\\n"
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if message["method"] == "shutdown":
            put(answer(message, None))
            break
        if message["method"] == "environmentExecute":
            put(live(message, "" if fault == "empty chunk" else "other" if fault == "no prefix" else "out"))
            put(answer(message, {{"stdout": "output", "stderr": ""}}))
            if fault == "live after answer":
                put(live(message, "put"))
            continue
        if fault != "no answer":
            put(answer(message, {{"status": "ok"}}))
        if fault == "two answers":
            put(answer(message, {{"status": "ok"}}))
        if fault == "answer without a question":
            put('{{"jsonrpc":"2.0","id":77,"result":null}}\\n')
        if fault == "raw separator":
            put('{{"jsonrpc":"2.0","method":"log","params":{{"level":"info","message":"a\\u2028b"}}}}\\n')
        if fault == "no utf-8":
            put(b'{{"jsonrpc":"2.0","method":"log","params":{{"level":"info","message":"\\xff"}}}}\\n')
        if fault == "stray print":
            put("hello\\n")
        if fault == "half a line":
            put('{{"jsonrpc"')
        if fault == "stderr":
            print("warning", file=sys.stderr)
        if fault == "process left":
            subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             start_new_session=True)
        if fault == "file left":
            open(os.environ["TMPDIR"] + "/file", "w").close()
        if fault == "sanitizer":
            print("ERROR: LeakSanitizer: detected memory leaks", file=sys.stderr)
    if fault == "exit status":
        sys.exit(3)
    '''


def session_with(fault):
    directory = temp_dir()
    try:
        path = os.path.join(directory, "worker")
        with open(path, "w", encoding="utf-8") as file:
            file.write(textwrap.dedent(WORKER).format(python=sys.executable, fault=fault))
        os.chmod(path, stat.S_IRWXU)
        with Worker(binary=path, stderr_ok=fault == "sanitizer") as w:
            if fault == "no answer":
                w.send("health")
            else:
                w.call("health")
            w.execute("true")
    finally:
        remove_dir(directory)


@test
def a_worker_without_a_fault_passes():
    session_with(None)


FAULTS = {
    "two answers": "was asked 1 times and answered 2 times", "no answer": "answers to id", "answer without a question": "was asked 0 times",
    "raw separator": "line reader would break", "no utf-8": "not a JSON line", "stray print": "not a JSON line", "half a line": "not a JSON line",
    "stderr": "stderr is not quiet", "process left": "no process is left", "file left": "left in the temporary directory",
    "sanitizer": "sanitizer report", "exit status": "exit status", "empty chunk": "chunk of execute.log", "no prefix": "is no prefix",
    "live after answer": "execute.log after the answer"}


def notices(fault, text):
    def run():
        harness.LEFT_LIMIT_S = 1  # what is left here will not go by itself
        try:
            session_with(fault)
        except Failure as failure:
            check(text in str(failure), f"noticed as something else: {failure}")
            return
        check(False, "nothing was noticed")

    run.__name__ = "notices_" + fault.replace(" ", "_").replace("-", "_")
    test(run)


for name, words in FAULTS.items():
    notices(name, words)


if __name__ == "__main__":
    main()
