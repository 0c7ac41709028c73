#!/usr/bin/python3
"""wire: daytona, environmentSyncIn and environmentSyncOut: host files into the sandbox and back, and nothing anywhere else."""

import io
import os
import re
import shutil
import stat
import tarfile
import tempfile

from driver import session
from harness import check, check_equal, check_match, main, test

IN, OUT = "SyncIn", "SyncOut"


class Place:
    """A lease with its directory, and a directory of the host."""

    def __init__(self, s, **config):
        self.s = s
        self.config = config
        self.lease = s.acquire(**config)
        self.cwd = self.lease["metadata"]["remoteCwd"]
        self.temp = tempfile.TemporaryDirectory(prefix="psw sync ")
        self.host, self.outside = (os.path.join(self.temp.name, name) for name in ("host side", "outside"))
        os.mkdir(self.host)
        os.mkdir(self.outside)

    def params(self, operations, **lease):
        return {"lease": {"providerLeaseId": self.lease["providerLeaseId"], "metadata": {"remoteCwd": self.cwd}, **lease},
                "operations": operations}

    def send(self, way, *files, commands=None, environment="env-1"):
        operation = {"operationId": "op-1", "files": list(files), **({"postUploadCommands": commands} if commands else {})}
        return self.s.w.send(f"environment{way}", {**self.s.base(environment, **self.config), **self.params([operation])})

    def sync(self, way, *files, commands=None):
        result, = self.s.w.result(self.send(way, *files, commands=commands))["operations"]
        check_equal(result.pop("operationId"), "op-1")
        return result["filesTransferred"], result["bytesTransferred"]

    def refused(self, way, *files, commands=None):
        return self.s.w.error(self.send(way, *files, commands=commands))["message"]

    def scratch(self):
        """What is left of transfers, on both sides."""
        names = [name for top in (self.cwd, self.host, self.outside) for _, dirs, files in os.walk(top) for name in dirs + files
                 if name.startswith(".paperclip-upload") or name.startswith(".paperclip-download")]
        archives = re.findall(r"/tmp/paperclip-download-[0-9a-f-]+\.tar", "".join(self.s.scripts()))
        return names + [path for path in archives if os.path.exists(path)]


def write(path, content=b"x", mode=None):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
    if mode is not None:
        os.chmod(path, mode)
    return path


def read(path):
    with open(path, "rb") as file:
        return file.read()


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def one(source, target, **more):
    return {"kind": "file", "sourcePath": source, "targetPath": target, **more}


def tree(source, target, **more):
    return {"kind": "directory", "sourcePath": source, "targetPath": target, **more}


def listing(top):
    """{path: content, link target, or None for a directory}"""
    found = {}
    for base, dirs, files in os.walk(top):
        for name in dirs + files:
            path = os.path.join(base, name)
            found[os.path.relpath(path, top)] = os.readlink(path) if os.path.islink(path) else None if os.path.isdir(path) else read(path)
    return found


# --- into the sandbox ---


@test
def files_go_in_with_their_modes_in_one_upload():
    with session() as s:
        place = Place(s)
        big = os.urandom(3_000_000)
        a, b, c = write(f"{place.host}/a", b"one\n"), write(f"{place.host}/b b's", big), write(f"{place.host}/c", b"")
        since = len(s.e.requests())
        got = place.sync(IN, one(a, f"{place.cwd}/a", mode=0o600), one(b, f"{place.cwd}/deep/it's b/b"), one(c, f"{place.cwd}/deep/../c", mode=0o755))
        check_equal(got, (3, 4 + len(big)))
        check_equal((read(f"{place.cwd}/a"), read(f"{place.cwd}/deep/it's b/b") == big, read(f"{place.cwd}/c")), (b"one\n", True, b""))
        check_equal((mode_of(f"{place.cwd}/a"), mode_of(f"{place.cwd}/c")), (0o600, 0o755))
        check_equal([request["path"].rpartition("/")[2] for request in s.e.requests(since=since)], ["execute", "bulk-upload", "execute"])
        check_equal(place.scratch(), [])


@test
def a_file_takes_the_place_of_a_file_or_of_a_link_and_not_of_a_directory():
    with session() as s:
        place = Place(s)
        a = write(f"{place.host}/a", b"new")
        write(f"{place.cwd}/old", b"old")
        kept = write(f"{place.outside}/kept", b"kept")
        os.symlink(kept, f"{place.cwd}/link")
        os.symlink(place.outside, f"{place.cwd}/dirlink")
        os.mkdir(f"{place.cwd}/dir")
        check_equal(place.sync(IN, *(one(a, f"{place.cwd}/{name}") for name in ("old", "link", "dirlink"))), (3, 9))
        check_equal([read(f"{place.cwd}/{name}") for name in ("old", "link", "dirlink")], [b"new"] * 3)
        check_equal((read(kept), os.listdir(place.outside)), (b"kept", ["kept"]))
        check_equal(place.refused(IN, one(a, f"{place.cwd}/dir")), "Daytona syncIn rename command failed (exit 43): rename failed")
        check_equal(place.scratch(), [])


@test
def a_directory_goes_in_with_links_and_long_names_without_what_is_excluded():
    with session() as s:
        place = Place(s)
        source = f"{place.host}/tree"
        long = "/".join(["d" * 60] * 4) + "/" + "f" * 120
        for name in ("top", "sub/file", "sub/._mac", "._top", "node_modules/x/y", "sub/deep/skip.log", "ü/é", long):
            write(f"{source}/{name}", name.encode())
        os.chmod(f"{source}/top", 0o751)
        os.mkdir(f"{source}/empty")
        os.symlink("sub/file", f"{source}/link")
        os.symlink("/nowhere", f"{source}/dangling")
        os.symlink("x" * 200, f"{source}/longlink")
        want = listing(source)
        os.mkfifo(f"{source}/fifo")
        write(f"{place.cwd}/into/stays", b"stays")
        files, size = place.sync(IN, tree(source, f"{place.cwd}/into", exclude=["node_modules", "*.log"], mode=0o750))
        got = listing(f"{place.cwd}/into")
        for name in list(want):
            if "._" in name or "node_modules" in name or name.endswith("skip.log"):
                del want[name]
        want["stays"] = b"stays"
        check_equal(got, want)
        check_equal(files, 7)
        check(size % 512 == 0 and size > 4096, f"{size} bytes")
        check_equal((mode_of(f"{place.cwd}/into/top"), mode_of(f"{place.cwd}/into")), (0o751, 0o750))
        check_equal(place.scratch(), [])


@test
def an_empty_directory_is_1024_bytes():
    with session() as s:
        place = Place(s)
        check_equal(place.sync(IN, tree(place.host, f"{place.cwd}/new")), (0, 1024))
        check_equal(os.listdir(f"{place.cwd}/new"), [])


@test
def links_are_followed_where_that_is_asked_for_and_loops_end():
    with session() as s:
        place = Place(s)
        source = f"{place.host}/tree"
        write(f"{place.outside}/data/file", b"data")
        write(f"{source}/own", b"own")
        os.symlink(f"{place.outside}/data", f"{source}/dir")
        os.symlink(f"{place.outside}/data/file", f"{source}/file")
        os.symlink(".", f"{source}/loop")
        os.symlink("nowhere", f"{source}/dangling")
        files, _ = place.sync(IN, tree(source, f"{place.cwd}/into", followSymlinks=True))
        check_equal(listing(f"{place.cwd}/into"), {"own": b"own", "dir": None, "dir/file": b"data", "file": b"data", "dangling": "nowhere"})
        check_equal(files, 4)


@test
def commands_run_after_the_upload_in_order_until_one_fails():
    with session() as s:
        place = Place(s)
        a = write(f"{place.host}/a", b"1")
        marker = f"{place.cwd}/log"
        place.sync(IN, one(a, f"{place.cwd}/sub/a"), commands=[{"command": f"pwd > '{marker}'; cat sub/a >> '{marker}'"},
                                                              {"command": f"pwd >> '{marker}'", "cwd": f"{place.cwd}/sub"}])
        check_equal(read(marker).decode(), f"{place.cwd}\n1{place.cwd}/sub\n")
        check_equal(place.refused(IN, commands=[{"command": "echo no luck; exit 3"}, {"command": f"rm '{marker}'"}]),
                    "Daytona post-upload command failed (exit 3): no luck")
        check(os.path.exists(marker), "the second command has run")
        check_match(place.refused(IN, commands=[{"command": "sleep 1000", "timeoutMs": 700}]), "Daytona post-upload command timed out after 1 s: .*")


# --- out of it ---


@test
def files_come_out_with_their_modes_in_one_download():
    with session() as s:
        place = Place(s)
        big = os.urandom(3_000_000) + b"\r\n--DAYTONA-FILE-BOUNDARY\r\n"
        a, b = write(f"{place.cwd}/a", b"one\n"), write(f"{place.cwd}/ü b's", big)
        write(f"{place.host}/old", b"old", 0o666)
        since = len(s.e.requests())
        check_equal(place.sync(OUT, one(a, f"{place.host}/old", mode=0o600), one(b, f"{place.host}/new/b")), (2, 4 + len(big)))
        check_equal((read(f"{place.host}/old"), read(f"{place.host}/new/b") == big), (b"one\n", True))
        check_equal(mode_of(f"{place.host}/old"), 0o600)
        check_equal([request["path"].rpartition("/")[2] for request in s.e.requests(since=since)], ["execute", "bulk-download", "execute"])
        check_equal(place.scratch(), [])


@test
def a_directory_comes_out_with_links_and_modes_without_what_is_excluded():
    with session() as s:
        place = Place(s)
        source = f"{place.cwd}/tree"
        for name in ("top", "sub/file", "skip/x", "a.log", "long/" + "f" * 180):
            write(f"{source}/{name}", name.encode())
        os.chmod(f"{source}/sub", 0o550)
        os.chmod(f"{source}/top", 0o755)
        os.symlink("../sub/file", f"{source}/long/link")
        os.symlink("long/../sub", f"{source}/turn")
        os.link(f"{source}/top", f"{source}/zlink")
        write(f"{place.host}/into/stays", b"stays")
        os.symlink(place.outside, f"{place.host}/into/sub")
        files, size = place.sync(OUT, tree(source, f"{place.host}/into", exclude=["skip", "*.log"]))
        want = {name: content for name, content in listing(source).items() if not name.startswith("skip") and name != "a.log"}
        check_equal(listing(f"{place.host}/into"), {**want, "stays": b"stays"})
        check_equal((files, size % 512, os.listdir(place.outside)), (6, 0, []))
        check_equal((mode_of(f"{place.host}/into/sub"), mode_of(f"{place.host}/into/top")), (0o550, 0o755))
        check_equal(place.scratch(), [])


@test
def the_whole_working_directory_comes_out():
    with session() as s:
        place = Place(s)
        write(f"{place.cwd}/a/b", b"1")
        check_equal(place.sync(OUT, tree(place.cwd, f"{place.host}/all"))[0], 1)
        check_equal(listing(f"{place.host}/all"), {"a": None, "a/b": b"1"})


@test
def what_a_file_may_not_be_while_it_comes_out():
    with session() as s:
        place = Place(s)
        os.mkdir(f"{place.cwd}/dir")
        os.mkfifo(f"{place.cwd}/fifo")
        os.symlink(write(f"{place.outside}/secret", b"secret"), f"{place.cwd}/link")
        os.symlink(place.outside, f"{place.cwd}/dirlink")
        label = "Daytona outbound symlink-escape guard command failed"
        for name, text in (("dir", "(exit 45): NOTREG"), ("fifo", "(exit 45): NOTREG"), ("none", "(exit 45): NOTREG"),
                           ("link", "(exit 42): ESCAPE"), ("dirlink/secret", "(exit 42): ESCAPE")):
            check_equal(place.refused(OUT, one(f"{place.cwd}/{name}", f"{place.host}/x")), f"{label} {text}")
        check_equal(place.refused(OUT, tree(f"{place.cwd}/dirlink", f"{place.host}/x")), f"{label} (exit 42): ESCAPE:{place.cwd}/dirlink")
        check_match(place.refused(OUT, tree(f"{place.cwd}/none", f"{place.host}/x")), "Daytona syncOut tar command failed .*|Daytona outbound .*")
        check_equal((listing(place.host), place.scratch()), ({}, []))


# --- confinement ---


@test
def paths_outside_of_the_working_directory_are_refused_before_any_request():
    with session() as s:
        place = Place(s)
        a = write(f"{place.host}/a")
        since = len(s.e.requests())
        for path in ("/etc/passwd", f"{place.cwd}/../x", f"{place.cwd}-not/x", "/"):
            check_equal(place.refused(IN, one(a, path)), f"Daytona sync target path escapes the workspace remote dir: {path}")
            check_equal(place.refused(OUT, one(path, a)), f"Daytona sync source path escapes the workspace remote dir: {path}")
            check_equal(place.refused(IN, commands=[{"command": "true", "cwd": path}]),
                        f"Daytona sync post-upload command cwd escapes the workspace remote dir: {path}")
        for path in ("x", "./x", "../x"):
            check_equal(place.refused(IN, tree(place.host, path)), f"Daytona sync target path is not a confined absolute path: {path}")
            check_equal(place.refused(OUT, tree(path, place.host)), f"Daytona sync source path is not a confined absolute path: {path}")
        for way in (IN, OUT):
            check_equal(s.error(way, place.params([], providerLeaseId=None))["message"], f"Daytona s{way[1:]} requires a provider lease ID.")
            check_equal(s.error(way, place.params([], metadata={"remoteCwd": " "}))["message"],
                        "Daytona file sync requires a workspace remote dir on the lease metadata.")
        check_equal(len(s.e.requests()), since)


@test
def links_in_the_sandbox_lead_nothing_out_of_the_working_directory():
    with session() as s:
        place = Place(s)
        a = write(f"{place.host}/a")
        os.symlink(place.outside, f"{place.cwd}/link")
        label = "Daytona inbound symlink-escape guard command failed (exit 42)"
        for target in ("link/a", "link/new/a"):
            check_equal(place.refused(IN, one(a, f"{place.cwd}/{target}")), f"{label}: ESCAPE:{place.cwd}/{os.path.dirname(target)}")
        for target in ("link", "link/new"):
            check_equal(place.refused(IN, tree(place.host, f"{place.cwd}/{target}")), f"{label}: ESCAPE:{place.cwd}/{target}")
        check_equal(place.refused(IN, commands=[{"command": "touch x", "cwd": f"{place.cwd}/link"}]),
                    f"Daytona post-upload command cwd symlink-escape guard command failed (exit 42): ESCAPE:{place.cwd}/link")
        check_equal((os.listdir(place.outside), place.scratch()), ([], []))


@test
def a_directory_that_becomes_a_link_after_the_guard_leads_nothing_out_either():
    with session() as s:
        place = Place(s)
        a = write(f"{place.host}/a")

        def swap(way, item, fault):
            """The directory is swapped while the upload's answer waits."""
            os.mkdir(f"{place.cwd}/sub")
            s.e.fault(path="bulk-upload", delayMs=60000)
            since = len(s.e.requests())
            key = place.send(way, item)
            s.e.wait_for(lambda d: d.requests("POST", "bulk-upload", since=since), "the upload")
            s.e.wait_for(lambda d: any(name.startswith(".paperclip-upload") for name in os.listdir(place.cwd)), "its scratch file")
            os.rmdir(f"{place.cwd}/sub")
            os.symlink(place.outside, f"{place.cwd}/sub")
            s.e.clear_faults()
            message = s.w.error(key)["message"]
            os.unlink(f"{place.cwd}/sub")
            check_equal(message, fault)
            check_equal((os.listdir(place.outside), place.scratch()), ([], []))

        swap(IN, one(a, f"{place.cwd}/sub/a"), "Daytona syncIn rename command failed (exit 42): ESCAPE")
        swap(IN, tree(place.host, f"{place.cwd}/sub"), "Daytona syncIn extract command failed (exit 42): ESCAPE")


def member(name, kind=tarfile.REGTYPE, link="", content=b""):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, link, len(content)
    return entry, content


def archive_of(*members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry, content in members:
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def answer_download(s, content):
    """The next download gets this as its file, whatever its name is."""
    s.e.toolbox(download=content.decode("latin-1"))


@test
def an_archive_that_leads_out_is_refused_and_nothing_of_it_is_extracted():
    with session() as s:
        place = Place(s)
        os.mkdir(f"{place.cwd}/tree")
        text = "Daytona syncOut refusing tarball member that escapes the extraction dir: "
        link = "Daytona syncOut refusing tarball link whose target escapes the extraction dir: "
        good = member("good", content=b"1")
        for evil, want in (((member("../evil"),), text + "../evil"), ((member("/tmp/evil"),), text + "/tmp/evil"),
                           ((member("a/../../evil"),), text + "a/../../evil"), ((member("x" * 200 + "/../../evil"),), text + "x" * 200 + "/../../evil"),
                           ((member("l", tarfile.SYMTYPE, "/etc"),), link + "l -> /etc"),
                           ((member("a/l", tarfile.SYMTYPE, "../../x"),), link + "a/l -> ../../x"),
                           ((member("l", tarfile.LNKTYPE, "../x"),), link + "l -> ../x"),
                           ((member("a/l", tarfile.LNKTYPE, "/etc/passwd"),), link + "a/l -> /etc/passwd"),
                           ((member("a/b/l", tarfile.SYMTYPE, "../.."), member("m", tarfile.SYMTYPE, "a/b/l/..")), link + "m -> a/b/l/..")):
            answer_download(s, archive_of(good, *evil))
            check_equal(place.refused(OUT, tree(f"{place.cwd}/tree", f"{place.host}/into")), want)
            check_equal((listing(place.host), place.scratch()), ({}, []))


@test
def an_archive_that_writes_through_its_own_links_writes_nothing_outside():
    with session() as s:
        place = Place(s)
        os.mkdir(f"{place.cwd}/tree")
        os.symlink(place.outside, f"{place.host}/known")
        answer_download(s, archive_of(member("a/x", content=b"1"), member("l", tarfile.SYMTYPE, "a"), member("l/evil", content=b"2"),
                                      member("known/evil", content=b"3")))
        place.sync(OUT, tree(f"{place.cwd}/tree", place.host))
        check_equal(listing(place.host), {"a": None, "a/x": b"1", "l": None, "l/evil": b"2", "known": None, "known/evil": b"3"})
        check_equal(os.listdir(place.outside), [])


@test
def a_broken_archive_is_an_error_and_leaves_nothing():
    with session() as s:
        place = Place(s)
        os.mkdir(f"{place.cwd}/tree")
        whole = archive_of(member("a", content=b"1" * 2000))
        for broken in (b"", b"no archive" * 100, whole[:600], whole[:512] + b"\0" * 100, bytes([whole[0] ^ 1]) + whole[1:]):
            answer_download(s, broken)
            check_match(place.refused(OUT, tree(f"{place.cwd}/tree", f"{place.host}/into")), "The archive is broken: .*")
            check_equal((listing(place.host), place.scratch()), ({}, []))


# --- what goes wrong ---


@test
def a_sync_that_fails_at_any_step_leaves_no_scratch_files():
    with session() as s:
        place = Place(s, timeoutMs=3000)
        a = write(f"{place.host}/a", b"12345")
        b = write(f"{place.cwd}/b", b"12345")
        write(f"{place.cwd}/tree/x", b"1")
        ways = [{"status": 500, "reply": {"message": "no luck"}}, {"status": 500, "reply": {"message": "no luck"}, "after": True}, {"reset": True},
                {"close": True, "after": True}, {"truncate": 9}, {"status": 200, "reply": "<html>"}]
        cases = [(IN, one(a, f"{place.cwd}/new/a"), ("/process/execute", "bulk-upload")),
                 (IN, tree(place.host, f"{place.cwd}/new"), ("/process/execute", "bulk-upload")),
                 (OUT, one(b, f"{place.host}/out/b"), ("/process/execute", "bulk-download")),
                 (OUT, tree(f"{place.cwd}/tree", f"{place.host}/out"), ("/process/execute", "bulk-download"))]
        for way, item, steps in cases:
            for path in steps:
                for fault in ways:
                    if path == "bulk-upload" and fault.get("status") == 200:
                        continue
                    s.e.fault(path=path, **fault)
                    message = s.w.answer(place.send(way, item))
                    s.e.clear_faults()
                    check(message.get("error", {}).get("message", "").strip() or fault == {"truncate": 9}, f"{way} {path} {fault}: {message}")
                    check_equal(place.scratch(), [], f"scratch files after {way} {path} {fault}")
                    shutil.rmtree(f"{place.cwd}/new", ignore_errors=True)
                    shutil.rmtree(f"{place.host}/out", ignore_errors=True)


@test
def the_service_says_why_a_file_does_not_come():
    with session() as s:
        place = Place(s)
        source = write(f"{place.cwd}/a")
        os.mkdir(f"{place.cwd}/tree")
        s.e.fault(path="bulk-download", status=500, reply={"message": "disk on fire"})
        check_equal(place.refused(OUT, one(source, f"{place.host}/a")), "disk on fire")
        s.e.fault(path="bulk-download", status=500, reply={"message": "disk on fire"})
        check_equal(place.refused(OUT, tree(f"{place.cwd}/tree", f"{place.host}/a")),
                    f"Daytona syncOut directory download failed for {place.cwd}/tree: disk on fire")
        for reply, text in (({"message": "file not found: x"}, "file not found: x"), ("plain text", "plain text")):
            s.e.toolbox(downloadRefusal=reply)
            check_equal(place.refused(OUT, one(source, f"{place.host}/a")), f"Daytona syncOut download failed for {source}: {text}")
            check_equal(place.refused(OUT, tree(f"{place.cwd}/tree", f"{place.host}/a")),
                        f"Daytona syncOut directory download failed for {place.cwd}/tree: {text}")
        check_equal((listing(place.host), place.scratch()), ({}, []))


@test
def an_upload_of_which_a_file_fails_is_an_error_with_the_services_words():
    with session() as s:
        place = Place(s)
        s.e.fault(path="bulk-upload", status=400, reply={"errors": ["/x: disk full"], "files": None})
        check_equal(place.refused(IN, one(write(f"{place.host}/a"), f"{place.cwd}/a")), '{"errors":["/x: disk full"],"files":null}')


@test
def what_is_not_there_or_no_file_on_the_host_is_an_error():
    with session() as s:
        place = Place(s)
        check_match(place.refused(IN, one(f"{place.host}/none", f"{place.cwd}/x")), ".*No such file.*")
        check_match(place.refused(IN, one(place.host, f"{place.cwd}/x")), ".* is not a regular file.*")
        check_match(place.refused(IN, tree(f"{place.host}/none", f"{place.cwd}/x")), ".*No such file.*")
        os.mkfifo(f"{place.host}/fifo")
        check_match(place.refused(IN, one(f"{place.host}/fifo", f"{place.cwd}/x")), ".* is not a regular file.*")
        check_equal(place.scratch(), [])


@test
def params_that_make_no_sense_are_refused():
    with session() as s:
        place = Place(s)
        for operations, text in ((None, "params.operations must be an array"), ([1], "params.operations[0] must be an object"),
                                 ([{}], "params.operations[0].operationId is required"),
                                 ([{"operationId": "a"}], "params.operations[0].files is required"),
                                 ([{"operationId": "a", "files": [{}]}], "params.operations[0].files[0].kind is required"),
                                 ([{"operationId": "a", "files": [{"kind": "x", "sourcePath": "/a", "targetPath": "/b"}]}],
                                  'params.operations[0].files[0].kind must be "file" or "directory"'),
                                 ([{"operationId": "a", "files": [one("/a", "/b", mode="0600")]}],
                                  "params.operations[0].files[0].mode must be permission bits, a number from 0 to 4095"),
                                 ([{"operationId": "a", "files": [tree("/a", "/b", exclude=[1])]}],
                                  "params.operations[0].files[0].exclude[0] must be a string without null bytes"),
                                 ([{"operationId": "a", "files": [], "postUploadCommands": [{}]}],
                                  "params.operations[0].postUploadCommands[0].command is required")):
            check_equal(s.error(IN, place.params(operations))["message"], text)
        check_equal(s.call(IN, place.params([])), {"operations": []})


@test
def a_release_ends_a_sync_that_runs():
    with session() as s:
        place = Place(s)
        key = place.send(IN, commands=[{"command": "sleep 100000"}])
        s.e.wait_for(lambda d: d.state()["running"] > 0, "the command runs")
        check_equal(s.lease_call("ReleaseLease", place.lease, {"cancelActiveWork": True})["state"], "destroyed")
        check("error" in s.w.answer(key), "the sync has no result")
        s.no_live()


main()
