#!/usr/bin/python3
"""The config of the docker driver: what is refused and in which words, what it becomes, and what may not stand in it."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "worker"))

from harness import Worker, check, check_equal, main, test  # noqa: E402

WRONG = [
    ({"socketPath": 5}, "socketPath must be a string."),
    ({"socketPath": "run/docker.sock"}, "socketPath must be an absolute path."),
    ({"socketPath": "/run/../docker.sock"}, 'socketPath must not contain "..".'),
    ({"socketPath": "/" + "x" * 120}, "socketPath must have at most 107 characters."),
    ({"socketPath": "/x", "host": "tcp://x"}, "Set either socketPath or host, not both."),
    ({"host": "http://engine.example:2375"}, "host must be like"),
    ({"host": "https://me:pw@engine.example"}, "host must be like"),
    ({"host": "ftp://x"}, "host must be like"),
    ({"tlsKeyFile": "/k"}, "tlsKeyFile needs tlsCertFile."),
    ({"image": "a b"}, "image must be a name like"),
    ({"image": "../containers/x"}, "image must be a name like"),
    ({"image": "x?y"}, "image must be a name like"),
    ({"image": "a\u0000b"}, "image must not contain a null character."),
    ({"pullPolicy": "sometimes"}, 'pullPolicy must be "always", "missing" or "never".'),
    ({"registryPassword": "s3cret"}, "registryUsername and registryPassword belong together."),
    ({"workdir": "work"}, "workdir must be an absolute path."),
    ({"workdir": "/"}, "workdir must not be /."),
    ({"network": "host"}, "network must not be host"),
    ({"network": "container:other"}, "network must not be another container's"),
    ({"network": "ns:/proc/1/ns/net"}, "network must not be another container's"),
    ({"memoryMb": 1}, "memoryMb must be between 16 and 16777216."),
    ({"memoryMb": "much"}, "memoryMb must be a number."),
    ({"cpus": 0}, "cpus must be between 0.01 and 1024."),
    ({"pidsLimit": 2}, "pidsLimit must be between 8 and 4194304."),
    ({"timeoutMs": 0}, "timeoutMs must be between 1 and 86400000."),
    ({"idleTimeoutMs": 10}, "idleTimeoutMs must be between 1000 and"),
    ({"mounts": "/srv"}, "mounts must be a list."),
    ({"mounts": [{}]}, 'mounts[0].source must be an absolute path without "..".'),
    ({"mounts": [{"source": "/a", "target": "/"}]}, "mounts[0].target must be an absolute path"),
    ({"mounts": ["/a:/proc/x"]}, "mounts[0].target must not lie in /proc."),
    ({"env": ["A=1"]}, "env must be an object of strings."),
    ({"env": {"A": 1}}, "env.A must be a string"),
    ({"env": {"1A": "x"}}, "Invalid sandbox environment variable key: 1A"),
    ({"labels": {"io.paperclip.worker": "x"}}, "Invalid label"),
    ({"capDrop": "ALL"}, "capDrop must be a list"),
    ({"capAdd": ["sys_admin"]}, "capAdd[0] must be a name like NET_BIND_SERVICE."),
    ({"proxyUrl": "gopher://x"}, "proxyUrl"),
    ({"caFile": "relative.pem"}, "caFile"),
]


def validate(w, config):
    return w.call("environmentValidateConfig", {"driverKey": "docker", "config": config})


@test
def what_is_wrong_is_told_in_words_and_all_of_it():
    with Worker() as w:
        for config, text in WRONG:
            answer = validate(w, config)
            check(not answer["ok"] and any(error.startswith(text) for error in answer["errors"]), f"{config}: {answer}")
        answer = validate(w, {"cpus": "x", "workdir": "w", "network": "host"})
        check_equal(len(answer["errors"]), 3, answer)


@test
def the_normal_form_has_the_defaults_and_what_was_set_in_its_own_type():
    with Worker() as w:
        check_equal(validate(w, {})["normalizedConfig"], {"image": "docker.io/library/node:22-bookworm", "workdir": "/workspace",
                                                          "timeoutMs": 300000, "reuseLease": False})
        given = {"socketPath": " /run/x.sock ", "image": " busybox ", "memoryMb": "512", "cpus": "1.5", "pidsLimit": 64.9, "timeoutMs": "5000",
                 "mounts": ["/srv/data:/data:rw", {"source": "/a b"}], "env": {"K": "v"}, "capAdd": ["CAP_NET_RAW"], "capDrop": [],
                 "readOnlyRoot": True, "noNewPrivileges": False, "reuseLease": True, "unknown": 1, "network": "", "user": None,
                 "idleTimeoutMs": 60000, "registryUsername": "u", "registryPassword": "11111111-2222-4333-8444-555555555555"}
        want = {"socketPath": "/run/x.sock", "image": "busybox", "memoryMb": 512, "cpus": 1.5, "pidsLimit": 64, "timeoutMs": 5000,
                "mounts": [{"source": "/srv/data", "target": "/data", "writable": True}, {"source": "/a b", "target": "/a b", "writable": False}],
                "env": {"K": "v"}, "capAdd": ["NET_RAW"], "capDrop": [], "readOnlyRoot": True, "noNewPrivileges": False, "reuseLease": True,
                "workdir": "/workspace", "idleTimeoutMs": 60000, "registryUsername": "u",
                "registryPassword": "11111111-2222-4333-8444-555555555555"}
        answer = validate(w, given)
        check_equal(answer["normalizedConfig"], want)
        check_equal(validate(w, want)["normalizedConfig"], want, "its own normal form")


@test
def hosts_are_taken_as_the_engine_s_own_tools_take_them():
    with Worker() as w:
        for host in ("tcp://engine.example:2376", "tcp://127.0.0.1:2375", "https://engine.example", "engine.example:2376", "unix:///run/x.sock",
                     "http://localhost:2375", "tcp://[::1]:2375"):
            answer = validate(w, {"host": host})
            check(answer["ok"], f"{host}: {answer}")
            check_equal(answer["normalizedConfig"]["host"], host)


main()
