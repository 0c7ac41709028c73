#!/usr/bin/python3
"""Both services over TLS with a certificate authority of one's own, behind a proxy."""

from driver import result, session
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
        network = {"proxyUrl": s.e.urls["proxyUrl"], "proxyCredentials": "user:pass-word", "caFile": s.e.urls["caFile"], "requestTimeoutMs": 1000}
        for change, text in (({"caFile": ...}, "the TLS certificate of e2b.test"), ({"proxyUrl": ...}, "getaddrinfo ENOTFOUND e2b.test"),
                             ({"caFile": "/no/such.pem"}, "/no/such.pem"), ({"apiUrl": "http://api.example"}, "http")):
            got = s.call("Probe", **{**network, **change})
            check(text in got["metadata"]["error"], got["metadata"]["error"])
            check("pass-word" not in str(got), "credentials")
        check_equal(s.e.requests(), [])


main()
