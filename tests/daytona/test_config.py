#!/usr/bin/python3
"""wire: daytona, Config: every row, by name."""

from driver import KEY, SEED_KEYS, session
from harness import check_equal, main, test


def validate(s, **config):
    return s.w.call("environmentValidateConfig", {"driverKey": "daytona", "config": {"apiKey": KEY, **config}})


def normalized(s, **config):
    return validate(s, **config)["normalizedConfig"]


def errors(s, **config):
    return validate(s, **config).get("errors", [])


@test
def the_defaults_are_the_documented_ones():
    with session() as s:
        got = normalized(s)
        check_equal(list(got), SEED_KEYS)
        check_equal(got, {"apiKey": KEY, "apiUrl": None, "target": None, "snapshot": None, "image": None, "language": None, "timeoutMs": 300000,
                          "cpu": None, "memory": None, "disk": None, "gpu": None, "autoStopInterval": 15, "autoArchiveInterval": 60,
                          "autoDeleteInterval": 10080, "reuseLease": False})


@test
def texts_are_trimmed_and_anything_else_is_none():
    with session() as s:
        for key in ("target", "language", "apiUrl"):
            for value, want in ((" https://x ", "https://x"), ("  ", None), ("", None), (5, None), (None, None), (True, None), ([], None)):
                check_equal(normalized(s, **{key: value})[key], want, f"{key} {value!r}")
        for key in ("snapshot", "image"):
            check_equal(normalized(s, **{key: " x "})[key], "x")
            check_equal(normalized(s, **{key: 5})[key], None)


@test
def timeoutMs_is_a_number_or_the_text_of_one():
    with session() as s:
        for value, want in ((1, 1), ("450000.9", 450000), (1000.9, 1000), (None, 300000), ("x", 300000), ("86400000", 86400000)):
            check_equal(normalized(s, timeoutMs=value)["timeoutMs"], want, f"{value!r}")
        for value in (0, "", -1, 0.9, 86400001, False):
            check_equal(errors(s, timeoutMs=value), ["timeoutMs must be between 1 and 86400000."], f"{value!r}")


@test
def cpu_memory_disk_and_gpu_are_numbers_above_0_with_an_image_only():
    with session() as s:
        for key in ("cpu", "memory", "disk", "gpu"):
            for value, want in ((None, None), ("", None), ("4", 4), (True, 1), (0.5, 0.5), ("x", None)):
                check_equal(normalized(s, image="i", **{key: value})[key], want, f"{key} {value!r}")
            for value in (0, -1, "-2", False):
                check_equal(errors(s, image="i", **{key: value}), [f"{key} must be greater than 0 when provided."], f"{key} {value!r}")
            text = ("Daytona resource settings require image-backed sandbox creation; snapshot/default sandbox creation cannot override CPU, "
                    "memory, disk, or GPU.")
            check_equal((errors(s, **{key: 1}), errors(s, snapshot="s", **{key: 1})), ([text], [text]))


@test
def intervals_are_truncated_and_not_below_their_minimum():
    with session() as s:
        for key, default, least in (("autoStopInterval", 15, 0), ("autoArchiveInterval", 60, 0), ("autoDeleteInterval", 10080, -1)):
            for value, want in ((least, least), ("7.9", 7), (-0.5, 0), (None, default), ("", default), ("x", default)):
                check_equal(normalized(s, **{key: value})[key], want, f"{key} {value!r}")
            check_equal(errors(s, **{key: least - 1}), [f"{key} must be greater than or equal to {least}."])


@test
def flags_are_true_for_true_only_and_the_newer_ones_appear_only_then():
    with session() as s:
        for value in (True, False, "true", 1, None):
            check_equal(normalized(s, reuseLease=value)["reuseLease"], value is True)
            for key in ("archiveOnRelease", "useSessions", "useLogStream"):
                check_equal(normalized(s, **{key: value}).get(key), True if value is True else None, f"{key} {value!r}")


@test
def blank_images_and_snapshots_and_both_at_once_are_errors():
    with session() as s:
        check_equal(errors(s, image=" "), ["Daytona image cannot be empty."])
        check_equal(errors(s, snapshot=""), ["Daytona snapshot cannot be empty."])
        check_equal(errors(s, image="i", snapshot="s"), ["Daytona sandbox environments must set either image or snapshot, not both."])


@test
def apiUrl_is_what_a_browser_takes_for_a_url():
    with session() as s:
        for url in ("not-a-url", "app.daytona.io/api", "::", "http://", "//h"):
            check_equal(errors(s, apiUrl=url), ["apiUrl must be a valid URL."], url)
        for url in ("ftp://h", "localhost:3000", "https://app.daytona.io/api/", "http://[::1]:3000/api"):
            check_equal(normalized(s, apiUrl=url)["apiUrl"], url)


@test
def all_errors_come_in_their_order():
    with session() as s:
        got = s.w.call("environmentValidateConfig", {"driverKey": "daytona", "config": {
            "image": " ", "snapshot": " ", "apiUrl": "::", "timeoutMs": 0, "autoStopInterval": -1, "autoArchiveInterval": -1,
            "autoDeleteInterval": -2, "cpu": 0, "memory": 0, "disk": 0, "gpu": 0}})
        check_equal(got, {"ok": False, "errors": [
            "Daytona image cannot be empty.", "Daytona snapshot cannot be empty.", "apiUrl must be a valid URL.",
            "timeoutMs must be between 1 and 86400000.", "autoStopInterval must be greater than or equal to 0.",
            "autoArchiveInterval must be greater than or equal to 0.", "autoDeleteInterval must be greater than or equal to -1.",
            "Daytona sandbox environments require an API key in config or DAYTONA_API_KEY.",
            "Daytona resource settings require image-backed sandbox creation; snapshot/default sandbox creation cannot override CPU, memory, "
            "disk, or GPU.", "cpu must be greater than 0 when provided.", "memory must be greater than 0 when provided.",
            "disk must be greater than 0 when provided.", "gpu must be greater than 0 when provided."]})


@test
def the_environment_gives_what_the_config_leaves_out():
    for name in ("DAYTONA_API_URL", "DAYTONA_SERVER_URL"):
        with session(env=lambda e: {"DAYTONA_API_KEY": f" {KEY} ", "DAYTONA_TARGET": " eu ", name: f"{e.url}/api/"}) as s:
            config = {"apiKey": ..., "apiUrl": ...}
            lease = s.acquire(**config)
            check_equal(lease["metadata"]["target"], "eu")
            s.lease_call("DestroyLease", lease, **config)
            s.no_live()


main()
