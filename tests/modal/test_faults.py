#!/usr/bin/python3
"""wire: modal, Metadata headers; Retries and deadlines. Tokens that end, and a service that misbehaves."""

import os
import re
import time

from driver import result, session
from harness import OTHER_COMPANY, check, check_equal, check_match, main, test

UNAVAILABLE = 14
LIFE_S = 3  # of a token that is to expire: long enough for an acquire on a busy machine
GONE = result(1, "", "Modal sandbox lease is no longer available.\n")


# --- tokens ---


@test
def tokens_that_were_taken_back_are_fetched_again():
    with session() as s:
        lease = s.acquire()
        s.e.drop_tokens()
        check_equal(s.sh(lease, "echo hi"), result(stdout="hi\n"))
        s.e.drop_tokens()
        s.lease_call("ReleaseLease", lease)
        s.no_live()


@test
def a_session_token_is_fetched_once_for_an_account_and_again_before_it_ends():
    with session() as s:
        keys = [s.send_acquire(environment=f"env-{n}") for n in range(5)]
        for key in keys:
            s.w.result(key)
        check_equal(len(s.e.requests("AuthTokenGet")), 1)
        s.acquire(company=OTHER_COMPANY)
        check_equal(len(s.e.requests("AuthTokenGet")), 2)
    with session() as s:
        s.e.behave(tokenLifeS=LIFE_S)
        s.acquire()
        s.e.behave()
        time.sleep(LIFE_S + 0.1)
        since = len(s.e.calls())
        for _ in range(2):
            s.acquire()
        check_equal(len(s.e.requests("AuthTokenGet", since=since)), 1)


@test
def a_router_token_that_expires_is_fetched_again_by_one_of_many():
    with session() as s:
        s.e.behave(routerLifeS=LIFE_S)
        lease = s.acquire()
        time.sleep(LIFE_S + 0.1)
        s.e.behave()
        since = len(s.e.calls())
        keys = [s.send_execute(lease, "echo", ["hi"]) for _ in range(10)]
        for key in keys:
            check_equal(s.w.result(key)["stdout"], "hi\n")
        check_equal(len(s.e.requests("TaskGetCommandRouterAccess", since=since)), 1)


@test
def refused_credentials_say_so():
    with session() as s:
        error = s.error("AcquireLease", {"runId": "r"}, tokenSecret="wrong-secret")
        check_equal((error["code"], error["message"]), (16, "/modal.client.ModalClient/AuthTokenGet UNAUTHENTICATED: Token validation failed"))
        check_equal(len(s.e.requests()), 1)
        s.e.fault(rpc="AppGetOrCreate", status=[7, "bad secret test-secret!"])
        check_match(s.error("AcquireLease", {"runId": "r"})["message"], r".*PERMISSION_DENIED: bad secret \*\*\*!")


# --- a service that misbehaves ---


@test
def calls_are_repeated_where_that_may_help_and_nowhere_else():
    with session() as s:
        for way in ({"status": [UNAVAILABLE, "x"]}, {"status": [2, ""]}, {"rst": 2}, {"http": 503}, {"end": True}, {"goaway": 0}):
            since = len(s.e.calls())
            s.e.fault(rpc="AppGetOrCreate", **way)
            s.acquire()
            check_equal(len(s.e.requests("AppGetOrCreate", since=since)), 2, f"{way}")
        for way, text in (({"status": [9, "a b"]}, "FAILED_PRECONDITION: a b"), ({"http": 404}, "UNIMPLEMENTED: Received HTTP status code 404"),
                          ({"empty": True}, "UNIMPLEMENTED: No message received"), ({"status": [8, ""]}, "RESOURCE_EXHAUSTED: ")):
            since = len(s.e.calls())
            s.e.fault(rpc="AppGetOrCreate", **way)
            check_match(s.error("AcquireLease", {"runId": "r"})["message"], ".*AppGetOrCreate " + re.escape(text))
            check_equal(len(s.e.requests("AppGetOrCreate", since=since)), 1, f"{way}")
        s.e.fault(rpc="AppGetOrCreate", status=[5, "nothing"])
        check_equal(s.error("AcquireLease", {"runId": "r"})["message"], "App 'paperclip-app' not found")


@test
def a_pause_that_the_service_asks_for_is_kept():
    with session() as s:
        s.e.fault(rpc="SandboxCreate", status=[8, "slow down"], retryAfter=0.2, times=5)
        s.acquire()
        check_equal([one["metadata"].get("x-throttle-retry-attempt") for one in s.e.requests("SandboxCreate")], [None, "1", "2", "3", "4", "5"])


@test
def an_image_is_waited_for_and_its_failures_have_their_texts():
    with session() as s:
        s.e.behave(images={"node:20": {"joins": 3}, "bad": {"joins": 2, "status": 2, "exception": "no such image"}, "shut": {"status": 3},
                           "slow": {"status": 4}, "odd": {"joins": 1, "status": 6}})
        s.e.fault(rpc="ImageJoinStreaming", reset=True, skip=1)
        s.acquire()
        s.e.fault(rpc="ImageJoinStreaming", status=[UNAVAILABLE, "x"])
        s.acquire()
        for image, text in (("bad", "failed with the exception:\nno such image"), ("slow", "timed out. Please try again with a larger timeout parameter."),
                            ("shut", "terminated due to external shut-down. Please try again."), ("odd", "failed with unknown status: 6")):
            check_match(s.error("AcquireLease", {"runId": "r"}, image=image)["message"], r"Image build for im-\w+ " + re.escape(text))
        check_equal(s.e.state()["created"], 2)


@test
def a_task_that_is_not_there_yet_is_asked_for_again():
    with session() as s:
        s.e.behave(taskPolls=1)
        s.acquire()
        check_equal(len(s.e.requests("SandboxGetTaskId")), 2)


@test
def tags_that_cannot_be_set_are_a_warning():
    with session() as s:
        s.e.fault(rpc="SandboxTagsSet", status=[7, "no tags"])
        lease = s.acquire()
        check_equal(s.warnings(), [f"Failed to set tags on Modal sandbox {lease['providerLeaseId']}: "
                                   "/modal.client.ModalClient/SandboxTagsSet PERMISSION_DENIED: no tags"])


@test
def a_sandbox_that_runs_as_another_task_is_found_again():
    with session() as s:
        lease = s.acquire()
        for stdin in ({}, {"stdin": "x"}):
            s.e.move(lease["providerLeaseId"])
            check_equal(s.execute(lease, "cat" if stdin else "true", [], stdin)["exitCode"], 0)


@test
def a_sandbox_that_dies_under_a_command_says_so():
    with session() as s:
        lease = s.acquire()
        key = s.send_execute(lease, "sh", ["-c", "echo up; exec sleep 1000"])
        s.w.until(lambda: s.w.live_text(key) == "up\n", "it runs")
        s.e.fault(rpc="TaskExec.*", status=[5, "task not found"], times=None)
        s.e.end(lease["providerLeaseId"])
        message = s.w.answer(key)
        if "error" in message:
            check_match(message["error"]["message"], "Modal sandbox .* ended while the command was running: .*")
        else:
            check_equal(message["result"]["exitCode"], 137)
        s.e.clear_faults()
        check_equal(s.execute(lease, "true"), GONE)
        check_equal(s.lease_call("ResumeLease", lease, reuseLease=True), {"providerLeaseId": None, "metadata": {"expired": True}})
        check_equal(s.call("RealizeWorkspace", {"lease": {"providerLeaseId": lease["providerLeaseId"]}, "workspace": {"localPath": "/l"}}),
                    {"cwd": "/l", "metadata": {"provider": "modal", "remoteCwd": "/l"}})


@test
def a_file_that_cannot_be_written_fails_at_once_with_its_reason():
    with session() as s:
        lease = s.acquire()
        s.e.fault(rpc="ContainerFilesystemExecGetOutput", status=[UNAVAILABLE, "x"], times=3)
        check_equal(s.execute(lease, "cat", [], {"stdin": "x"})["stdout"], "x")
        since = len(s.e.calls())
        s.e.fault(rpc="ContainerFilesystemExec", body="file_write", status=[9, "No space left on device"])
        check_match(s.w.error(s.send_execute(lease, "cat", [], {"stdin": "x"}))["message"], ".*No space left on device")
        check_equal(len(s.e.requests("ContainerFilesystemExec", since=since)), 3)
        check_equal(s.scripts(since)[-1][:6], "rm -f ")
        since = len(s.e.calls())
        s.e.fault(rpc="ContainerFilesystemExecGetOutput", skip=1, answer={"error": {"error_code": 28, "error_message": "No space left on device"}})
        error = s.w.error(s.send_execute(lease, "cat", [], {"stdin": "x"}))
        check_equal((error["code"], error["message"]), (-32002, "No space left on device"))
        check_equal(len(s.e.requests("ContainerFilesystemExecGetOutput", since=since)), 3)
        s.e.wait_for(lambda m: m.state()["openFiles"] == 0, "the file is closed")


@test
def ids_of_the_second_generation_are_called_by_its_names():
    with session() as s:
        check_equal(s.lease_call("ResumeLease", "sb2-other", reuseLease=True)["metadata"], {"expired": True})
        check_equal(s.e.calls()[-1], "SandboxWaitV2")
        s.e.behave(firstGenerationOnly=True)
        check_equal(s.lease_call("DestroyLease", "sb2-other"), None)
        check_equal(s.e.calls()[-2:], ["SandboxTerminateV2", "SandboxTerminate"])


PASSING = [{"reset": True}, {"reset": True, "after": True}, {"rst": 2}, {"rst": 8, "after": True}, {"goaway": 0}, {"goaway": 1, "after": True},
           {"end": True}, {"end": True, "after": True}, {"half": True}, {"compressed": True}, {"http": 502}, {"status": [4, "late"]},
           {"status": [13, "odd"], "after": True}, {"status": [14, "lost"], "after": True}, {"status": [16, "again"]}]
FINAL = [{"status": [3, "no"]}, {"status": [7, "no"]}, {"status": [8, "no"]}, {"garbage": True}, {"empty": True}]
BY_SANDBOX = ["SandboxWait", "SandboxGetTaskId"]
BY_TASK = ["TaskGetCommandRouterAccess", "ContainerFilesystemExec", "TaskExecStart", "TaskExecStdioRead", "TaskExecWait"]


@test
def each_call_of_a_command_may_fail_once_in_any_way_and_the_command_runs_once():
    with session() as s:
        cases = [(rpc, way, final) for rpc in BY_SANDBOX + BY_TASK for ways, final in ((PASSING, False), (FINAL, True)) for way in ways
                 if (rpc, way) != ("TaskExecStdioRead", {"empty": True})]  # a stream may be empty
        s.e.behave(idle=True)
        keys = [s.send_acquire(environment=f"made-{n}") for n in range(len(cases))]
        leases = [s.w.result(key)["providerLeaseId"] for key in keys]
        s.e.behave()
        os.mkdir(s.workdir)
        tasks = {sandbox["id"]: sandbox["taskId"] for sandbox in s.e.state()["sandboxes"]}
        for lease, (rpc, way, _) in zip(leases, cases):
            s.e.fault(rpc=rpc, body=lease if rpc in BY_SANDBOX else tasks[lease], **way)
        # In another environment: as a worker that knows nothing of them.
        keys = [s.send_execute(lease, "sh", ["-c", f"echo ran >>'{s.workdir}/{n}'; cat; echo hi"], {"stdin": "in "} if "File" in rpc else {},
                               environment=f"used-{n}") for n, (lease, (rpc, _, _)) in enumerate(zip(leases, cases))]
        for n, (key, (rpc, way, final)) in enumerate(zip(keys, cases)):
            answer = s.w.answer(key)
            ran = os.path.exists(f"{s.workdir}/{n}") and open(f"{s.workdir}/{n}", encoding="ascii").read()
            if "result" in answer:
                check_equal((answer["result"]["exitCode"], answer["result"]["stdout"][-3:], ran), (0, "hi\n", "ran\n"), f"{rpc} {way}")
            else:
                check(final and answer["error"]["message"] and ran in (False, "ran\n"), f"{rpc} {way}: {answer} {ran}")


# --- connections ---


@test
def connections_that_go_away_lose_no_command():
    with session(tls=True) as s:
        lease = s.acquire()
        go = os.path.join(s.workdir, "go")
        keys = [s.send_execute(lease, "sh", ["-c", f"echo {n}; until test -e '{go}'; do sleep 0.05; done"]) for n in range(20)]
        s.e.wait_for(lambda m: m.state()["running"] == 20, "the commands run")
        s.e.go_away()
        keys += [s.send_execute(lease, "echo", [str(n)]) for n in range(20, 40)]
        with open(go, "w", encoding="ascii"):
            pass
        for n, key in enumerate(keys):
            check_equal(s.w.result(key), result(stdout=f"{n}\n"))
        starts = [one["request"]["exec_id"] for one in s.e.requests("TaskExecStart")]
        check(len(set(starts)) == 41, "each was started under its own id")


@test
def a_router_is_called_at_its_host_and_port_and_only_if_it_is_https():
    with session() as s:
        port = s.e.server_url.rpartition(":")[2]
        s.e.behave(routerUrl=f"https://localhost:{port}/somewhere?x=1")
        check_equal(s.sh(s.acquire(), "echo hi"), result(stdout="hi\n"))
        s.e.behave(routerUrl=f"http://127.0.0.1:{port}")
        check_equal(s.error("AcquireLease", {"runId": "r"})["message"], f"Task router URL must be https, got: http://127.0.0.1:{port}")
        s.e.behave(routerUrl="https:///")
        check_equal(s.error("AcquireLease", {"runId": "r"})["message"], "Modal answered with a task router that has no valid address")


@test
def a_router_that_moves_is_followed():
    with session() as s:
        s.e.behave(routerLifeS=LIFE_S)
        lease = s.acquire()
        time.sleep(LIFE_S + 0.1)
        s.e.behave(routerUrl=f"https://localhost:{s.e.server_url.rpartition(':')[2]}")
        check_equal(s.sh(lease, "echo hi"), result(stdout="hi\n"))


# --- answers ---


@test
def answers_that_make_no_sense_are_errors():
    with session() as s:
        for rpc, way, text in (
                ("AuthTokenGet", {"answer": {"token": ""}}, "Internal error: did not receive auth token from server, please contact Modal support"),
                ("AppGetOrCreate", {"answer": {}}, "Modal answered AppGetOrCreate without an id"),
                ("AppGetOrCreate", {"raw": "CgL//w=="}, "Modal's answer to AppGetOrCreate is malformed"),
                ("ImageGetOrCreate", {"raw": "CgFpEgYIAhIC//8="}, "Modal's answer to ImageGetOrCreate is malformed"),
                ("TaskGetCommandRouterAccess", {"answer": {}}, "Task router URL must be https, got: ")):
            s.e.fault(rpc=rpc, **way)
            check_equal(s.error("AcquireLease", {"runId": "r"})["message"], text)
        s.no_live()


@test
def the_router_may_ask_for_a_pause_too():
    with session() as s:
        lease = s.acquire()
        s.e.fault(rpc="TaskExecStart", status=[8, "slow down"], retryAfter=0.1, times=3)
        s.e.fault(rpc="TaskExecStdioRead", status=[8, "slow down"], retryAfter=0.1)
        check_equal(s.sh(lease, "echo hi"), result(stdout="hi\n"))
        check_equal(len(s.e.requests("TaskExecStart")), 5)


@test
def a_task_that_is_not_known_is_no_end_of_the_sandbox():
    with session() as s:
        lease = s.sandbox()
        s.e.fault(rpc="TaskGetCommandRouterAccess", status=[5, "no such task"])
        error = s.error("ResumeLease", {"providerLeaseId": lease}, reuseLease=True, environment="env-2")
        check_equal((error["code"], error["message"]), (5, "/modal.client.ModalClient/TaskGetCommandRouterAccess NOT_FOUND: no such task"))


main()
