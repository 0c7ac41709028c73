"""Plays the host against the built worker, over the transports that it meets, and prints TAP.

A test is a function marked with @test; its name is the sentence that it shows. It starts workers in a `with` statement:

    with Worker() as w:
        w.initialize()
        check_equal(w.execute("sh", ["-c", "echo hi"])["stdout"], "hi\\n")

Leaving the block shuts the worker down and checks what holds for every session: exit status 0, nothing on stderr, each id answered
exactly once, each line fit for the host's line reader, live output an exact prefix of the final text, no process and no file left.

Everything is single-threaded: nothing is read from the worker but inside pump(), so that a host that reads slowly is simply a test
that does not pump. Tests wait for conditions, never for a time; the limits only end a test that hangs.
"""

import contextlib
import ctypes
import errno
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import traceback
import uuid

LIMIT_S = 120  # of one wait, unless a test says otherwise
LEFT_LIMIT_S = 30  # for what a worker has left to go
LINE_UNITS_MAX = 134_217_728  # the host's line reader, in UTF-16 units
CHUNK_UNITS_MAX = 1_000_000  # one execute.log
PR_SET_CHILD_SUBREAPER = 36

COMPANY = "5b0c1f0e-6a0e-4a44-9d3c-2f4c7a1f0001"
OTHER_COMPANY = "5b0c1f0e-6a0e-4a44-9d3c-2f4c7a1f0002"


class Failure(AssertionError):
    pass


class Skip(Exception):
    pass


class RpcError(Exception):
    def __init__(self, error):
        super().__init__(f"{error.get('code')}: {error.get('message')}")
        self.error = error
        self.code = error.get("code")
        self.message = error.get("message")


# --- checks ---


def shorten(value, limit=600):
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit // 2]} ... ({len(text)} characters) ... {text[-limit // 2:]}"


def check(condition, what):
    if not condition:
        raise Failure(what)


def check_equal(got, want, what=""):
    if got != want:
        raise Failure(f"{what or 'value'}:\n  got  {shorten(got)}\n  want {shorten(want)}")


def check_match(got, pattern, what=""):
    if not isinstance(got, str) or not re.fullmatch(pattern, got, re.S):
        raise Failure(f"{what or 'text'}:\n  got  {shorten(got)}\n  want {pattern}")


def wait_until(condition, what, limit_s=LIMIT_S):
    """Polls a condition outside the worker's channel."""
    end = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"never came true: {what}")
        time.sleep(0.005)


# --- processes ---


def adopt_orphans():
    """What a worker leaves behind becomes our child, and so cannot hide."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def process_table():
    """pid -> (parent, state, command line), as far as it can be read."""
    table = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                command = file.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:
            continue
        table[int(entry)] = (int(fields[1]), fields[0].decode(), command)
    return table


def descendants(pid):
    table = process_table()
    found = []
    todo = [pid]
    while todo:
        parent = todo.pop()
        for child, (ppid, state, command) in table.items():
            if ppid == parent:
                found.append((child, state, command))
                todo.append(child)
    return found


def processes_with(marker):
    """Live processes whose command line holds the marker."""
    return [pid for pid, (_, state, command) in process_table().items() if marker in command and state != "Z" and pid != os.getpid()]


def is_alive(pid):
    entry = process_table().get(pid)
    return entry is not None and entry[1] != "Z"


def unique(prefix="mark"):
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def long_sleep():
    """A sleep that never ends by itself and can be found in the process table: (seconds, marker)."""
    number = str(10_000_000 + uuid.uuid4().int % 10**9)
    return number


# --- the binary ---


class Build:
    """The program under test."""

    path = None
    sanitized = False

    @classmethod
    def set(cls, path):
        cls.path = os.path.abspath(path)
        if not os.access(cls.path, os.X_OK):
            raise SystemExit(f"not an executable program: {cls.path}")
        with open(cls.path, "rb") as file:
            cls.sanitized = b"__asan_init" in file.read()


def temp_dir(prefix="psw test "):
    """A fresh directory, with a space in its path, that an ordinary user can enter."""
    path = tempfile.mkdtemp(prefix=prefix, dir=os.environ.get("PSW_TEST_TMP", "/tmp"))
    os.chmod(path, 0o755)
    return path


def remove_dir(path):
    subprocess.run(["chmod", "-R", "u+rwx", "--", path], stderr=subprocess.DEVNULL, check=False)
    shutil.rmtree(path, ignore_errors=True)


# --- the worker ---

ID_AT_START = re.compile(rb'\{"jsonrpc":"2\.0","id":("(?:[^"\\]|\\.)*"|[^,{}\[\]"]+)[,}]')
UNFIT_FOR_LINE = re.compile(rb"[\x00-\x1f]|\xe2\x80[\xa8\xa9]")


def utf16_units(text):
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def raw_id(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() if not isinstance(value, bytes) else value


class Worker:
    """One worker process and its host.

    transport: "socket" (as the host starts it), "pipe", "nonblocking" (pipes that somebody has set so), or a path that becomes stdin
    as a regular file.
    env: the whole environment; by default what the host gives, with a TMPDIR of the session's own.
    """

    def __init__(self, transport="socket", env=None, argv=(), binary=None, cwd=None, user=None, stderr_ok=False, temp=None,
                 rlimits=()):
        self.transport = transport
        self.owns_temp = temp is None
        self.temp = temp or temp_dir()
        self.stderr_ok = stderr_ok
        self.next_id = 100_001  # tests that write lines by hand take small ones
        self.out = bytearray()
        self.out_seen = 0
        self.out_eof = False
        self.err = bytearray()
        self.err_eof = False
        self.pending = bytearray()
        self.pending_at = 0
        self.held = None
        self.stdin_open = True
        self.close_after_write = False
        self.asked = {}
        self.answers = {}
        self.unasked = []  # answers with id null
        self.notes = []
        self.live = {}  # invocation id -> {"stdout": [chunks], "stderr": [chunks]}
        self.done_invocations = set()
        self.invocation_of = {}
        self.requests_in = []
        self.bytes_in = 0
        self.killed = False
        self.status = None
        self.expect_status = 0
        environment = {"PATH": os.environ.get("PATH", os.defpath), "TZ": "UTC", "NODE_ENV": "production"}
        if env is not None:
            environment = dict(env)
        else:
            environment["TMPDIR"] = self.temp
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"):
            if name in os.environ:
                environment[name] = os.environ[name]
        if user is not None:
            os.chown(self.temp, user, user)
        self._spawn([binary or Build.path, *argv], environment, cwd, user, rlimits)

    def _spawn(self, argv, environment, cwd, user, rlimits):
        if self.transport == "socket":
            self.in_end, child_in = socket_pair()
            self.out_end, child_out = socket_pair()
            self.err_end, child_err = socket_pair()
        else:
            if self.transport in ("pipe", "nonblocking"):
                child_in, self.in_end = os.pipe()
            else:
                child_in, self.in_end = os.open(self.transport, os.O_RDONLY), -1
                self.stdin_open = False
            self.out_end, child_out = os.pipe()
            self.err_end, child_err = os.pipe()
        if self.transport == "nonblocking":
            for fd in (child_in, child_out, child_err):
                os.set_blocking(fd, False)

        def in_child():
            # As the host's process leaves them across fork and exec.
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            for what, limit in rlimits:
                resource.setrlimit(what, (limit, resource.getrlimit(what)[1]))
            if user is not None:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)

        self.process = subprocess.Popen(argv, stdin=child_in, stdout=child_out, stderr=child_err, env=environment, cwd=cwd,
                                        close_fds=True, preexec_fn=in_child, restore_signals=True)
        self.pid = self.process.pid
        for fd in (child_in, child_out, child_err):
            os.close(fd)
        for fd in (self.in_end, self.out_end, self.err_end):
            if fd >= 0:
                os.set_blocking(fd, False)

    # --- sending ---

    def write(self, data):
        """Queues raw bytes; pump() sends them."""
        data = data.encode() if isinstance(data, str) else data
        if self.held is not None:
            self.held += data
            return
        self.pending += data
        self._flush()

    def write_line(self, message):
        self.write(json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n")

    def send(self, method, params=None, id=None, invocation=None, company=COMPANY, **extra):
        """Sends a request and returns its id's text. params with a companyId bring an invocation, as the host does it."""
        if id is None:
            id = self.next_id
            self.next_id += 1
        message = {"jsonrpc": "2.0", "id": id, "method": method, "params": {} if params is None else params, **extra}
        company = params.get("companyId") if isinstance(params, dict) else None
        if invocation is None and isinstance(company, str) and company.strip():
            invocation = str(uuid.uuid4())
        if invocation:
            message["paperclipInvocation"] = {"id": invocation, "scope": {"companyId": company}}
            self.invocation_of[raw_id(id)] = invocation
        self.expect(id)
        self.write_line(message)
        return raw_id(id)

    @contextlib.contextmanager
    def one_write(self):
        """What is sent inside goes out in one write: the worker finds all of it in one read."""
        self.held = bytearray()
        yield
        data, self.held = bytes(self.held), None
        self.write(data)

    def expect(self, id):
        """An answer to this id, sent by write(), is due."""
        key = raw_id(id)
        self.asked[key] = self.asked.get(key, 0) + 1

    def close_stdin(self):
        self.close_after_write = True
        self._flush()

    def _flush(self):
        while self.stdin_open and self.pending_at < len(self.pending):
            try:
                sent = os.write(self.in_end, memoryview(self.pending)[self.pending_at:self.pending_at + 1_048_576])
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                    raise
                self.pending_at = len(self.pending)
                break
            self.pending_at += sent
        if self.pending_at:
            self.pending.clear()
            self.pending_at = 0
        if self.close_after_write and self.stdin_open:
            os.close(self.in_end)
            self.stdin_open = False

    # --- receiving ---

    def pump(self, timeout_s=0.0, max_bytes=None):
        """Moves bytes once, both ways; waits at most timeout_s for something to move. Returns whether something did."""
        poller = select.poll()
        if not self.out_eof:
            poller.register(self.out_end, select.POLLIN)
        if not self.err_eof:
            poller.register(self.err_end, select.POLLIN)
        if self.stdin_open and self.pending_at < len(self.pending):
            poller.register(self.in_end, select.POLLOUT)
        moved = False
        for fd, _ in poller.poll(timeout_s * 1000):
            moved = True
            if fd == self.out_end:
                self._read_out(max_bytes)
            elif fd == self.err_end:
                self._read_err()
            else:
                self._flush()
        return moved

    def _read_out(self, max_bytes):
        try:
            data = os.read(self.out_end, min(max_bytes or 1_048_576, 1_048_576))
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self.out_eof = True
            if self.out and not self.killed:
                raise Failure(f"stdout ends in the middle of a line: {shorten(bytes(self.out[-200:]))}")
            return
        self.bytes_in += len(data)
        self.out += data
        start = 0
        while True:
            end = self.out.find(b"\n", max(start, self.out_seen))
            if end < 0:
                break
            self._take_line(bytes(self.out[start:end]))
            start = end + 1
            self.out_seen = start
        if start:
            del self.out[:start]
        self.out_seen = len(self.out)

    def _read_err(self):
        try:
            data = os.read(self.err_end, 65536)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if data:
            self.err += data
        else:
            self.err_eof = True

    def _take_line(self, line):
        bad = UNFIT_FOR_LINE.search(line)
        if bad:
            raise Failure(f"the host's line reader would break this line at byte {bad.start()}: {shorten(line)}")
        try:
            text = line.decode("utf-8")
            message = json.loads(text)
        except ValueError as error:
            raise Failure(f"not a JSON line ({error}): {shorten(line)}") from None
        if len(line) > LINE_UNITS_MAX // 2 and utf16_units(text) > LINE_UNITS_MAX:
            raise Failure(f"a line of {utf16_units(text)} UTF-16 units is beyond the host's limit")
        check(isinstance(message, dict) and message.get("jsonrpc") == "2.0", f"not JSON-RPC 2.0: {shorten(line)}")
        if "id" in message and "method" not in message:
            self._take_answer(line, message)
        elif "id" in message:
            self.requests_in.append(message)
        else:
            self._take_notification(message)

    def _take_answer(self, line, message):
        check(("result" in message) != ("error" in message), f"neither result nor error, or both: {shorten(line)}")
        if "error" in message:
            error = message["error"]
            check(isinstance(error, dict) and type(error.get("code")) is int and isinstance(error.get("message"), str),
                  f"ill-formed error: {shorten(line)}")
        if message["id"] is None:
            self.unasked.append(message)
            return
        found = ID_AT_START.match(line)
        key = found.group(1) if found else raw_id(message["id"])
        answers = self.answers.setdefault(key, [])
        answers.append(message)
        if len(answers) > self.asked.get(key, 0):
            raise Failure(f"id {key!r} was asked {self.asked.get(key, 0)} times and answered {len(answers)} times: {shorten(line)}")
        invocation = self.invocation_of.get(key)
        if invocation:
            self.done_invocations.add(invocation)
            self._check_live(invocation, message)

    def _check_live(self, invocation, message):
        """What was sent live has to be an exact prefix of the final text."""
        live = self.live.get(invocation)
        result = message.get("result")
        if not live or not isinstance(result, dict) or "stdout" not in result:
            return
        for stream, chunks in live.items():
            joined = "".join(chunks)
            if not result[stream].startswith(joined):
                raise Failure(f"live {stream} is no prefix of the final text:\n  live  {shorten(joined)}\n"
                              f"  final {shorten(result[stream])}")

    def _take_notification(self, message):
        method = message.get("method")
        check(method in ("log", "execute.log"), f"unknown notification {method}")
        params = message.get("params")
        check(isinstance(params, dict), f"params of {method}: {shorten(params)}")
        if method == "log":
            check(params.get("level") in ("debug", "info", "warn", "error") and isinstance(params.get("message"), str),
                  f"ill-formed log line: {shorten(message)}")
            self.notes.append(message)
            return
        invocation = message.get("paperclipInvocationId")
        check(isinstance(invocation, str) and invocation, f"execute.log without its invocation: {shorten(message)}")
        check(invocation not in self.done_invocations, f"execute.log after the answer: {shorten(message)}")
        check(params.get("stream") in ("stdout", "stderr"), f"stream of execute.log: {shorten(message)}")
        chunk = params.get("chunk")
        check(isinstance(chunk, str) and 0 < utf16_units(chunk) <= CHUNK_UNITS_MAX, f"chunk of execute.log: {shorten(message)}")
        self.live.setdefault(invocation, {"stdout": [], "stderr": []})[params["stream"]].append(chunk)

    # --- waiting ---

    def until(self, condition, what, limit_s=LIMIT_S):
        """Pumps until the condition holds."""
        end = time.monotonic() + limit_s
        while True:
            value = condition()
            if value:
                return value
            if self.out_eof and not self.pending and not self.killed:
                self._reap(limit_s)
                value = condition()
                if value:
                    return value
                raise Failure(f"the worker ended ({self.status}) before: {what}\n{self.err.decode('utf-8', 'replace')}")
            if time.monotonic() > end:
                raise Failure(f"never came: {what}")
            self.pump(0.05)

    def answer(self, key, nth=0, limit_s=LIMIT_S):
        """The message that answers this id."""
        key = raw_id(key)
        self.until(lambda: len(self.answers.get(key, ())) > nth, f"the answer to id {key!r}", limit_s)
        return self.answers[key][nth]

    def result(self, key, limit_s=LIMIT_S):
        message = self.answer(key, limit_s=limit_s)
        if "error" in message:
            raise RpcError(message["error"])
        return message["result"]

    def error(self, key, limit_s=LIMIT_S):
        message = self.answer(key, limit_s=limit_s)
        if "error" not in message:
            raise Failure(f"a result came where an error was due: {shorten(message['result'])}")
        return message["error"]

    def call(self, method, params=None, **kw):
        return self.result(self.send(method, params, **kw))

    def call_error(self, method, params=None, **kw):
        return self.error(self.send(method, params, **kw))

    def parse_error(self):
        """The next answer with id null."""
        self.until(lambda: self.unasked, "an answer with id null")
        message = self.unasked.pop(0)
        check("error" in message, f"not an error: {shorten(message)}")
        return message["error"]

    def live_text(self, key, stream="stdout"):
        live = self.live.get(self.invocation_of.get(raw_id(key)))
        return "".join(live[stream]) if live else ""

    # --- the host's calls ---

    def initialize(self):
        return self.call("initialize", {"manifest": {"id": "paperclip.sandbox"}, "config": {}, "apiVersion": 1,
                                        "instanceInfo": {"instanceId": "default", "hostVersion": "0.0.0"},
                                        "databaseNamespace": None})

    def base(self, driver="fake-plugin", company=COMPANY, environment="env-1", config=None):
        return {"driverKey": driver, "companyId": company, "environmentId": environment, "issueId": None,
                "config": {} if config is None else config}

    def acquire(self, run="run-1", config=None, company=COMPANY, environment="env-1", driver="fake-plugin", **more):
        return self.call("environmentAcquireLease",
                         {**self.base(driver, company, environment, config), "runId": run, **more})

    def execute_params(self, command, args=None, lease=None, config=None, company=COMPANY, driver="fake-plugin", **more):
        params = {**self.base(driver, company, config=config), "lease": lease or {"providerLeaseId": None}, "command": command}
        if args is not None:
            params["args"] = args
        return {**params, **more}

    def send_execute(self, command, args=None, **more):
        return self.send("environmentExecute", self.execute_params(command, args, **more))

    def execute(self, command, args=None, **more):
        return self.result(self.send_execute(command, args, **more))

    def send_sh(self, script, **more):
        return self.send_execute("sh", ["-c", script], **more)

    def sh(self, script, **more):
        return self.result(self.send_sh(script, **more))

    # --- memory ---

    def memory_kb(self, field="VmRSS"):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
            for line in file:
                if line.startswith(field + ":"):
                    return int(line.split()[1])
        return 0

    def cpu_ticks(self):
        with open(f"/proc/{self.pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return int(fields[11]) + int(fields[12])

    # --- the end ---

    def _reap(self, limit_s=LIMIT_S):
        if self.status is None:
            try:
                self.status = self.process.wait(limit_s)
            except subprocess.TimeoutExpired:
                raise Failure("the worker does not end") from None
        return self.status

    def wait_end(self, limit_s=LIMIT_S):
        """Pumps until the worker has closed its output, then gives its exit status (negative: a signal)."""
        end = time.monotonic() + limit_s
        while not (self.out_eof and self.err_eof):
            if time.monotonic() > end:
                raise Failure("the worker does not end")
            self.pump(0.05)
        return self._reap(limit_s)

    def kill(self, number=signal.SIGKILL):
        self.killed = True
        self.expect_status = -number
        os.kill(self.pid, number)

    def shutdown(self):
        """The host's way to stop a worker: answered null, then exit 0."""
        check_equal(self.call("shutdown"), None, "answer of shutdown")
        return self.wait_end()

    def finish(self):
        if self.status is None and not self.killed:
            if self.stdin_open and not self.close_after_write:
                self.shutdown()
            else:
                self.wait_end()
        elif self.status is None:
            self.wait_end()
        check_equal(self.status, self.expect_status, "exit status" + self._stderr_note())
        if not self.killed:
            for key, count in self.asked.items():
                check_equal(len(self.answers.get(key, ())), count, f"answers to id {key!r}")
            check(not self.unasked, f"answers with id null that no test asked for: {shorten(self.unasked)}")
        text = self.err.decode("utf-8", "replace")
        check("Sanitizer" not in text and "runtime error" not in text, f"sanitizer report:\n{text}")
        check(self.stderr_ok or not text, f"stderr is not quiet:\n{text}")
        self.check_nothing_left()

    def _stderr_note(self):
        return f" (stderr: {self.err.decode('utf-8', 'replace')})" if self.err else ""

    def check_nothing_left(self):
        def strangers():
            reap_strangers()
            return [entry for entry in descendants(os.getpid()) if entry[1] != "Z" and entry[0] not in KEPT and not any(
                entry[0] == w.pid or is_below(entry[0], w.pid) for w in RUNNING if w is not self)]

        wait_until(lambda: not strangers(), f"no process is left: {shorten(strangers())}", limit_s=LEFT_LIMIT_S)
        if self.owns_temp:
            if self.killed:  # a worker that was killed cannot tidy up; the next one does
                return
            check_equal(os.listdir(self.temp), [], "what is left in the temporary directory")

    def __enter__(self):
        RUNNING.append(self)
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is None:
                self.finish()
        finally:
            RUNNING.remove(self)
            self._discard()
        return False

    def _discard(self):
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait()
        for fd in (self.in_end if self.stdin_open else -1, self.out_end, self.err_end):
            if fd >= 0:
                os.close(fd)
        if self.owns_temp:
            remove_dir(self.temp)


RUNNING = []
KEPT = {}  # pid -> what ends it: helpers that serve all tests of a file


def is_below(pid, ancestor):
    table = process_table()
    while pid in table:
        if pid == ancestor:
            return True
        pid = table[pid][0]
    return False


def reap_strangers():
    """Collects the orphans that became our children and have ended."""
    known = {w.pid for w in RUNNING} | set(KEPT)
    for pid, state, _ in descendants(os.getpid()):
        if state == "Z" and pid not in known:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def socket_pair():
    """As Node makes a child's stdio: UNIX stream sockets, blocking at the child's end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return ours.detach(), theirs.detach()


# --- leases of fake-plugin on the disk ---


def lease_dirs(temp):
    return sorted(name for name in os.listdir(temp) if name.startswith("paperclip-fake-sandbox-"))


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


# --- TAP ---

TESTS = []
TEST_LIMIT_S = 300


def test(function):
    TESTS.append(function)
    return function


def on_alarm(_number, _frame):
    raise Failure(f"the test took longer than {TEST_LIMIT_S} s")


def diagnose(text):
    for line in text.rstrip().split("\n"):
        print(f"# {line}")


def clear_orphans():
    """Between tests: a failed one must not make the next one fail."""
    for pid, state, _ in descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            if state != "Z" and pid not in KEPT:
                os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        reap_strangers()
        if not any(state != "Z" and pid not in KEPT for pid, state, _ in descendants(os.getpid())):
            return
        time.sleep(0.005)


def run_test(number, function):
    name = function.__name__
    signal.alarm(TEST_LIMIT_S)
    try:
        function()
        print(f"ok {number} - {name}", flush=True)
        return True
    except Skip as reason:
        print(f"ok {number} - {name} # SKIP {reason}", flush=True)
        return True
    except Exception as failure:  # pylint: disable=broad-except
        signal.alarm(0)
        print(f"not ok {number} - {name}")
        diagnose(str(failure) if isinstance(failure, (Failure, RpcError)) else repr(failure))
        diagnose("".join(traceback.format_tb(failure.__traceback__)[1:]))
        sys.stdout.flush()
        return False
    finally:
        signal.alarm(0)
        clear_orphans()


def main():
    """test_x.py [BINARY [PART-OF-A-TEST'S-NAME]]; BINARY defaults to $PSW_BINARY."""
    binary = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("PSW_BINARY")
    if not binary:
        raise SystemExit("which program? Give its path, or set PSW_BINARY")
    wanted = sys.argv[2] if len(sys.argv) > 2 else ""
    Build.set(binary)
    adopt_orphans()
    signal.signal(signal.SIGALRM, on_alarm)
    chosen = [function for function in TESTS if wanted in function.__name__]
    print(f"1..{len(chosen)}", flush=True)
    passed = [run_test(number, function) for number, function in enumerate(chosen, 1)]
    for end in list(KEPT.values()):
        end()
    sys.exit(0 if all(passed) else 1)
