#!/usr/bin/python3
"""Leases of the docker driver at a real engine: made as asked for, used, stopped, started again, removed."""

from driver import check_includes, lease, session
from harness import check, check_equal, check_match, main, test

LEASE_ID = r"paperclip-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


@test
def a_lease_is_a_container_that_runs_commands_and_is_removed():
    with session() as s:
        made = s.acquire()
        lease_id = made["providerLeaseId"]
        check_match(lease_id, LEASE_ID)
        check_includes(made["metadata"], {"provider": "docker", "containerName": lease_id, "engine": "podman", "remoteCwd": "/workspace",
                                          "shellCommand": "sh", "reuseLease": False})
        check_equal(s.e.containers(), {lease_id: "running"})
        result = s.sh(made, "pwd; echo oops >&2; exit 3")
        check_includes(result, {"exitCode": 3, "timedOut": False, "stdout": "/workspace\n", "stderr": "oops\n"})
        check_equal(s.lease_call("ReleaseLease", made), {"providerLeaseId": lease_id, "state": "destroyed"})
        check_equal(s.e.containers(), {})


@test
def realize_makes_the_directory_that_is_asked_for():
    with session() as s, lease(s) as made:
        answer = s.call("RealizeWorkspace", {"lease": s.reference(made), "workspace": {}})
        check_equal(answer["cwd"], "/workspace")
        answer = s.call("RealizeWorkspace", {"lease": {"providerLeaseId": made["providerLeaseId"]}, "workspace": {"remotePath": "/srv/a b/c"}})
        check_equal(answer["cwd"], "/srv/a b/c")
        check_equal(s.sh(made, "pwd", {"cwd": "/srv/a b/c"})["stdout"], "/srv/a b/c\n")


main()
