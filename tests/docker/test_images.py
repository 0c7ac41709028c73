#!/usr/bin/python3
"""Images: pulled as the policy says, with credentials, told of in the log; templates that a person has set up."""

from driver import Engine, check_includes, lease, session
from harness import check, check_equal, check_match, main, test

PUBLIC = "127.0.0.1:5000/sandbox:1"
PRIVATE = "127.0.0.1:5000/private:1"
PASSWORD = "s3cret-password"


def forget(engine, image):
    engine.api("DELETE", f"/images/{image}?force=true")


@test
def an_image_that_is_missing_is_pulled_with_its_progress_in_the_log():
    with session(pullPolicy="missing", image=PUBLIC) as s:
        s.e.control("registry")
        forget(s.e, PUBLIC)
        with lease(s) as made:
            check_equal(s.sh(made, "echo fine")["stdout"], "fine\n")
        check_equal(s.logs()[0], f"Pulling {PUBLIC}")
        check(any(line.startswith(f"Pulling {PUBLIC}: ") for line in s.logs()), s.logs())
        seen = len(s.logs())
        with lease(s):
            check_equal(len(s.logs()), seen, "log lines when the image is there")
        with lease(s, pullPolicy="always"):
            check_equal(s.logs()[seen], f"Pulling {PUBLIC}")
        forget(s.e, PUBLIC)
        check("pullPolicy is never" in s.error("AcquireLease", {"runId": "r"}, pullPolicy="never")["message"], "it was pulled")


@test
def a_private_image_needs_its_credentials_which_nobody_sees():
    with session(pullPolicy="missing", image=PRIVATE) as s:
        error = s.error("AcquireLease", {"runId": "r"})
        check_match(error["message"], f"The image {PRIVATE} cannot be pulled by the engine at .*Are registryUsername and registryPassword right.*")
        error = s.error("AcquireLease", {"runId": "r"}, registryUsername="agent", registryPassword="wrong-password")
        check("wrong-password" not in error["message"], error)
        # Two at a time, each with its own pull.
        keys = [s.send("AcquireLease", {"runId": "r"}, registryUsername="agent", registryPassword=PASSWORD) for _ in range(2)]
        for key in keys:
            made = s.w.result(key)
            check(PASSWORD not in str(made), made)
            s.destroy(made)
        check(PASSWORD not in str(s.w.notes), "the password is in the log")
        forget(s.e, PRIVATE)


@test
def a_pull_that_fails_says_what_the_engine_says():
    with session(pullPolicy="missing") as s:
        for image, pattern in [("127.0.0.1:5000/sandbox:none", r".*cannot be pulled.*manifest unknown.*The registry has no such tag\."),
                               ("127.0.0.1:1/sandbox:1", ".*cannot be pulled.*connection refused.*"),
                               ("sandbox-short-name", ".*cannot be pulled.*short-name.*")]:
            check_match(s.error("AcquireLease", {"runId": "r"}, image=image)["message"], pattern)


@test
def a_template_is_set_up_captured_used_and_deleted():
    with session() as s:
        started = s.call("StartInteractiveSetup", {"sessionId": "s-1", "expiresAt": "2099-01-01T00:00:00.000Z"})
        name = started["providerLeaseId"]
        check_includes(started, {"status": "waiting_for_user", "connectionSummary": {"type": "docker_exec"},
                                 "connectionPayload": {"type": "docker_exec", "command": f"podman exec -it {name} sh"}})
        check_equal(s.e.containers(), {name: "running"})
        s.sh(name, "echo by hand >/etc/made; echo lost >/tmp/x")
        seen = s.call("GetInteractiveSetup", {"providerLeaseId": name})
        check_equal((seen["status"], seen["connectionPayload"]), ("waiting_for_user", None))
        captured = s.call("CaptureTemplate", {"providerLeaseId": name, "templateLabel": "Agents' tools, v1 é"})
        check_match(captured["templateRef"], r"localhost/paperclip-template:Agents-tools-v1-\d+")
        check_equal(captured["templateKind"], "image")
        check_equal(s.call("CancelInteractiveSetup", {"providerLeaseId": name, "reason": "cancelled"})["status"], "cancelled")
        check_equal(s.call("CancelInteractiveSetup", {"providerLeaseId": name})["status"], "missing")
        check_equal(s.call("GetInteractiveSetup", {"providerLeaseId": name})["status"], "missing")
        with lease(s, image=captured["templateRef"]) as made:
            check_equal(s.sh(made, "cat /etc/made; pwd; env | grep -c PSW_EXEC")["stdout"], "by hand\n/workspace\n1\n")
        deleted = s.call("DeleteTemplate", {"templateRef": captured["templateRef"], "templateKind": "image"})
        check_includes(deleted, {"deleted": True, "metadata": {"missing": False}})
        check(captured["templateRef"] not in s.e.images(), s.e.images())
        check_includes(s.call("DeleteTemplate", {"templateRef": captured["templateRef"]}), {"deleted": True, "metadata": {"missing": True}})
        for reference, text in [("localhost/sandbox:latest", "is no template of this driver"), ("../containers/x", "no image"),
                                ("", "templateRef")]:
            check(text in s.error("DeleteTemplate", {"templateRef": reference})["message"], reference)
        check("localhost/sandbox:latest" in s.e.images(), "the image is gone")


@test
def a_setup_that_fails_leaves_nothing():
    with session() as s:
        check("message" in s.error("StartInteractiveSetup", {"sessionId": "s-1", "sourceTemplateRef": "localhost/none:1"}), "it started")
        check("message" in s.error("StartInteractiveSetup", {"sessionId": "s-1", "sourceTemplateRef": "x?y"}), "it started")
        check("message" in s.error("CaptureTemplate", {"providerLeaseId": "paperclip-00000000-0000-4000-8000-000000000000"}), "it was captured")
        check_equal(Engine().containers(), {})


main()
