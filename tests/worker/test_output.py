#!/usr/bin/python3
"""What commands print, on its way to the host: whole, live, bounded, and never in the way."""

import contextlib
import os
import random
import re
import time

from harness import Build, Skip, Worker, check, check_equal, is_alive, main, processes_with, raw_id, temp_dir, remove_dir, test, unique, wait_until

MEGABYTE = 1024 * 1024


def write_file(path, data):
    with open(path, "wb") as file:
        file.write(data)
    return path


class Inputs:
    """Files that commands print."""

    def __enter__(self):
        self.path = temp_dir()
        return self

    def __exit__(self, *_):
        remove_dir(self.path)

    def file(self, name, data):
        return write_file(os.path.join(self.path, name), data)


def settled(w, sample, times=20):
    """True once the sample is the same for some 20 looks at it, 50 ms apart: whatever can move has moved."""
    history = []

    def same():
        history.append(sample())
        return len(history) > times and len(set(history[-times:])) == 1

    wait_until(lambda: same() or _pause(), "everything stands still")


def _pause():
    time.sleep(0.05)
    return False


# --- live ---


@test
def live_output_comes_while_the_command_runs():
    with Worker() as w:
        fifo = os.path.join(w.temp, "fifo")
        os.mkfifo(fifo)
        key = w.send_sh(f"echo first; echo oops >&2; read x < '{fifo}'; echo second $x")
        w.until(lambda: w.live_text(key) == "first\n" and w.live_text(key, "stderr") == "oops\n", "the first lines, live")
        check(key not in w.answers, "the command still runs")
        write_file(fifo, b"go\n")
        check_equal(w.result(key)["stdout"], "first\nsecond go\n")
        os.unlink(fifo)


@test
def a_prompt_without_a_line_end_comes_live_too():
    with Worker() as w:
        fifo = os.path.join(w.temp, "fifo")
        os.mkfifo(fifo)
        key = w.send_sh(f"printf 'password: '; read x < '{fifo}'")
        w.until(lambda: w.live_text(key) == "password: ", "the prompt")
        write_file(fifo, b"\n")
        w.result(key)
        os.unlink(fifo)


@test
def half_a_character_is_held_back_until_its_rest_comes():
    with Worker() as w:
        fifo = os.path.join(w.temp, "fifo")
        os.mkfifo(fifo)
        key = w.send_sh(f"printf 'a\\360\\237'; echo err >&2; read x < '{fifo}'; printf '\\230\\200b'")
        w.until(lambda: w.live_text(key, "stderr") == "err\n" and w.live_text(key), "live output")
        check_equal(w.live_text(key), "a")
        write_file(fifo, b"\n")
        check_equal(w.result(key)["stdout"], "a\U0001f600b")
        check_equal(w.live_text(key), "a\U0001f600b")
        os.unlink(fifo)


@test
def random_bytes_in_random_pieces_become_the_text_that_a_decoder_makes_of_the_whole():
    random_source = random.Random(7)
    pieces = [b"\xf0\x9f\x98\x80", "ä€\u2028\u2029".encode(), b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xf4\x90", b"\x80", b"\xff", b"abc\n", b"\0",
              b"\xef\xbb\xbf", b"\xc0\xaf", b"\xf0\x80\x80\x80", b"\x1b[0m", b"\r\n"]
    with Inputs() as inputs, Worker() as w:
        for round_number in range(6):
            if round_number % 2:
                data = bytes(random_source.randrange(256) for _ in range(60_000))
            else:
                data = b"".join(random_source.choice(pieces) for _ in range(20_000))
            path = inputs.file(f"data{round_number}", data)
            # dd's odd block sizes cut characters everywhere.
            key = w.send_execute("dd", [f"if={path}", f"bs={random_source.choice([1, 3, 7, 61, 1021, 65537])}", "status=none"])
            result = w.result(key)
            check_equal(result["stdout"] == data.decode("utf-8", "replace"), True, f"round {round_number}")
            check_equal(w.live_text(key), result["stdout"], "live text")  # nothing was cut: all of it is sent


@test
def tiny_writes_are_gathered_into_few_notifications():
    with Inputs() as inputs, Worker() as w:
        path = inputs.file("data", b"x" * 40_000)
        key = w.send_execute("dd", [f"if={path}", "bs=1", "status=none"])
        check_equal(w.result(key)["stdout"], "x" * 40_000)
        chunks = w.live[w.invocation_of[key]]["stdout"]
        check(len(chunks) < 20_000, f"{len(chunks)} notifications for 40000 writes")


@test
def both_streams_keep_their_own_order():
    with Worker() as w:
        result = w.sh("for i in $(seq 2000); do echo o$i; echo e$i >&2; done")
        check_equal(result["stdout"], "".join(f"o{i}\n" for i in range(1, 2001)))
        check_equal(result["stderr"], "".join(f"e{i}\n" for i in range(1, 2001)))


# --- size ---


@test
def fifty_megabytes_come_back_whole_on_both_streams():
    with Worker() as w:
        count = 3_000_000
        key = w.send_sh(f"seq {count}; seq 500000 >&2")
        result = w.result(key)
        check(result["stdout"] == "".join(f"{i}\n" for i in range(1, count + 1)), "all numbers on stdout")
        check(result["stderr"] == "".join(f"{i}\n" for i in range(1, 500_001)), "all numbers on stderr")
        check(w.live_text(key) == result["stdout"], "and all of it live")


def check_cut(result, stream, total_bytes, first, last):
    """The text is its beginning, a marker with the number of bytes left out, and its end."""
    text = result[stream]
    metadata = result["metadata"]
    check_equal(metadata[f"{stream}Truncated"], True)
    check_equal(metadata[f"{stream}Bytes"], total_bytes)
    omitted = metadata[f"{stream}OmittedBytes"]
    marker = re.search(r"\n\[(\d+) bytes of output left out here\]\n", text)
    check(marker, "a marker in the text")
    check_equal(int(marker.group(1)), omitted)
    head, tail = text[:marker.start()], text[marker.end():]
    check_equal(len(head.encode()) + omitted + len(tail.encode()), total_bytes, "head, what is left out, and tail")
    check(head.startswith(first), "the head is the beginning")
    check(tail.endswith(last), "the tail is the end")
    return head, tail


@test
def output_beyond_the_cap_keeps_head_and_tail_and_says_so():
    lines = 13_000_000
    with Worker() as w:
        key = w.send_execute("seq", [str(lines)], timeoutMs=100_000_000)
        result = w.result(key)
        total = sum(9 * 10 ** (digits - 1) * (digits + 1) for digits in range(1, 8)) + (lines - 9_999_999) * 9
        head, tail = check_cut(result, "stdout", total, "1\n2\n3\n", f"{lines - 1}\n{lines}\n")
        check_equal((result["exitCode"], result["stderr"]), (0, ""))
        check("stderrTruncated" not in result["metadata"], "stderr is whole")
        # Nothing is missing within the head and within the tail.
        numbers = head[:head.rindex("\n")].split("\n")
        check_equal((numbers[0], numbers[-1]), ("1", str(len(numbers))))
        numbers = tail[tail.index("\n") + 1:].split()
        check_equal(int(numbers[-1]) - int(numbers[0]) + 1, len(numbers))
        check(w.live_text(key) == head, "what was sent live is the head")


@test
def a_result_stays_below_the_hosts_line_limit_whatever_is_printed():
    # The harness measures each line; these grow most when they are escaped, in UTF-8 and in UTF-16. Each stream is beyond the cap.
    kinds = (("controls", b"\x01", 6), ("invalid", b"\xff", 3), ("quotes", b'"', 2), ("emoji", "\U0001f600".encode(), 4),
             ("separators", "\u2028".encode(), 6))
    if Build.sanitized:
        raise Skip("too slow with sanitizers")
    with Inputs() as inputs, Worker() as w:
        for name, unit, escaped in kinds:
            path = inputs.file(name, unit * (MEGABYTE // len(unit)))
            times = 75 * len(unit) // escaped
            script = f"for i in $(seq {times}); do cat '{path}'; cat '{path}' >&2; done"
            params = w.execute_params("sh", ["-c", script], timeoutMs=100_000_000)
            del params["companyId"]  # without live output
            result = w.call("environmentExecute", params)
            check(len(result["stdout"]) > 10 * MEGABYTE // 4, f"{name}: a fair part is kept")
            check_equal(result["exitCode"], 0)
            os.unlink(path)


@test
def memory_stays_bounded_while_a_command_prints_without_end():
    with Worker() as w:
        w.initialize()
        params = {**w.execute_params("yes", ["some text"]), "timeoutMs": 2000}
        del params["companyId"]
        before = w.memory_kb()
        key = w.send("environmentExecute", params)
        peak = 0
        while key not in w.answers:
            w.pump(0.05)
            peak = max(peak, w.memory_kb() if is_alive(w.pid) else 0)
        result = w.result(key)
        check_equal((result["timedOut"], result["exitCode"]), (True, None))
        check(result["stdout"].startswith("some text\nsome text\n"), "the beginning is kept")
        if not Build.sanitized:
            check(peak - before < 300 * 1024, f"memory grew by {peak - before} kB")


# --- a host that reads slowly ---


@test
def a_host_that_does_not_read_throttles_the_command_and_not_the_memory():
    with Worker() as w:
        w.initialize()
        before = w.memory_kb()
        marker = unique("printing")
        key = w.send_execute("yes", [f"a line of live output of {marker}"], timeoutMs=100_000_000, lease={"providerLeaseId": "l"})
        wait_until(lambda: processes_with(marker), "the command runs")
        pid = processes_with(marker)[0]

        def printed():
            with open(f"/proc/{pid}/io", encoding="ascii") as file:
                return int(re.search(r"wchar: (\d+)", file.read()).group(1))

        settled(w, printed)
        first = printed()
        if not Build.sanitized:
            check(w.memory_kb() - before < 16 * 1024, f"memory grew by {w.memory_kb() - before} kB")
        check(first < 16 * MEGABYTE, f"the command could print {first} bytes that nobody read")
        # Once the host reads again the command goes on.
        w.until(lambda: len(w.live_text(key)) > 4 * MEGABYTE, "more live output")
        settled(w, printed)
        check(printed() > first, "the command has printed more")
        if not Build.sanitized:
            check(w.memory_kb() - before < 40 * 1024, f"memory grew by {w.memory_kb() - before} kB")
        w.call("environmentDestroyLease", {**w.base(), "providerLeaseId": "l"})
        check("error" in w.answer(key), "the command was ended")


@test
def a_timeout_is_kept_while_the_host_does_not_read():
    with Worker() as w:
        w.initialize()
        marker = "never read " + unique()
        key = w.send_execute("yes", [marker], timeoutMs=700)
        wait_until(lambda: processes_with(marker), "the command runs")
        wait_until(lambda: not processes_with(marker), "the command is ended though nobody reads")
        result = w.result(key)
        check_equal((result["timedOut"], result["exitCode"]), (True, None))


@test
def a_host_that_never_reads_can_still_end_the_worker():
    for end in ("close", "shutdown", "sigterm"):
        with Worker() as w:
            w.initialize()
            marker = "flood " + unique()
            w.send_execute("yes", [marker])
            wait_until(lambda m=marker: processes_with(m), "the command runs")
            settled(w, w.cpu_ticks)
            if end == "close":
                w.close_stdin()
            elif end == "shutdown":
                w.send("shutdown")
            else:
                os.kill(w.pid, 15)
            wait_until(lambda m=marker: not processes_with(m), "the command is ended")
            wait_until(lambda: not is_alive(w.pid), "the worker has ended though nobody read")
            w.killed = True  # its last answers may be lost: nobody took them
            w.expect_status = 0
            check_equal(w.process.wait(), 0, end)
            w.status = 0
            w.check_nothing_left()
            check_equal(os.listdir(w.temp), [])


@test
def requests_whose_answers_nobody_reads_do_not_fill_the_memory():
    with Worker() as w:
        w.initialize()
        before = w.memory_kb()
        count = 20_000 if Build.sanitized else 60_000
        keys = [w.send("health") for _ in range(count)]
        # Only writing: pump() would read.
        def pushed():
            w._flush()
            return len(w.pending) - w.pending_at
        settled(w, pushed)
        if not Build.sanitized:
            check(w.memory_kb() - before < 64 * 1024, f"memory grew by {w.memory_kb() - before} kB")
        w.until(lambda: len(w.answers) >= count, "all answers")
        check_equal(w.result(keys[-1])["status"], "ok")


@test
def a_slow_reader_gets_every_byte():
    with Worker() as w:
        key = w.send_execute("seq", ["400000"])
        while key not in w.answers:
            w.pump(1, max_bytes=3001)
        check(w.result(key)["stdout"] == "".join(f"{i}\n" for i in range(1, 400_001)), "all of it")
        check(w.live_text(key) == w.result(key)["stdout"], "and live")


# --- many at once ---


@test
def a_thousand_commands_at_once_are_all_answered_with_their_own_output():
    count = 200 if Build.sanitized else 1000
    with Worker() as w:
        w.initialize()
        keys = [w.send_sh(f"echo {i}; echo e{i} >&2; cat", stdin=f"in{i}\n") for i in range(count)]
        for i, key in enumerate(keys):
            result = w.result(key)
            check_equal((result["stdout"], result["stderr"], result["exitCode"]), (f"{i}\nin{i}\n", f"e{i}\n", 0))
            check_equal(w.live_text(key), f"{i}\nin{i}\n")


@test
def a_thousand_commands_run_at_the_same_time():
    count = 150 if Build.sanitized else 1000
    with Worker() as w:
        w.initialize()
        fifo = os.path.join(w.temp, "fifo")
        os.mkfifo(fifo)
        marker = unique("waiting")
        keys = [w.send_sh(f": {marker}; read x < '{fifo}'; echo done") for _ in range(count)]
        wait_until(lambda: w.pump(0) and False or len(processes_with(marker)) >= count, f"{count} commands run")
        check(not any(key in w.answers for key in keys), "none has ended")

        def let_go():
            # Wakes those that are waiting in open; some may come there later.
            with contextlib.suppress(OSError):
                os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
            return all(key in w.answers for key in keys)

        w.until(let_go, "all have ended")
        for key in keys:
            check_equal(w.result(key)["stdout"], "done\n")
        os.unlink(fifo)


@test
def small_requests_are_answered_while_a_flood_of_output_passes():
    with Worker() as w:
        w.initialize()
        flood = w.send_execute("yes", ["flood"], timeoutMs=100_000_000, lease={"providerLeaseId": "flood"})
        w.until(lambda: w.live_text(flood), "the flood")
        for i in range(20):
            check_equal(w.execute("echo", [str(i)])["stdout"], f"{i}\n")
            check_equal(w.call("health")["status"], "ok")
        w.call("environmentDestroyLease", {**w.base(), "providerLeaseId": "flood"})
        check("error" in w.answer(raw_id(flood)), "the flood has ended")


if __name__ == "__main__":
    main()
