#!/usr/bin/python3
"""Makes tests/data/transcripts anew: plays the sessions below against the worker with --record.

    tests/worker/record_transcripts.py BINARY [NAME…]

The results are data: look at the difference before you commit it. What only the recording machine has (the place of its temporary
directory) is taken out here; what differs from run to run is left as it was recorded, and test_replay.py knows how to compare it.
"""

import os
import re
import sys

from harness import Build, OTHER_COMPANY, Worker, adopt_orphans, remove_dir, temp_dir

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.path.join(HERE, "..", "data", "transcripts")
CONFIG = {"image": "fake:test", "timeoutMs": 1234, "reuseLease": False}


def first_contact(w):
    """What the host does when it starts and stops a plugin."""
    w.initialize()
    w.call("health")
    w.call("configChanged", {"companyId": "c-1", "config": {"a": 1}})
    w.call("environmentValidateConfig", {"driverKey": "fake-plugin", "config": {"image": " fake:test ", "timeoutMs": 12.5, "other": 1}})
    w.call("environmentProbe", w.base(environment="unsaved", config=CONFIG))


def one_run(w):
    """A run of an agent: acquire, realize, commands, release, as the environment runtime does it."""
    w.initialize()
    lease = w.acquire(config=CONFIG, workspaceMode="isolated_workspace", requestedCwd=None, agentId="agent-1")
    cwd = w.call("environmentRealizeWorkspace", {**w.base(config=CONFIG), "lease": lease, "workspace": {"localPath": "/tmp/project"}})["cwd"]
    w.execute("printf", ["ok"], lease=lease, cwd=cwd, timeoutMs=1000, config=CONFIG)
    w.execute("sh", ["-c", "base64 -d >> 'file'"], lease=lease, cwd=cwd, stdin="aGVsbG8K", bypassSession=True)
    w.execute("sh", ["-c", "wc -c < file; cat file; echo trouble >&2; exit 3"], lease=lease, cwd=cwd)
    w.call("environmentReleaseLease", {**w.base(config=CONFIG), "providerLeaseId": lease["providerLeaseId"], "leaseMetadata": lease["metadata"]})


def reused_lease(w):
    """A lease that is kept between runs, taken over, resumed and destroyed."""
    w.initialize()
    config = {**CONFIG, "reuseLease": True}
    lease = w.acquire(config=config)
    lease_id = lease["providerLeaseId"]
    w.sh("echo kept > note", lease=lease, cwd=lease["metadata"]["remoteCwd"])
    w.call("environmentReleaseLease", {**w.base(config=config), "providerLeaseId": lease_id})
    again = w.acquire(run="run-2", config={**config, "image": "other"})
    w.execute("cat", ["note"], lease=again, cwd=again["metadata"]["remoteCwd"])
    w.call("environmentResumeLease", {**w.base(config=config), "providerLeaseId": lease_id, "leaseMetadata": lease["metadata"]})
    w.call("environmentReleaseLease", {**w.base(config=config), "providerLeaseId": lease_id, "cancelActiveWork": True})
    w.call("environmentDestroyLease", {**w.base(config=config, company=OTHER_COMPANY), "providerLeaseId": lease_id})
    w.call("environmentDestroyLease", {**w.base(config=config), "providerLeaseId": lease_id, "cancelActiveWork": True})
    w.call("environmentDestroyLease", {**w.base(config=config), "providerLeaseId": lease_id})


def setup_and_template(w):
    """An interactive setup from its start to the deleted template."""
    w.initialize()
    base = w.base(config=CONFIG)
    session = w.call("environmentStartInteractiveSetup", {**base, "sessionId": "Setup 1/ä", "sourceTemplateRef": "tpl",
                                                          "expiresAt": "2030-01-01T00:00:00.000Z"})
    session_id = session["providerLeaseId"]
    w.call("environmentGetInteractiveSetup", {**base, "providerLeaseId": session_id})
    w.call("environmentGetInteractiveSetup", {**base, "providerLeaseId": session_id, "includeConnectionPayload": True})
    template = w.call("environmentCaptureTemplate", {**base, "providerLeaseId": session_id, "previousTemplateRef": "old"})
    w.call("environmentGetInteractiveSetup", {**base, "providerLeaseId": session_id, "includeConnectionPayload": True})
    w.call("environmentDeleteTemplate", {**base, "templateRef": template["templateRef"]})
    w.call("environmentDeleteTemplate", {**base, "templateRef": "unknown", "templateKind": "image"})
    w.call("environmentCancelInteractiveSetup", {**base, "providerLeaseId": session_id, "reason": "timed_out"})
    w.call_error("environmentCaptureTemplate", {**base, "providerLeaseId": session_id})
    w.call_error("environmentCaptureTemplate", {**base, "providerLeaseId": "unknown"})
    w.call("environmentGetInteractiveSetup", {**base, "providerLeaseId": None})


def ends_of_commands(w):
    """Exit codes, signals, timeouts, and commands that cannot start."""
    w.initialize()
    w.execute("true")
    w.execute("false")
    w.sh("kill -USR1 $$")
    w.sh("echo before; exec sleep 1000", timeoutMs=200)
    w.execute("cat", stdin="text\n")
    w.execute("cat", stdin="")
    for command, args, more in (("no-such-command", [], {}), ("echo", [], {"cwd": "/no/such/directory"}), ("echo", [], {"cwd": "/etc/passwd"}),
                                ("/etc", [], {}), ("", [], {}), ("echo", "no array", {})):
        w.error(w.send_execute(command, args, **more))


def odd_bytes(w):
    """Text that hurts: line separators, surrogates, NUL, bytes that are no UTF-8, odd ids."""
    w.initialize()
    for text in ("a\u2028b\u2029c", "\U0001f600 \u0085\u007f", "nul \0 inside", "\ufeffbom"):
        w.execute("cat", stdin=text)
    w.sh(r"printf 'a\377b\303'; printf '\355\240\200' >&2")
    w.sh(r"printf '\360\237'; sleep 0.05; printf '\230\200'")
    for id in ("string", "ä\U0001f600", "", -1, 9007199254740993, 0):
        w.call("health", id=id)
    w.call_error("no\u2028such\nmethod")


def broken_lines(w):
    """Lines that are no requests, and requests that nobody serves."""
    w.initialize()
    for text in ("nonsense", "{", "[]", "null", '{"method":"health"}', '{"jsonrpc":"1.0","method":"health"}', '{"jsonrpc":"2.0","id":null,"method":"x"}',
                 '{"jsonrpc":"2.0","method":"onEvent","params":{}}'):
        w.write(text + "\n")
    w.call_error("nope")
    w.call_error("runJob")
    w.call_error("environmentSyncIn", w.base())
    w.call_error("environmentProbe", w.base(driver="nobody"))
    w.call_error("environmentProbe", {"config": {}})
    w.call_error("environmentProbe", {**w.base(), "config": []})
    w.call_error("environmentExecute", {**w.base(), "lease": {}})
    w.call_error("environmentRealizeWorkspace", {**w.base(), "lease": {}, "workspace": {"remotePath": "/etc/passwd"}})
    w.call_error("initialize", {})
    w.unasked.clear()


def teardown_of_a_hung_command(w):
    """Destroy ends what runs in the lease, and shutdown the rest."""
    w.initialize()
    lease = w.acquire()
    hung = w.send_sh("echo up; exec sleep 1000", lease=lease)
    other = w.send_sh("echo up; exec sleep 1000", lease={"providerLeaseId": "other"})
    w.until(lambda: w.live_text(hung) and w.live_text(other), "both run")
    w.call("environmentDestroyLease", {**w.base(), "providerLeaseId": lease["providerLeaseId"]})
    w.error(hung)
    w.shutdown()


SESSIONS = [first_contact, one_run, reused_lease, setup_and_template, ends_of_commands, odd_bytes, broken_lines, teardown_of_a_hung_command]


def record(session):
    temp = temp_dir("record-")
    path = os.path.join(TARGET, session.__name__.replace("_", "-") + ".ndjson")
    try:
        with Worker(temp=temp, argv=["--record", path]) as w:
            session(w)
        with open(path, encoding="utf-8", newline="\n") as file:
            text = file.read()
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(re.sub(re.escape(temp) + r"(?=/paperclip-fake-sandbox-)", "/tmp", text))
        os.chmod(path, 0o644)
    finally:
        remove_dir(temp)
    print(os.path.relpath(path))


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    Build.set(sys.argv[1])
    adopt_orphans()
    os.makedirs(TARGET, exist_ok=True)
    for session in SESSIONS:
        if len(sys.argv) == 2 or session.__name__ in sys.argv[2:]:
            record(session)


if __name__ == "__main__":
    main()
