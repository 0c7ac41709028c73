#!/usr/bin/python3
"""wire: cloudflare, Config: parsing, errors, and the recorded verdicts on URLs."""

from driver import session
from harness import Worker, check, check_equal, main, test

GOOD = {"bridgeBaseUrl": "https://b.example", "bridgeAuthToken": "t"}
DEFAULTS = {**GOOD, "reuseLease": False, "keepAlive": False, "normalizeId": True, "sleepAfter": "1h", "requestedCwd": "/workspace/paperclip",
            "sessionStrategy": "named", "sessionId": "paperclip", "timeoutMs": 300000, "bridgeRequestTimeoutMs": 300000, "previewHostname": None}
HTTPS = "bridgeBaseUrl must use HTTPS unless it points at localhost."
VALID = "bridgeBaseUrl must be a valid URL."

PASS = ["https://b.example", "HTTPS://B.Example:8443/p/", "http://localhost", "http://LOCALHOST:8787/", "http://127.0.0.1:8787",
        "http://127.1", "http://2130706433/", "http://0x7f.0.0.1", "https:b.example", "https:/b.example", "https:\\\\b.example",
        "http://lo\tcalhost", "https://bücher.example", "https://user:pw@b.example", "https://b.example/?x=1#y"]
NOT_HTTPS = ["http://[::1]:8787", "http://127.0.0.2", "http://0.0.0.0:1", "http://localhost.", "http://sub.localhost",
             "http://localhost.evil.example", "http://localhost@evil.example", "http://evil.example#localhost", "ftp://b.example",
             "ws://localhost", "localhost:8787", "javascript:alert(1)"]
NOT_VALID = ["b.example", "/relative", "//b.example", "https://", "https://b example", "https://b.example:99999", "https://[::1",
             "https://%zz"]


def validate(w, config):
    return w.call("environmentValidateConfig", {"driverKey": "cloudflare", "config": config})


@test
def urls_get_the_recorded_verdicts():
    with Worker() as w:
        for urls, errors in ((PASS, None), (NOT_HTTPS, [HTTPS]), (NOT_VALID, [VALID])):
            for url in urls:
                got = validate(w, {**GOOD, "bridgeBaseUrl": url})
                check_equal((got["ok"], got.get("errors")), (errors is None, errors), url)
                if errors is None:
                    check_equal(got["normalizedConfig"]["bridgeBaseUrl"], url)


@test
def a_url_that_is_valid_but_of_no_use_is_warned_of():
    with Worker() as w:
        for url, warnings in (("https://b.example/p", 0), ("https://b.example/?x=1#y", 1), ("https://user:pw@b.example", 1)):
            check_equal(len(validate(w, {**GOOD, "bridgeBaseUrl": url}).get("warnings", [])), warnings, url)


@test
def the_normal_form_has_all_fields_and_no_unknown_ones():
    with Worker() as w:
        check_equal(validate(w, {**GOOD, "unknown": 1})["normalizedConfig"], DEFAULTS)
        more = {"proxyUrl": "http://proxy.example:3128", "caFile": "/etc/ca.pem"}
        check_equal(validate(w, {**GOOD, **more})["normalizedConfig"], {**DEFAULTS, **more})


@test
def each_field_is_parsed_as_it_always_was():
    blank = "\u00a0\ufeff\u2003\u2028\u3000\u1680\u202f\u205f \t"
    cases = [("bridgeBaseUrl", f"{blank}https://b.example/{blank}", "https://b.example/"), ("bridgeAuthToken", " t\n", "t")]
    cases += [(key, value, value is True) for key in ("keepAlive", "normalizeId") for value in (True, False, None, "true", 1)]
    cases += [(key, value, want) for key, default in (("sleepAfter", "1h"), ("requestedCwd", "/workspace/paperclip"), ("sessionId", "paperclip"),
                                                      ("previewHostname", None))
              for value, want in ((" /x ", "/x"), (blank, default), (None, default), (5, default), ("", default))]
    cases += [("sessionStrategy", value, "default" if value == "default" else "named") for value in ("default", "named", " default", "Default", 1, None)]
    cases += [(key, value, want) for key in ("timeoutMs", "bridgeRequestTimeoutMs")
              for value, want in ((True, 1), (" 1e3 ", 1000), ("0x10", 16), ("0b11", 3), ("+5", 5), ([7], 7), (1.9, 1), ("12abc", 300000),
                                  ("1_000", 300000), ({}, 300000), ("Infinity", 300000), ("86400000", 86400000))]
    with Worker() as w:
        for key, value, want in cases:
            check_equal(validate(w, {**GOOD, key: value})["normalizedConfig"][key], want, f"{key} {value!r}")
        check_equal(validate(w, {**GOOD, "reuseLease": True, "keepAlive": True})["normalizedConfig"]["reuseLease"], True)


@test
def every_error_comes_and_in_the_documented_order():
    with Worker() as w:
        check_equal(validate(w, {}), {"ok": False, "errors": ["Cloudflare sandbox environments require bridgeBaseUrl.",
                                                              "Cloudflare sandbox environments require bridgeAuthToken."]})
        bad = {"bridgeBaseUrl": "x", "bridgeAuthToken": " ", "reuseLease": True, "timeoutMs": None, "bridgeRequestTimeoutMs": 86400001,
               "requestedCwd": "relative", "sessionId": " ", "proxyUrl": "nonsense"}
        got = validate(w, bad)["errors"]
        check_equal(got[:-1], [VALID, "Cloudflare sandbox environments require bridgeAuthToken.",
                               "reuseLease requires keepAlive for Cloudflare sandboxes.", "timeoutMs must be between 1 and 86400000.",
                               "bridgeRequestTimeoutMs must be between 1 and 86400000.", "requestedCwd must be an absolute POSIX path."])
        check(got[-1].startswith("proxyUrl must be"), got)
        for value in ("", [], -1, 0.9, "-5"):
            check_equal(validate(w, {**GOOD, "timeoutMs": value})["errors"], ["timeoutMs must be between 1 and 86400000."], f"{value!r}")


@test
def a_config_that_no_request_can_be_made_with_is_refused_in_the_words_of_validation():
    cases = [({"bridgeBaseUrl": ...}, "Cloudflare sandbox environments require bridgeBaseUrl."), ({"bridgeBaseUrl": "b.example"}, VALID),
             ({"bridgeBaseUrl": "http://b.example"}, HTTPS), ({"bridgeAuthToken": ""}, "Cloudflare sandbox environments require bridgeAuthToken."),
             ({"caFile": "relative"}, "caFile must be an absolute path.")]
    with session() as s:
        for config, text in cases:
            for method, more in (("AcquireLease", {"runId": "r"}), ("ResumeLease", {"providerLeaseId": "l"}),
                                 ("ReleaseLease", {"providerLeaseId": "l"}), ("DestroyLease", {"providerLeaseId": "l"}),
                                 ("RealizeWorkspace", {"lease": {"providerLeaseId": "l"}, "workspace": {}}),
                                 ("Execute", {"lease": {"providerLeaseId": "l"}, "command": "true"})):
                check_equal(s.error(method, more, **config)["message"], text, f"{method} with {config}")
            probe = s.call("Probe", **config)
            check_equal((probe["ok"], probe["metadata"], [step["code"] for step in probe["diagnostics"]]),
                        (False, {"provider": "cloudflare", "error": text}, ["config"]))
        check_equal(s.e.requests(), [])


main()
