#!/usr/bin/python3
"""wire: fake-plugin. The driver as the host meets it, without the faults of its model."""

import os
import re
import signal
import stat

from harness import (COMPANY, OTHER_COMPANY, RpcError, Skip, Worker, check, check_equal, check_match, is_alive, lease_dirs, long_sleep, main,
                     mode_of, processes_with, remove_dir, temp_dir, test, unique, wait_until)

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
TEST_CONFIG = {"image": "fake:test", "timeoutMs": 1234, "reuseLease": False}


def root_of(lease):
    return lease["metadata"]["fakeRootDir"]


def lease_params(w, lease_id, config=None, company=COMPANY, environment="env-1", **more):
    return {**w.base(company=company, environment=environment, config=config), "providerLeaseId": lease_id, **more}


def release(w, lease_id, config=None, **more):
    return w.call("environmentReleaseLease", lease_params(w, lease_id, config, **more))


def destroy(w, lease_id, config=None, **more):
    return w.call("environmentDestroyLease", lease_params(w, lease_id, config, **more))


def resume(w, lease_id, config=None, **more):
    return w.call("environmentResumeLease", lease_params(w, lease_id, config, **more))


def realize(w, lease=None, workspace=None, **more):
    return w.call("environmentRealizeWorkspace", {**w.base(), "lease": lease or {}, "workspace": workspace or {}, **more})


def message_of(w, *args, **more):
    return w.error(w.send_execute(*args, **more))


# --- config ---


@test
def config_takes_its_defaults_and_is_never_invalid():
    wanted = [
        ({}, ("fake:latest", 300000, False)),
        ({"image": "fake:test", "timeoutMs": 1234, "reuseLease": True}, ("fake:test", 1234, True)),
        ({"image": "  a b\t\n"}, ("a b", 300000, False)),
        ({"image": "\u00a0\ufeff\u3000x\u2028"}, ("x", 300000, False)),
        ({"image": " \t"}, ("fake:latest", 300000, False)),
        ({"image": "\u2003"}, ("fake:latest", 300000, False)),
        ({"image": 5}, ("fake:latest", 300000, False)),
        ({"image": None, "timeoutMs": None, "reuseLease": None}, ("fake:latest", 300000, False)),
        ({"timeoutMs": 12.5}, ("fake:latest", 12.5, False)),
        ({"timeoutMs": 0}, ("fake:latest", 0, False)),
        ({"timeoutMs": -1}, ("fake:latest", -1, False)),
        ({"timeoutMs": "500"}, ("fake:latest", 300000, False)),
        ({"timeoutMs": True}, ("fake:latest", 300000, False)),
        ({"timeoutMs": 4294967296}, ("fake:latest", 4294967296, False)),
        ({"reuseLease": "true"}, ("fake:latest", 300000, False)),
        ({"reuseLease": 1}, ("fake:latest", 300000, False)),
        ({"unknown": 1, "apiKey": "x"}, ("fake:latest", 300000, False)),
    ]
    with Worker() as w:
        for config, (image, timeout, reuse) in wanted:
            answer = w.call("environmentValidateConfig", {"driverKey": "fake-plugin", "config": config})
            check_equal(answer, {"ok": True, "normalizedConfig": {"image": image, "timeoutMs": timeout, "reuseLease": reuse}}, f"{config}")
            check_equal(type(answer["normalizedConfig"]["timeoutMs"]), type(timeout))


@test
def probe_names_the_image():
    with Worker() as w:
        check_equal(w.call("environmentProbe", w.base(environment="unsaved", config={"image": "fake:test"})),
                    {"ok": True, "summary": "Fake sandbox provider is ready for image fake:test.",
                     "metadata": {"provider": "fake-plugin", "image": "fake:test", "timeoutMs": 300000, "reuseLease": False}})


# --- leases ---


@test
def acquire_makes_a_private_directory_with_a_workspace():
    with Worker() as w:
        lease = w.acquire(config=TEST_CONFIG, requestedCwd="/elsewhere", workspaceMode="isolated", agentId="a")
        check_match(lease["providerLeaseId"], "fake-plugin://run-1/" + UUID)
        root = root_of(lease)
        check_match(root, re.escape(w.temp) + "/paperclip-fake-sandbox-[A-Za-z0-9]{6}")
        check_equal(lease, {"providerLeaseId": lease["providerLeaseId"], "metadata": {
            "provider": "fake-plugin", "image": "fake:test", "reuseLease": False, "remoteCwd": root + "/workspace",
            "fakeRootDir": root, "resumedLease": False}})
        check_equal(mode_of(root), 0o700)
        check(os.path.isdir(root + "/workspace"), "a workspace")
        check_equal(os.listdir(root + "/workspace"), [])


@test
def each_acquire_makes_a_lease_of_its_own():
    with Worker() as w:
        leases = [w.acquire(run="run-1") for _ in range(5)]
        check_equal(len({lease["providerLeaseId"] for lease in leases}), 5)
        check_equal(len({root_of(lease) for lease in leases}), 5)


@test
def a_reusable_lease_is_named_after_its_environment_and_taken_over():
    with Worker() as w:
        first = w.acquire(run="run-1", environment="env/ä %", config={"reuseLease": True, "image": "one"})
        check_equal(first["providerLeaseId"], "fake-plugin://env/ä %")
        check_equal(first["metadata"]["resumedLease"], False)
        second = w.acquire(run="run-2", environment="env/ä %", config={"reuseLease": True, "image": "two"})
        check_equal(second["providerLeaseId"], first["providerLeaseId"])
        # Image and reuseLease are those of the lease's creation.
        check_equal(second["metadata"], {**first["metadata"], "resumedLease": True})


@test
def acquires_of_one_reusable_lease_at_the_same_time_make_one_directory():
    with Worker() as w:
        keys = [w.send("environmentAcquireLease", {**w.base(config={"reuseLease": True}), "runId": f"r{i}"}) for i in range(50)]
        leases = [w.result(key) for key in keys]
        check_equal(len({root_of(lease) for lease in leases}), 1)
        check_equal(sum(not lease["metadata"]["resumedLease"] for lease in leases), 1)
        check_equal(len(lease_dirs(w.temp)), 1)


@test
def resume_gives_a_known_lease_back():
    with Worker() as w:
        lease = w.acquire(config={"image": "one"})
        again = resume(w, lease["providerLeaseId"], {"image": "two", "reuseLease": True}, leaseMetadata={"remoteCwd": "/x"})
        check_equal(again, {**lease, "metadata": {**lease["metadata"], "resumedLease": True}})


@test
def resume_of_an_unknown_id_makes_a_new_directory_under_it():
    with Worker() as w:
        lease = resume(w, "stale-plugin-lease", {"image": "two", "reuseLease": True})
        check_equal(lease["providerLeaseId"], "stale-plugin-lease")
        check_equal(lease["metadata"]["resumedLease"], True)
        check_equal((lease["metadata"]["image"], lease["metadata"]["reuseLease"]), ("two", True))
        check(os.path.isdir(lease["metadata"]["remoteCwd"]), "a directory")


@test
def release_removes_the_directory():
    with Worker() as w:
        lease = w.acquire()
        check_equal(release(w, lease["providerLeaseId"]), None)
        check_equal(lease_dirs(w.temp), [])
        again = resume(w, lease["providerLeaseId"])
        check(root_of(again) != root_of(lease), "a released lease is forgotten")


@test
def release_of_a_reusable_lease_keeps_it():
    with Worker() as w:
        lease = w.acquire(config={"reuseLease": True})
        w.sh("echo kept > file", cwd=lease["metadata"]["remoteCwd"])
        check_equal(release(w, lease["providerLeaseId"], {"reuseLease": True}), None)
        again = resume(w, lease["providerLeaseId"], {"reuseLease": True})
        check_equal(w.execute("cat", ["file"], cwd=again["metadata"]["remoteCwd"])["stdout"], "kept\n")


@test
def it_is_the_present_config_that_says_whether_a_release_keeps_the_lease():
    with Worker() as w:
        lease = w.acquire(config={"reuseLease": True})
        check_equal(release(w, lease["providerLeaseId"], {"reuseLease": False}), None)
        check_equal(lease_dirs(w.temp), [])
        lease = w.acquire()
        check_equal(release(w, lease["providerLeaseId"], {"reuseLease": True}), None)
        check_equal(len(lease_dirs(w.temp)), 1)


@test
def destroy_always_removes():
    with Worker() as w:
        lease = w.acquire(config={"reuseLease": True})
        check_equal(destroy(w, lease["providerLeaseId"], {"reuseLease": True}), None)
        check_equal(lease_dirs(w.temp), [])
        check_equal(destroy(w, lease["providerLeaseId"], {"reuseLease": True}), None)


@test
def release_and_destroy_take_unknown_null_and_empty_ids():
    with Worker() as w:
        for lease_id in ("no-such-lease", None, "", "fake-plugin://x/y", "../../etc", "x" * 100_000):
            check_equal(release(w, lease_id), None)
            check_equal(destroy(w, lease_id), None)
        check_equal(w.call("environmentReleaseLease", w.base()), None, "without an id")


@test
def the_end_of_active_work_is_proven_where_the_host_asks_for_it():
    with Worker() as w:
        lease = w.acquire()["providerLeaseId"]
        check_equal(destroy(w, lease, cancelActiveWork=True), {"providerLeaseId": lease, "state": "destroyed"})
        check_equal(destroy(w, lease, cancelActiveWork=True), {"providerLeaseId": lease, "state": "destroyed"})
        kept = w.acquire(config={"reuseLease": True})["providerLeaseId"]
        check_equal(release(w, kept, {"reuseLease": True}, cancelActiveWork=True), {"providerLeaseId": kept, "state": "stopped"})
        check_equal(len(lease_dirs(w.temp)), 1)


@test
def a_big_tree_with_locked_folders_and_links_is_removed_and_links_are_not_followed():
    outside = temp_dir()
    try:
        with open(outside + "/precious", "w", encoding="ascii") as file:
            file.write("stay")
        with Worker() as w:
            lease = w.acquire()
            script = (f"mkdir -p a/b/c d/e; touch a/b/c/f d/e/g; ln -s '{outside}' link; ln -s / d/root; ln -s nowhere dangling; "
                      "mkfifo fifo; i=0; while [ $i -lt 60 ]; do mkdir -p deep && cd deep; i=$((i+1)); done; cd - >/dev/null; "
                      f"cd '{lease['metadata']['remoteCwd']}'; for i in $(seq 700); do : > d/file$i; done; "
                      "chmod 0 a/b/c; chmod 0500 a/b; chmod 0 d; touch ../beside")
            check_equal(w.sh(script, cwd=lease["metadata"]["remoteCwd"])["exitCode"], 0)
            check_equal(release(w, lease["providerLeaseId"]), None)
            check_equal(lease_dirs(w.temp), [])
        check_equal(os.listdir(outside), ["precious"])
        check(os.path.isdir("/etc"), "the root is still there")
    finally:
        remove_dir(outside)


@test
def another_company_does_not_reach_a_lease_by_its_id():
    with Worker() as w:
        lease = w.acquire(config={"reuseLease": True})
        lease_id = lease["providerLeaseId"]
        check_equal(destroy(w, lease_id, company=OTHER_COMPANY), None)
        check(os.path.isdir(root_of(lease)), "the lease is untouched")
        other = resume(w, lease_id, company=OTHER_COMPANY)
        check(root_of(other) != root_of(lease), "the other company gets a directory of its own")
        key = w.send("environmentRealizeWorkspace", {**w.base(company=OTHER_COMPANY), "lease": {"providerLeaseId": lease_id},
                                                     "workspace": {"remotePath": w.temp + "/mine"}})
        check_equal(w.result(key)["cwd"], root_of(other) + "/workspace")
        check_equal(destroy(w, lease_id), None)
        check(not os.path.exists(root_of(lease)) and os.path.exists(root_of(other)), "each destroys its own")


@test
def the_temporary_directory_is_the_first_of_three_variables_that_is_not_empty():
    directory = temp_dir()
    path = os.environ.get("PATH", os.defpath)
    try:
        for env in ({"TMPDIR": directory + "/", "TMP": "/nonexistent"}, {"TMPDIR": "", "TMP": directory}, {"TEMP": directory}):
            with Worker(env={"PATH": path, **env}) as w:
                check_match(root_of(w.acquire()), re.escape(directory) + "/paperclip-fake-sandbox-[A-Za-z0-9]{6}")
        with Worker(env={"PATH": path}) as w:
            check_match(root_of(w.acquire()), "/tmp/paperclip-fake-sandbox-[A-Za-z0-9]{6}")
        check_equal(os.listdir(directory), [])
    finally:
        remove_dir(directory)


@test
def acquire_fails_where_no_directory_can_be_made():
    with Worker(env={"TMPDIR": "/nonexistent/place"}) as w:
        error = w.call_error("environmentAcquireLease", {**w.base(), "runId": "r"})
        check_equal(error["code"], -32002)
        check_match(error["message"], "ENOENT: no such file or directory, mkdtemp '/nonexistent/place/paperclip-fake-sandbox-\\w{6}'")


# --- workspaces ---


@test
def realize_takes_the_first_path_that_there_is():
    with Worker() as w:
        lease = w.acquire()
        known = {"providerLeaseId": lease["providerLeaseId"], "metadata": {"remoteCwd": w.temp + "/other"}}
        paths = [w.temp + "/p/q", w.temp + "/r", w.temp + "/l"]
        for lease_ref, workspace, cwd in (
                (known, {"remotePath": paths[1]}, lease["metadata"]["remoteCwd"]),
                ({"providerLeaseId": "gone", "metadata": {"remoteCwd": paths[0]}}, {"remotePath": paths[1]}, paths[0]),
                ({"metadata": {"remoteCwd": 5}}, {"remotePath": paths[1], "localPath": paths[2]}, paths[1]),
                ({"metadata": {}}, {"localPath": paths[2]}, paths[2]),
                ({}, {}, w.temp + "/paperclip-fake-sandbox-workspace")):
            check_equal(realize(w, lease_ref, workspace), {"cwd": cwd, "metadata": {"provider": "fake-plugin", "remoteCwd": cwd}})
            check(os.path.isdir(cwd), f"{cwd} is made")
        check_equal(realize(w, known)["cwd"], lease["metadata"]["remoteCwd"], "again")
        for name in ("p", "r", "l"):
            remove_dir(os.path.join(w.temp, name))
        check(not os.path.exists(w.temp + "/other"), "what was not chosen is not made")


@test
def the_common_workspace_is_removed_by_the_one_that_made_it_unless_it_holds_something():
    temp = temp_dir()
    common = temp + "/paperclip-fake-sandbox-workspace"
    try:
        with Worker(temp=temp) as one:
            check_equal(realize(one)["cwd"], common)
            with Worker(temp=temp) as two:
                check_equal(realize(two)["cwd"], common)
            check(os.path.isdir(common), "the one that did not make it leaves it")
        check_equal(os.listdir(temp), [])
        with Worker(temp=temp) as w:
            w.sh("echo mine > file", cwd=realize(w)["cwd"])
        check_equal(os.listdir(common), ["file"])
    finally:
        remove_dir(temp)


@test
def realize_makes_a_workspace_again_that_was_removed():
    with Worker() as w:
        lease = w.acquire()
        os.rmdir(lease["metadata"]["remoteCwd"])
        check_equal(realize(w, {"providerLeaseId": lease["providerLeaseId"]})["cwd"], lease["metadata"]["remoteCwd"])
        check(os.path.isdir(lease["metadata"]["remoteCwd"]), "made again")


def realize_error(w, path):
    return w.call_error("environmentRealizeWorkspace", {**w.base(), "lease": {}, "workspace": {"remotePath": path}})


@test
def realize_says_why_a_directory_cannot_be_made():
    with Worker() as w:
        for path, message in (("/etc/passwd", "EEXIST: file already exists, mkdir '/etc/passwd'"),
                              ("/etc/passwd/x/y", "ENOTDIR: not a directory, mkdir '/etc/passwd/x/y'"),
                              ("", "ENOENT: no such file or directory, mkdir ''"),
                              ("/tmp/" + "n" * 300, "ENAMETOOLONG: name too long, mkdir '/tmp/" + "n" * 300 + "'")):
            check_equal(realize_error(w, path), {"code": -32002, "message": message})
        error = w.call_error("environmentRealizeWorkspace", {**w.base(), "lease": {"metadata": {"remoteCwd": ""}},
                                                             "workspace": {"remotePath": w.temp}})
        check_equal(error["message"], "ENOENT: no such file or directory, mkdir ''")


@test
def mkdir_under_proc_is_an_error_and_does_not_hang():
    with Worker() as w:
        for path in ("/proc/x", "/proc/x/y/z", "/proc/self/x"):
            error = realize_error(w, path)
            check_equal(error["code"], -32002)
            check_match(error["message"], "(ENOENT|EACCES|EPERM): .*, mkdir '" + path + "'")


@test
def a_directory_without_permission_is_an_error_for_an_ordinary_user():
    with Worker(user=65534 if os.geteuid() == 0 else None) as w:
        check_equal(realize_error(w, "/nope-" + unique())["message"][:26], "EACCES: permission denied,")


# --- commands ---


@test
def a_command_gives_its_output_exit_code_and_what_was_run():
    with Worker() as w:
        result = w.sh("echo out; echo err >&2; exit 3")
        metadata = result.pop("metadata")
        check_equal(result, {"exitCode": 3, "signal": None, "timedOut": False, "stdout": "out\n", "stderr": "err\n"})
        check_equal(metadata["commandLine"], "sh -c echo out; echo err >&2; exit 3")
        check_match(metadata["startedAt"], r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ")
        check_equal(w.execute("true")["metadata"]["commandLine"], "true")


@test
def commands_run_whatever_the_lease_is():
    with Worker() as w:
        for lease in (None, {}, {"providerLeaseId": None}, {"providerLeaseId": "unknown", "metadata": {"remoteCwd": "/nonexistent"}}):
            params = w.execute_params("echo", ["hi"])
            params["lease"] = lease
            check_equal(w.call("environmentExecute", params)["stdout"], "hi\n", f"{lease}")
        lease = w.acquire()
        destroy(w, lease["providerLeaseId"])
        check_equal(w.execute("echo", ["hi"], lease=lease)["stdout"], "hi\n")
        params = w.execute_params("echo", ["hi"])
        del params["lease"]
        check_equal(w.call("environmentExecute", params)["stdout"], "hi\n")


@test
def arguments_pass_as_they_are_without_a_shell():
    odd = ["", " ", "a b", "$HOME", "*", "'", '"', "\\", "\n", "ä\U0001f600", "-n", "--", ";ls", "\u2028", "x" * 100_000]
    with Worker() as w:
        result = w.execute("sh", ["-c", 'for a in "$@"; do printf "<%s>" "$a"; done', "sh", *odd])
        check_equal(result["stdout"], "".join(f"<{a}>" for a in odd))


@test
def the_directory_is_the_given_one_or_the_workers_own():
    with Worker(cwd="/usr") as w:
        for cwd, got in (("/etc", "/etc"), ("", "/usr"), (None, "/usr")):
            check_equal(w.execute("pwd", cwd=cwd)["stdout"], got + "\n", f"cwd {cwd!r}")
        check_equal(w.execute("pwd")["stdout"], "/usr\n")
        check_equal(w.execute("pwd", cwd="lib/..")["stdout"], "/usr\n")


@test
def the_environment_is_path_and_what_was_given_and_nothing_of_the_workers():
    with Worker() as w:
        check_equal(w.execute("env")["stdout"], "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin\n")
        env = {"B": "2", "bad-key": "x y", "A": "", "PATH": "/usr/bin:/bin", "PAPERCLIP_SANDBOX_EXEC_CHANNEL": "1", "Ä": "ö",
               "number": 5, "yes": True, "none": None, "real": 1.5, "big": 1e21, "list": [1, [2, None], "x"], "thing": {"a": 1},
               "with=sign": "v", "": "empty name"}
        check_equal(w.execute("env", env=env)["stdout"],
                    "PATH=/usr/bin:/bin\nB=2\nbad-key=x y\nA=\nPAPERCLIP_SANDBOX_EXEC_CHANNEL=1\nÄ=ö\nnumber=5\nyes=true\nnone=null\n"
                    "real=1.5\nbig=1e+21\nlist=1,2,,x\nthing=[object Object]\nwith=sign=v\n=empty name\n")


@test
def a_command_is_looked_up_in_the_path_of_its_own_environment():
    with Worker() as w:
        directory = w.temp + "/bin"
        os.mkdir(directory)
        with open(directory + "/mine", "w", encoding="ascii") as file:
            file.write("#!/bin/sh\necho found by $0\n")
        os.chmod(directory + "/mine", 0o755)
        check_equal(w.execute("mine", env={"PATH": "/nonexistent:" + directory})["stdout"], f"found by {directory}/mine\n")
        check_equal(message_of(w, "mine"), {"code": -32002, "message": "spawn mine ENOENT"})
        check_equal(message_of(w, "sh", ["-c", "true"], env={"PATH": ""}), {"code": -32002, "message": "spawn sh ENOENT"})
        check_equal(w.execute("/bin/echo", ["hi"], env={"PATH": ""})["stdout"], "hi\n")
        check_equal(w.execute("./mine", cwd=directory)["stdout"], "found by ./mine\n")
        remove_dir(directory)


@test
def stdin_is_the_text_or_dev_null():
    with Worker() as w:
        check_equal(w.execute("cat", stdin="a\0bä\u2028\n")["stdout"], "a\0bä\u2028\n")
        check_equal(w.execute("cat", stdin="")["stdout"], "")
        check_equal(w.execute("readlink", ["/proc/self/fd/0"])["stdout"], "/dev/null\n")
        check_equal(w.execute("readlink", ["/proc/self/fd/0"], stdin=None)["stdout"], "/dev/null\n")
        check_match(w.execute("readlink", ["/proc/self/fd/0"], stdin="")["stdout"], r"(pipe|socket):\[\d+\]\n")
        check_equal(w.execute("sh", ["-c", "read a; echo got $a; read b || echo end"], stdin="one\n")["stdout"], "got one\nend\n")


@test
def a_command_that_does_not_read_its_stdin_is_no_failure():
    with Worker() as w:
        for size in (1, 100_000, 5_000_000):
            result = w.execute("sh", ["-c", "exec <&-; echo done; exit 4"], stdin="x" * size)
            check_equal((result["exitCode"], result["stdout"]), (4, "done\n"))
        check_equal(w.execute("true", stdin="x" * 1_000_000)["exitCode"], 0)
        check_equal(w.execute("head", ["-c", "3"], stdin="abc" * 500_000)["stdout"], "abc")
        check_equal(w.call("health")["status"], "ok")


@test
def output_is_decoded_as_utf8_with_replacement():
    cases = (
        (r"\303\244", "ä"), (r"a\377b", "a\ufffdb"), (r"\360\237\230", "\ufffd"), (r"\360\237\230\200", "\U0001f600"),
        (r"\355\240\200", "\ufffd\ufffd\ufffd"), (r"\300\200", "\ufffd\ufffd"), (r"\357\273\277x", "\ufeffx"), (r"a\000b", "a\0b"),
        (r"\342\200\250", "\u2028"), (r"\364\220\200\200", "\ufffd\ufffd\ufffd\ufffd"), (r"\303", "\ufffd"),
    )
    with Worker() as w:
        for octal, text in cases:
            for stream, script in (("stdout", f"printf '{octal}'"), ("stderr", f"printf '{octal}' >&2")):
                check_equal(w.sh(script)[stream], text, f"{octal} on {stream}")


@test
def a_character_that_is_split_between_two_writes_stays_whole():
    with Worker() as w:
        key = w.send_sh(r"printf 'a\360\237'; sleep 0.1; printf '\230\200b'; sleep 0.1; printf '\303'; sleep 0.1; printf '\244'")
        check_equal(w.result(key)["stdout"], "a\U0001f600bä")
        check_equal(w.live_text(key), "a\U0001f600bä")


@test
def a_background_child_that_holds_the_pipes_holds_the_answer_up():
    with Worker() as w:
        result = w.sh("(sleep 0.3; echo late) & echo early")
        check_equal(result["stdout"], "early\nlate\n")


@test
def a_background_child_that_lets_the_pipes_go_holds_nothing_up_and_ends_with_the_worker():
    number = long_sleep()
    with Worker() as w:
        check_equal(w.sh(f"sleep {number} >/dev/null 2>&1 </dev/null & echo started")["stdout"], "started\n")
        check_equal(w.shutdown(), 0)
        check_equal(processes_with(number), [], "processes left after the shutdown")


@test
def death_by_a_signal_is_named():
    with Worker() as w:
        for name in ("KILL", "TERM", "USR1", "SEGV", "PIPE", "HUP", "INT", "ABRT"):
            result = w.sh(f"kill -{name} $$")
            check_equal((result["exitCode"], result["signal"], result["timedOut"]), (None, f"SIG{name}", False))


@test
def children_have_default_signals_and_an_empty_mask():
    with Worker() as w:
        status = dict(entry.split(":\t") for entry in w.execute("cat", ["/proc/self/status"])["stdout"].splitlines() if ":\t" in entry)
        check_equal((int(status["SigIgn"], 16), int(status["SigBlk"], 16)), (0, 0))
        check_equal(w.sh("yes | head -n 1; true")["stdout"], "y\n")


@test
def a_command_inherits_no_descriptor_but_the_three():
    with Worker() as w:
        fds = w.sh("ls /proc/$$/fd", stdin="x")["stdout"].split()
        check_equal([fd for fd in fds if int(fd) > 2], [])


@test
def a_command_has_no_terminal_and_cannot_reach_the_workers_session():
    with Worker() as w:
        check(w.sh("echo x > /dev/tty")["exitCode"] != 0, "no controlling terminal")


# --- timeouts ---


@test
def a_timeout_ends_the_command_with_sigterm_and_keeps_what_was_printed():
    with Worker() as w:
        result = w.sh("echo before; exec sleep 1000", timeoutMs=200)
        check_equal((result["exitCode"], result["signal"], result["timedOut"], result["stdout"]), (None, "SIGTERM", True, "before\n"))


@test
def a_command_that_ignores_sigterm_is_killed():
    with Worker() as w:
        result = w.sh("trap '' TERM; echo go; while :; do sleep 0.05; done", timeoutMs=300)
        check_equal((result["exitCode"], result["signal"], result["timedOut"], result["stdout"]), (None, "SIGKILL", True, "go\n"))


@test
def a_command_that_catches_sigterm_keeps_its_last_words_and_no_signal():
    with Worker() as w:
        result = w.sh("trap 'echo bye; exit 7' TERM; echo go; while :; do sleep 0.02; done", timeoutMs=300)
        check_equal((result["exitCode"], result["signal"], result["timedOut"], result["stdout"]), (None, None, True, "go\nbye\n"))


@test
def the_timeout_of_the_config_counts_where_the_request_has_none():
    with Worker() as w:
        for config, more in (({"timeoutMs": 200}, {}), ({"timeoutMs": 200}, {"timeoutMs": None}), ({"timeoutMs": 100_000}, {"timeoutMs": 200}),
                             ({"timeoutMs": 200.75}, {}), ({}, {"timeoutMs": 0.5})):
            result = w.execute("sleep", ["1000"], config=config, **more)
            check_equal((result["timedOut"], result["exitCode"]), (True, None), f"{config} {more}")


@test
def zero_and_below_and_very_large_limits_are_no_limits():
    with Worker() as w:
        keys = [w.send_sh("sleep 0.3; echo done", timeoutMs=limit, config=config)
                for limit, config in ((0, {}), (-1, {}), (-0.5, {"timeoutMs": 1}), (0, {"timeoutMs": 1}), (None, {"timeoutMs": 0}),
                                      (None, {"timeoutMs": -5}), (2147483648, {}), (4294967296, {}), (1e15, {}), (1e300, {}),
                                      (9223372036854775807, {}), (18446744073709551616, {}))]
        for key in keys:
            result = w.result(key)
            check_equal((result["stdout"], result["timedOut"], result["exitCode"]), ("done\n", False, 0))


@test
def the_whole_tree_dies_at_a_timeout_and_the_answer_does_not_wait_for_it():
    a, b, c = long_sleep(), long_sleep(), long_sleep()
    with Worker() as w:
        result = w.sh(f"sleep {a} & setsid sleep {b} & (trap '' TERM; sleep {c}) & echo started; wait", timeoutMs=400)
        check_equal((result["timedOut"], result["exitCode"], result["stdout"]), (True, None, "started\n"))
        for number in (a, b, c):
            wait_until(lambda n=number: not processes_with(n), f"sleep {number} is dead")


# --- commands that cannot start ---


@test
def a_failure_to_start_is_an_error_in_nodes_words():
    with Worker() as w:
        plain = w.temp + "/plain"
        with open(plain, "w", encoding="ascii") as file:
            file.write("no program")
        os.chmod(plain, 0o644)
        long = "x" * 200_000
        for command, args, more, message in (
                ("no-such-command", [], {}, "spawn no-such-command ENOENT"),
                ("/no/such/command", [], {}, "spawn /no/such/command ENOENT"),
                ("echo", [], {"cwd": "/no/such/dir"}, "spawn echo ENOENT"),
                ("echo", [], {"cwd": "/etc/passwd"}, "spawn ENOTDIR"),
                ("/etc/passwd/x", [], {}, "spawn ENOTDIR"),
                (plain, [], {}, f"spawn {plain} EACCES"),
                ("/etc", [], {}, "spawn /etc EACCES"),
                ("echo", [long], {}, "spawn E2BIG"),
                ("", [], {}, "The argument 'file' cannot be empty. Received ''")):
            check_equal(message_of(w, command, args, **more), {"code": -32002, "message": message}, f"{command} {more}")
        os.unlink(plain)
        check_equal(w.execute("echo", ["still here"])["stdout"], "still here\n")


@test
def words_with_a_nul_and_words_of_a_wrong_type_are_errors():
    with Worker() as w:
        for more in ({"command": "a\0b"}, {"command": None}, {"command": 5}, {"command": ["echo"]}, {"args": ["a", "x\0y"]},
                     {"args": "not an array"}, {"args": {"0": "x"}}, {"args": [5]}, {"args": [None]}, {"env": {"A\0": "x"}},
                     {"env": {"A": "x\0y"}}, {"env": "A=b"}, {"env": ["A=b"]}, {"cwd": "/tmp\0/x"}, {"cwd": 5}, {"stdin": 5},
                     {"stdin": ["x"]}):
            error = w.call_error("environmentExecute", {**w.execute_params("echo", ["x"]), **more})
            check_equal(error["code"], -32002, f"{more}")
            check(len(error["message"]) > 10, f"a text that says what is wrong with {more}: {error['message']}")
        check_equal(w.execute("echo", ["still here"])["stdout"], "still here\n")


@test
def a_script_without_a_first_line_that_names_its_interpreter_is_given_to_no_shell():
    with Worker() as w:
        path = w.temp + "/script"
        with open(path, "w", encoding="ascii") as file:
            file.write("echo ran\n")
        os.chmod(path, 0o755)
        check_equal(message_of(w, path), {"code": -32002, "message": "spawn ENOEXEC"})
        check_equal(w.execute("sh", [path])["stdout"], "ran\n")
        os.unlink(path)


# --- setup sessions and templates ---


def setup_params(w, config=None, company=COMPANY, environment="env-1", **more):
    return {**w.base(company=company, environment=environment, config={"image": "fake:test"} if config is None else config), **more}


def start(w, session="setup-1", **more):
    return w.call("environmentStartInteractiveSetup", setup_params(w, sessionId=session, **more))


def get(w, lease_id, **more):
    return w.call("environmentGetInteractiveSetup", setup_params(w, providerLeaseId=lease_id, **more))


def capture(w, lease_id, **more):
    return w.call("environmentCaptureTemplate", setup_params(w, providerLeaseId=lease_id, **more))


def cancel(w, lease_id, **more):
    return w.call("environmentCancelInteractiveSetup", setup_params(w, providerLeaseId=lease_id, **more))


def delete(w, ref, **more):
    return w.call("environmentDeleteTemplate", setup_params(w, templateRef=ref, **more))


SESSION = {
    "providerLeaseId": "fake-plugin-setup://env-1/setup-1", "status": "waiting_for_user",
    "connectionSummary": {"type": "ssh", "username": "sandbox", "hostRedacted": True, "portRedacted": True, "commandRedacted": True,
                          "metadata": {"placeholderOnly": True}},
    "connectionPayload": {"type": "ssh", "command": "ssh sandbox@[fake-setup-host-redacted] -p [fake-port-redacted]",
                          "expiresAt": "2030-01-01T00:00:00.000Z", "metadata": {"placeholderOnly": True}},
    "expiresAt": "2030-01-01T00:00:00.000Z",
    "metadata": {"provider": "fake-plugin", "image": "fake:test", "sourceTemplateRefRedacted": True, "setupSessionId": "setup-1",
                 "redactedConnectionOnly": True, "capturedTemplateRefRedacted": False}}
SESSION_ID = SESSION["providerLeaseId"]
MISSING = {"status": "missing", "connectionSummary": None, "connectionPayload": None,
           "metadata": {"provider": "fake-plugin", "found": False}}


@test
def a_setup_session_shows_a_redacted_connection():
    with Worker() as w:
        check_equal(start(w, sourceTemplateRef="tpl", expiresAt="2030-01-01T00:00:00.000Z"), SESSION)
        check_equal(get(w, SESSION_ID, includeConnectionPayload=True), SESSION)
        for flag in (False, None, "true", 1):
            check_equal(get(w, SESSION_ID, includeConnectionPayload=flag), {**SESSION, "connectionPayload": None}, f"{flag!r}")


@test
def a_setup_session_without_options_has_nulls():
    with Worker() as w:
        session = start(w, config={})
        check_equal((session["expiresAt"], session["connectionPayload"]["expiresAt"]), (None, None))
        check_equal((session["metadata"]["image"], session["metadata"]["sourceTemplateRefRedacted"]), ("fake:latest", False))
        check_equal(start(w, session="s2", sourceTemplateRef="")["metadata"]["sourceTemplateRefRedacted"], False)


@test
def a_session_that_is_started_again_is_returned_as_it_is():
    with Worker() as w:
        start(w, sourceTemplateRef="tpl", expiresAt="2030-01-01T00:00:00.000Z")
        check_equal(start(w, config={"image": "other"}, sourceTemplateRef="", expiresAt="2031-01-01T00:00:00.000Z"), SESSION)
        cancel(w, SESSION_ID)
        check_equal(start(w), {**SESSION, "status": "cancelled", "connectionSummary": None, "connectionPayload": None})


@test
def ids_of_sessions_and_templates_are_percent_encoded_with_underscores():
    with Worker() as w:
        session = start(w, session="S!~*'()-_.\u2028", environment="Env 1/ä%")
        check_equal(session["providerLeaseId"], "fake-plugin-setup://Env_201_2F_C3_A4_25/S!~*'()-_._E2_80_A8")
        check_equal(capture(w, session["providerLeaseId"])["templateRef"], "fake-template:Env_201_2F_C3_A4_25:S!~*'()-_._E2_80_A8")


@test
def an_unknown_session_is_missing():
    with Worker() as w:
        for lease_id in ("nope", None, ""):
            check_equal(get(w, lease_id), {"providerLeaseId": lease_id, **MISSING})


@test
def capture_promotes_the_session_and_names_the_template():
    with Worker() as w:
        start(w, sourceTemplateRef="tpl")
        captured = capture(w, SESSION_ID, config={"image": "later"}, previousTemplateRef="old")
        check_equal(captured, {
            "templateRef": "fake-template:env-1:setup-1", "templateKind": "snapshot",
            "metadata": {"provider": "fake-plugin", "image": "later", "sourceTemplateRefRedacted": True,
                         "previousTemplateRefRedacted": True, "setupSessionId": "setup-1", "promoted": True}})
        session = get(w, SESSION_ID, includeConnectionPayload=True)
        check_equal((session["status"], session["connectionSummary"], session["connectionPayload"]), ("promoted", None, None))
        check_equal(session["metadata"]["capturedTemplateRefRedacted"], True)
        again = capture(w, SESSION_ID, sourceTemplateRef="", previousTemplateRef="")
        check_equal((again["metadata"]["sourceTemplateRefRedacted"], again["metadata"]["previousTemplateRefRedacted"]), (False, False))
        check_equal(capture(w, SESSION_ID)["metadata"]["sourceTemplateRefRedacted"], True)


@test
def capture_of_a_session_that_is_gone_or_ended_is_an_error():
    with Worker() as w:
        for lease_id in ("nope", None):
            check_equal(w.call_error("environmentCaptureTemplate", setup_params(w, providerLeaseId=lease_id)),
                        {"code": -32002, "message": "Fake setup session not found."})
        for reason, status in (("timed_out", "timed_out"), ("failed", "failed"), ("user", "cancelled"), (None, "cancelled")):
            start(w, session="s-" + status)
            lease_id = "fake-plugin-setup://env-1/s-" + status
            check_equal(cancel(w, lease_id, reason=reason), {"status": status, "metadata": {"provider": "fake-plugin", "found": True}})
            check_equal(w.call_error("environmentCaptureTemplate", setup_params(w, providerLeaseId=lease_id)),
                        {"code": -32002, "message": f"Fake setup session cannot be captured from status {status}."})


@test
def cancel_says_whether_the_session_was_known():
    with Worker() as w:
        check_equal(cancel(w, "nope"), {"status": "cancelled", "metadata": {"provider": "fake-plugin", "found": False}})
        check_equal(cancel(w, None, reason="failed"), {"status": "failed", "metadata": {"provider": "fake-plugin", "found": False}})
        start(w)
        capture(w, SESSION_ID)
        check_equal(cancel(w, SESSION_ID, reason="timed_out"), {"status": "timed_out", "metadata": {"provider": "fake-plugin", "found": True}})
        check_equal(get(w, SESSION_ID)["status"], "timed_out")


@test
def a_lease_with_the_sessions_id_goes_with_capture_and_cancel():
    with Worker() as w:
        for end in (capture, cancel):
            start(w, session=end.__name__)
            lease = resume(w, "fake-plugin-setup://env-1/" + end.__name__)
            end(w, lease["providerLeaseId"])
            check(not os.path.exists(root_of(lease)), f"removed by {end.__name__}")


@test
def delete_template_says_whether_it_is_known_each_time_it_is_asked():
    with Worker() as w:
        start(w)
        ref = capture(w, SESSION_ID)["templateRef"]
        for _ in range(2):
            check_equal(delete(w, ref), {"deleted": True, "metadata": {"provider": "fake-plugin", "templateRef": ref, "templateKind": "snapshot"}})
        check_equal(delete(w, "other", templateKind="image"),
                    {"deleted": False, "metadata": {"provider": "fake-plugin", "templateRef": "other", "templateKind": "image"}})


@test
def sessions_and_templates_of_one_company_are_unknown_to_another():
    with Worker() as w:
        start(w)
        ref = capture(w, SESSION_ID)["templateRef"]
        check_equal(get(w, SESSION_ID, company=OTHER_COMPANY)["status"], "missing")
        check_equal(cancel(w, SESSION_ID, company=OTHER_COMPANY)["metadata"]["found"], False)
        check_equal(delete(w, ref, company=OTHER_COMPANY)["deleted"], False)
        check_equal(get(w, SESSION_ID)["status"], "promoted")


@test
def no_answer_of_a_setup_holds_an_address_or_a_secret():
    with Worker() as w:
        answers = [start(w, sourceTemplateRef="tpl-secret"), get(w, SESSION_ID, includeConnectionPayload=True), capture(w, SESSION_ID),
                   get(w, SESSION_ID), cancel(w, SESSION_ID)]
        text = repr(answers)
        check(not re.search(r"\d+\.\d+\.\d+\.\d+|localhost|PRIVATE KEY|apiKey|token|secret", text), text)


@test
def sync_is_not_offered():
    with Worker() as w:
        for method in ("environmentSyncIn", "environmentSyncOut"):
            check_equal(w.call_error(method, {**w.base(), "lease": {}, "operations": []}),
                        {"code": -32004, "message": f"{method} is not implemented by this plugin"})


# --- as the host's own tests use it ---


@test
def uses_plugin_backed_sandbox_config_for_execute_and_release():
    """environment-runtime.test.ts: the calls that the runtime makes of a plugin-backed sandbox, on a real worker."""
    with Worker() as w:
        lease = w.acquire(config=TEST_CONFIG, workspaceMode=None)
        # From acquire on the config is the lease's metadata without the host's own keys.
        config = {**TEST_CONFIG, "resumedLease": False, "fakeRootDir": root_of(lease)}
        executed = w.execute("printf", ["ok"], lease=lease, cwd=lease["metadata"]["remoteCwd"], env={}, timeoutMs=1000, config=config)
        check_equal((executed["stdout"], executed["exitCode"], executed["timedOut"]), ("ok", 0, False))
        check_equal(release(w, lease["providerLeaseId"], config, leaseMetadata=lease["metadata"]), None)
        check_equal(lease_dirs(w.temp), [])


@test
def delegates_the_full_plugin_environment_lifecycle():
    """environment-runtime.test.ts: acquire, resume, realize, execute and destroy in a row."""
    with Worker() as w:
        config = {"template": "base"}
        lease = w.acquire(config=config)
        resumed = resume(w, lease["providerLeaseId"], config, leaseMetadata=lease["metadata"])
        check_equal(resumed["providerLeaseId"], lease["providerLeaseId"])
        realized = realize(w, lease, {"localPath": "/tmp/project", "mode": "ephemeral"})
        check_equal(realized["cwd"], lease["metadata"]["remoteCwd"])
        executed = w.execute("echo", ["ok"], lease=lease, cwd=realized["cwd"], env={"FOO": "bar"}, stdin="", timeoutMs=1000, config=config)
        check_equal((executed["exitCode"], executed["timedOut"], executed["stdout"]), (0, False, "ok\n"))
        check_equal(destroy(w, lease["providerLeaseId"], config, leaseMetadata=lease["metadata"]), None)


@test
def matches_reusable_plugin_backed_sandbox_leases_by_provider():
    """environment-runtime.test.ts: what acquire returns must match the config key by key for the host to resume it."""
    with Worker() as w:
        config = {"image": "template-b", "timeoutMs": 300000, "reuseLease": True}
        metadata = {**config, **w.acquire(config=config)["metadata"]}
        check_equal({key: metadata[key] for key in config}, config)
        check_equal(metadata["provider"], "fake-plugin")


@test
def realization_failure_is_an_error_that_the_orchestrator_can_show():
    """environment-run-orchestrator.test.ts: a realize that fails has to fail as an error answer."""
    with Worker() as w:
        try:
            realize(w, {}, {"remotePath": "/etc/passwd/no"})
        except RpcError as error:
            check_equal(error.code, -32002)
        else:
            check(False, "an error was due")


# --- what must not stay ---


@test
def a_later_worker_removes_what_a_killed_one_has_left():
    temp = temp_dir()
    try:
        with Worker(temp=temp) as w:
            roots = [root_of(w.acquire(run=f"run-{i}")) for i in range(3)]
            w.kill(signal.SIGKILL)
            w.wait_end()
        with Worker(temp=temp) as w:
            w.initialize()
            w.until(lambda: not any(os.path.exists(root) for root in roots), "the old directories are gone")
        check_equal(os.listdir(temp), [])
    finally:
        remove_dir(temp)


@test
def a_worker_removes_nothing_of_one_that_lives_and_nothing_that_is_not_marked():
    temp = temp_dir()
    try:
        foreign = [temp + "/paperclip-fake-sandbox-" + name for name in ("abcdef", "123456", "ABCDEF")]
        for path in foreign:
            os.makedirs(path + "/workspace")
        with open(foreign[1] + "/.paperclip-worker", "w", encoding="ascii") as file:
            file.write("something else\n")
        os.symlink("/etc/passwd", foreign[2] + "/.paperclip-worker")
        with Worker(temp=temp) as first:
            living = root_of(first.acquire())
            with Worker(temp=temp) as killed:
                dead = root_of(killed.acquire())
                killed.kill(signal.SIGKILL)
                killed.wait_end()
            with Worker(temp=temp) as second:
                second.acquire()
                second.until(lambda: not os.path.exists(dead), "the dead one's directory is gone")
            for path in [living, *foreign]:
                check(os.path.isdir(path + "/workspace"), f"{path} is untouched")
            check_equal(first.execute("pwd", cwd=living + "/workspace")["stdout"], living + "/workspace\n")
        check_equal(sorted(os.listdir(temp)), sorted(os.path.basename(path) for path in foreign))
    finally:
        remove_dir(temp)


@test
def a_lease_that_cannot_be_removed_stays_known_and_can_be_destroyed_later():
    if os.geteuid() != 0:
        raise Skip("needs a file that the worker may not remove")
    with Worker(user=65534) as w:
        lease = w.acquire()
        locked = lease["metadata"]["remoteCwd"] + "/locked"
        os.mkdir(locked)
        os.mkdir(locked + "/inner")
        error = w.call_error("environmentDestroyLease", lease_params(w, lease["providerLeaseId"]))
        check_equal(error["code"], -32002)
        check("ermission denied" in error["message"] or "EACCES" in error["message"], error["message"])
        again = resume(w, lease["providerLeaseId"])
        check_equal(root_of(again), root_of(lease))
        remove_dir(locked)
        check_equal(destroy(w, lease["providerLeaseId"]), None)
        check_equal(lease_dirs(w.temp), [])


@test
def the_marker_of_a_lease_is_private():
    with Worker() as w:
        root = root_of(w.acquire())
        beside = [name for name in os.listdir(root) if name != "workspace"]
        for name in beside:
            check_equal(stat.S_IMODE(os.stat(f"{root}/{name}").st_mode) & 0o077, 0)
        check(is_alive(w.pid), "alive")


if __name__ == "__main__":
    main()
