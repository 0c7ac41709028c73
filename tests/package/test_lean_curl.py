#!/usr/bin/python3
"""What scripts/build-lean-curl makes: a libcurl for the packed program, with HTTP and nothing else.

test_lean_curl.py BUILD-DIRECTORY [PART-OF-A-TEST'S-NAME]
"""

import gzip
import http.server
import os
import re
import shlex
import socketserver
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "worker"))

from harness import Build, check_equal, check_match, main, remove_dir, temp_dir, test  # noqa: E402
from packing import ARCHITECTURE, ROOT, UNAVAILABLE, fail_all, skip_all  # noqa: E402


def run(*command, **options):
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **options)


def prepare(build_root):
    """Builds libcurl and the program that uses it, or does not return."""
    top = os.path.join(build_root, "pack", ARCHITECTURE, "curl")
    packages = run(os.path.join(ROOT, "scripts", "setup"), "build", "pack")
    built = packages if packages.returncode else run(os.path.join(ROOT, "scripts", "build-lean-curl"), top)
    if built.returncode == UNAVAILABLE:
        skip_all("THE LEAN LIBCURL IS NOT TESTED: " + built.stdout.decode("utf-8", "replace").strip().split("\n")[-1])
    if built.returncode != 0:
        fail_all("scripts/build-lean-curl builds libcurl", built.stdout)
    program = os.path.join(top, "curl_user")
    flags = run("pkg-config", "--static", "--cflags", "--libs", "libcurl",
                env={**os.environ, "PKG_CONFIG_PATH": os.path.join(top, "lib", "pkgconfig")})
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "curl_user.c")
    linked = run("cc", "-o", program, source, "-Wl,-Bstatic", *shlex.split(flags.stdout.decode()), "-Wl,-Bdynamic", "-Wl,--as-needed")
    if flags.returncode != 0 or linked.returncode != 0:
        fail_all("a program can be linked with it", flags.stdout + linked.stdout)
    return program


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # pylint: disable=invalid-name
        body = gzip.compress(f"you asked for {self.path}".encode())
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "a Unix socket"

    def log_message(self, *_):
        pass


@test
def it_speaks_http_and_https_and_nothing_else():
    told = dict(line.split(" ", 1) for line in run(Build.path).stdout.decode().splitlines())
    check_equal(told["protocols"], "http https")
    check_match(told["tls"], r"OpenSSL/3\..*")
    for feature in ("http2", "https-proxy", "resolver", "threadsafe"):
        check_equal(told[feature], "1", feature)


@test
def a_program_with_it_needs_the_c_library_alone():
    needed = re.findall(r"Shared library: \[(.*?)\]", run("readelf", "-d", Build.path).stdout.decode())
    check_equal([name for name in needed if not re.fullmatch(r"libc\.so\.6|ld-linux-.*", name)], [])


@test
def it_gets_a_compressed_document_over_a_unix_socket():
    directory = temp_dir()
    path = os.path.join(directory, "socket")
    try:
        with socketserver.UnixStreamServer(path, Handler) as server:
            threading.Thread(target=server.handle_request, daemon=True).start()
            got = run(Build.path, path)
            check_equal((got.returncode, got.stdout.decode()), (0, "you asked for /hello"))
    finally:
        remove_dir(directory)


if __name__ == "__main__":
    sys.argv[1] = prepare(os.path.abspath(sys.argv[1]))
    main()
