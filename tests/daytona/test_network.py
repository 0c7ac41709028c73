#!/usr/bin/python3
"""A whole lease over TLS with a private certificate authority, and through a proxy; and its requests, compared with a recorded run."""

import json
import os
import re
import ssl
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(1, os.path.join(HERE, "..", "lib"))

import stub_http_server  # noqa: E402
from driver import session  # noqa: E402
from emulation.relay import Relay  # noqa: E402
from harness import check, check_equal, check_match, main, test  # noqa: E402


def whole_life(s, **config):
    lease = s.acquire(**config)
    check_equal(s.execute(lease, "cat", [], {"stdin": "over the wire"}, **config)["stdout"], "over the wire")
    check_equal(s.execute(lease, "echo", ["streamed"], useSessions=True, useLogStream=True, **config)["stdout"], "streamed\n")
    check_equal(s.lease_call("DestroyLease", lease, **config), None)
    s.no_live()


@test
def a_lease_lives_over_tls_with_a_certificate_authority_of_ones_own_and_through_a_proxy():
    with tempfile.TemporaryDirectory(prefix="psw tls ") as certificates:
        stub_http_server.make_certificates(certificates)
        context = stub_http_server.tls(certificates, "good", ["http/1.1"])
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        with session() as s:
            front = Relay(int(s.e.url.rpartition(":")[2]), context)
            proxy = Relay(proxy=True, credentials="dXNlcjpwQHNzIHdvcmQ=")
            url = f"https://127.0.0.1:{front.port}"
            s.e.behave(toolboxUrl=f"{url}/toolbox")
            s.e.toolbox(idleLooks=2)
            config = {"apiUrl": f"{url}/api", "caFile": os.path.join(certificates, "ca.pem")}
            whole_life(s, **config)
            check_equal(proxy.asked, [])
            error = s.error("AcquireLease", {"runId": "r"}, apiUrl=config["apiUrl"])["message"]
            check_match(error, r".*not trusted: its CA is not known here.*")
            # What is on this machine is reached without the proxy; this name only the proxy knows.
            url = f"https://service.test:{front.port}"
            s.e.behave(toolboxUrl=f"{url}/toolbox")
            config["apiUrl"] = f"{url}/api"
            whole_life(s, proxyUrl=proxy.url, proxyCredentials="user:p@ss word", **config)
            check(proxy.asked and all(line == f"CONNECT service.test:{front.port} HTTP/1.1" for line, _ in proxy.asked), f"{proxy.asked}")
            for proxy_config in ({}, {"proxyCredentials": "user:wrong"}):
                error = s.error("AcquireLease", {"runId": "r"}, proxyUrl=proxy.url, **proxy_config, **config)["message"]
                check_match(error, r".*proxy.*")
            s.no_live()
            front.close()
            proxy.close()


# --- a recorded run ---


def recorded(s, request, names):
    """The request as the service gets it, with what is made up each time under a name."""
    def plain(text):
        for value, name in names.items():
            text = text.replace(value, name)
        text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uuid>", text)
        text = re.sub(r'("writtenAt": )"[^"]*"', r'\1"<time>"', text)
        return text

    body = plain(request["body"])
    kind = request["headers"].get("content-type", "")
    if kind.startswith("multipart/"):
        boundary = kind.rpartition("boundary=")[2]
        body, kind = body.replace(boundary, "<boundary>"), kind.replace(boundary, "<boundary>")
    headers = {name: request["headers"][name] for name in ("accept", "authorization", "user-agent", "x-daytona-sdk-version", "x-daytona-source")}
    return {"method": request["method"], "target": plain(request["target"]), "headers": {**headers, **({"content-type": kind} if kind else {})},
            "body": body, "status": request["status"]}


@test
def the_requests_of_a_whole_run_are_the_recorded_ones():
    path = os.path.join(HERE, "data", "run.json")
    with session() as s:
        config = {"snapshot": ..., "image": "node:20", "cpu": 2, "reuseLease": True, "target": "us"}
        lease = s.acquire({"agentId": "agent-1", "executionWorkspaceId": "ws-1", "adapterType": "claude_local"}, **config)
        box, cwd = lease["providerLeaseId"], lease["metadata"]["remoteCwd"]
        s.call("RealizeWorkspace", {"lease": {"providerLeaseId": box, "metadata": lease["metadata"]}, "workspace": {}}, **config)
        s.execute(lease, "printf", ["it's %s", "ü"], {"cwd": cwd, "env": {"FOO": "bar"}, "timeoutMs": 1500}, **config)
        s.execute(lease, "cat", [], {"stdin": "input\n"}, **config)
        s.lease_call("ReleaseLease", lease, **config)
        s.lease_call("ResumeLease", lease, {"leaseMetadata": lease["metadata"]}, **config)
        s.lease_call("DestroyLease", lease, **config)
        home = cwd.removesuffix("/paperclip-workspace")
        names = {home.replace("/", "%2F"): "<home>", home: "<home>", box: "<id>", lease["metadata"]["workspaceSentinel"]["token"]: "<token>"}
        got = [recorded(s, request, names) for request in s.e.requests()]
    if os.environ.get("PSW_RECORD"):
        with open(path, "w", encoding="utf-8") as file:
            file.write(json.dumps(got, indent=1, ensure_ascii=False) + "\n")
    with open(path, encoding="utf-8") as file:
        want = json.load(file)
    for number, (one, other) in enumerate(zip(got, want)):
        check_equal(one, other, f"request {number}")
    check_equal(len(got), len(want), "requests")


main()
