#!/usr/bin/python3
"""Both services over TLS with a certificate authority of one's own, behind a proxy."""

from driver import Novita, result, session
from harness import check, check_equal, main, test


@test
def a_lease_lives_behind_a_proxy_with_a_private_certificate():
    with session("--tls") as s:
        network = {"proxyUrl": s.e.urls["proxyUrl"], "proxyCredentials": "user:pass-word", "caFile": s.e.urls["caFile"]}
        check(s.call("Probe", **network)["ok"], "the probe")
        lease = s.acquire(**network)
        check_equal(s.execute(lease, "cat", [], {"stdin": "hi\n"}, **network), result(0, "hi\n"))
        s.lease_call("DestroyLease", lease, **network)
        s.no_live()
        check_equal({tuple(connect) for connect in s.e.state()["connects"]}, {("CONNECT e2b.test:443 HTTP/1.1", "Basic dXNlcjpwYXNzLXdvcmQ=")})


@test
def what_is_wrong_with_the_network_is_said_and_the_service_is_never_asked():
    with session("--tls") as s:
        network = {"proxyUrl": s.e.urls["proxyUrl"], "proxyCredentials": "user:pass-word", "caFile": s.e.urls["caFile"], "requestTimeoutMs": 20000}
        for change, text in (({"caFile": ...}, "the TLS certificate of e2b.test"), ({"proxyUrl": ...}, "getaddrinfo ENOTFOUND e2b.test"),
                             ({"caFile": "/no/such.pem"}, "/no/such.pem"), ({"apiUrl": "http://api.example"}, "http")):
            got = s.call("Probe", **{**network, **change})
            check(text in got["metadata"]["error"], got["metadata"]["error"])
            check("pass-word" not in str(got), "credentials")
        check_equal(s.e.requests(), [])


def hosts(s):
    return {line.split()[1].removesuffix(":443") for line, _ in s.e.state()["connects"]}


@test
def the_services_are_where_the_domain_says():
    with session("--tls") as s:
        other = Novita(s.w, s.e)
        network = {"proxyUrl": s.e.urls["proxyUrl"], "proxyCredentials": "user:pass-word", "caFile": s.e.urls["caFile"], "apiUrl": ..., "sandboxUrl": ...}
        seen = set()
        for driver, domain, answered, api, envd in ((s, "e2b.test", None, "api.e2b.test", "49983-<id>.e2b.test"), (s, ..., "", "api.e2b.app", "sandbox.e2b.app"),
                                                    (s, "e2b.test", "e2b.app", "api.e2b.test", "sandbox.e2b.app"),
                                                    (other, "e2b.test", None, "api.e2b.test", "49983-<id>.e2b.test"),
                                                    (other, ..., None, "api.sandbox.novita.ai", "49983-<id>.sandbox.novita.ai")):
            s.e.behave(domain=answered)
            got = driver.call("AcquireLease", {"runId": "r", "requestedCwd": "/tmp"}, domain=domain, **network)
            seen |= {api, envd.replace("<id>", got["providerLeaseId"])}
            check_equal(hosts(s), seen, f"{driver.driver} {domain} {answered}")
            if driver is s:
                check_equal(got["metadata"]["sandboxDomain"], answered or ("e2b.app" if domain is ... else domain))


@test
def the_environment_may_say_the_domain_and_the_address():
    for driver, env in (("e2b", {"E2B_DOMAIN": "e2b.test"}), ("novita", {"NOVITA_DOMAIN": "e2b.test"}), ("novita", {"NOVITA_API_URL": "api.e2b.test", "NOVITA_SANDBOX_URL": "e2b.test/"})):
        with session("--tls", driver=driver, env=env) as s:
            lease = s.acquire({"requestedCwd": "/tmp"}, proxyUrl=s.e.urls["proxyUrl"], proxyCredentials="user:pass-word", caFile=s.e.urls["caFile"],
                              apiUrl=..., sandboxUrl=...)
            envd = "e2b.test" if "NOVITA_SANDBOX_URL" in env else f"49983-{lease}.e2b.test"
            check_equal(hosts(s), {"api.e2b.test", envd})


main()
