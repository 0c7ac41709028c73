#!/usr/bin/python3
"""The bridge over TLS with a certificate authority of one's own, behind a proxy."""

from driver import result, session
from harness import check, check_equal, main, test


@test
def a_lease_lives_behind_a_proxy_with_a_private_certificate():
    with session("--tls") as s:
        network = {"proxyUrl": s.e.urls["proxyUrl"], "proxyCredentials": "user:pass-word", "caFile": s.e.urls["caFile"]}
        check(s.call("Probe", **network)["ok"], "the probe")
        lease = s.acquire(**network)
        check_equal(s.execute(lease, "echo", ["hi"], **network), result(0, "hi\n"))
        check_equal(s.lease_call("DestroyLease", lease, **network), None)
        s.no_live()
        check_equal({tuple(connect) for connect in s.e.state()["connects"]}, {("CONNECT bridge.test:443 HTTP/1.1", "Basic dXNlcjpwYXNzLXdvcmQ=")})


@test
def what_is_wrong_with_the_network_is_said_and_the_bridge_is_never_asked():
    with session("--tls") as s:
        network = {"proxyUrl": s.e.urls["proxyUrl"], "proxyCredentials": "user:pass-word", "caFile": s.e.urls["caFile"]}
        for change, text in (({"caFile": ...}, "The TLS certificate of bridge.test".lower()), ({"proxyCredentials": ...}, "answered http 407"),
                             ({"proxyUrl": ...}, "getaddrinfo enotfound bridge.test"), ({"caFile": "/no/such.pem"}, "/no/such.pem")):
            error = s.error("AcquireLease", {"runId": "r"}, **{**network, **change})["message"]
            check(text in error.lower(), error)
            check("pass-word" not in error, error)
        check_equal(s.e.requests(), [])


main()
