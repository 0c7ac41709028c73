#!/usr/bin/python3
"""What scripts/pack-plugin makes: the directory, its manifest, the program in it, and the worker started by its launcher.

test_packed.py BUILD-DIRECTORY [PART-OF-A-TEST'S-NAME]
"""

import contextlib
import copy
import glob
import json
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "worker"))

from harness import Failure, RpcError, Skip, Worker, check, check_equal, check_match, main, remove_dir, temp_dir, test  # noqa: E402
from manifest_rules import problems_of, schema_fields  # noqa: E402
from node24 import find_node24  # noqa: E402
from packing import NAME, ROOT, binary_of, pack, run_pack  # noqa: E402

HOST_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "NODE_PATH": "", "PAPERCLIP_PLUGIN_ID": "1",
                    "NODE_ENV": "production", "TZ": "UTC", "PAPERCLIP_DEPLOYMENT_MODE": "local_trusted",
                    "PAPERCLIP_DEPLOYMENT_EXPOSURE": ""}


class Packed:
    build = None
    path = None
    node_cache = None


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def packed_file(name):
    return read(os.path.join(Packed.path, name))


def packed_json(name):
    return json.loads(packed_file(name))


def output_of(*command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, **options).stdout.decode()


def nodes():
    found = [path for path in [shutil.which("node")] if path]
    try:
        found.append(find_node24(Packed.node_cache))
    except Skip as reason:
        print(f"# WITHOUT NODE 24: {reason}")
    if not found:
        raise Skip("NO NODE AT ALL")
    return found


def files_below(directory):
    return sorted(os.path.relpath(os.path.join(top, name), directory) for top, _, names in os.walk(directory) for name in names)


def certificates_beside(program):
    return os.path.join(os.path.dirname(program), "ca-certificates.crt")


# --- the directory ---


@test
def the_package_holds_what_the_host_needs_and_no_more():
    program = os.path.relpath(binary_of(Packed.path), Packed.path)
    check_equal(files_below(Packed.path), sorted(["LICENSE", "README.md", "THIRD-PARTY-NOTICES", "manifest.js", "manifest.json",
                                                  "package.json", "worker.cjs", program, certificates_beside(program)]))
    for name in files_below(Packed.path):
        mode = os.stat(os.path.join(Packed.path, name)).st_mode & 0o777
        check_equal(oct(mode), oct(0o755 if name in (program, "worker.cjs") else 0o644), name)


@test
def mozilla_s_certificates_and_no_others_are_beside_the_program():
    bundle = packed_file(certificates_beside(os.path.relpath(binary_of(Packed.path), Packed.path)))
    ours = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", bundle, re.S)
    check(len(ours) > 100, f"{len(ours)} certificates")
    mozilla = "".join(read(path) for path in glob.glob("/usr/share/ca-certificates/mozilla/*.crt"))
    check_equal([one for one in ours if one not in mozilla], [])


@test
def package_json_and_manifest_agree():
    package, manifest = packed_json("package.json"), packed_json("manifest.json")
    check_equal(package["name"], NAME)
    check_equal(package["version"], manifest["version"])
    check_equal(package["paperclipPlugin"]["worker"], manifest["entrypoints"]["worker"])
    for path in package["paperclipPlugin"].values():
        check(os.path.isfile(os.path.join(Packed.path, path)), f"{path} is there")
    check_equal(output_of(binary_of(Packed.path), "--version").split()[-1], package["version"])


@test
def the_licences_are_in_the_package():
    check_match(packed_file("LICENSE"), r"MIT License\n.*Permission is hereby granted.*")
    notices = packed_file("THIRD-PARTY-NOTICES")
    for library in ("libuv", "jansson", "protobuf-c", "glibc", "OpenSSL", "nghttp2", "zlib", "Mozilla's CA certificates"):
        check_match(notices, rf".*\n---+\n{library} [0-9]\S* \(Debian\)\n---+\n\n.*")
    check("GNU LESSER GENERAL PUBLIC LICENSE" in notices, "the text of the LGPL")
    check("Joyent, Inc. and other Node contributors" in notices, "libuv's copyright")


@test
def packing_again_changes_nothing():
    def state():
        return {name: (os.stat(os.path.join(Packed.path, name)).st_ino, os.stat(os.path.join(Packed.path, name)).st_mtime_ns)
                for name in files_below(Packed.path)}

    before = state()
    status, output, _ = run_pack(Packed.build, Packed.path)
    check_equal(status, 0)
    check_equal(output.decode(), Packed.path + "\n")
    check_equal(state(), before)


@test
def a_directory_of_something_else_is_not_replaced():
    other = temp_dir()
    try:
        with open(os.path.join(other, "precious"), "w", encoding="ascii") as file:
            file.write("mine")
        status, _, errors = run_pack(Packed.build, other)
        check_equal(status, 1)
        check_match(errors.decode(), ".*holds something that is not this package.*")
        check_equal(os.listdir(other), ["precious"])
    finally:
        remove_dir(other)


# --- the manifest ---


@test
def the_manifest_obeys_the_host_s_rules():
    check_equal(problems_of(packed_json("manifest.json")), [])


@test
def a_manifest_that_breaks_a_rule_is_noticed():
    good = packed_json("manifest.json")
    driver = good["environmentDrivers"][0]
    for what, change in {
            "manifest: 'minimumHostVersion'": {"minimumHostVersion": "1.0.0"},
            "id:": {"id": "Worker"},
            "apiVersion": {"apiVersion": 2},
            "version": {"version": "v1.0.0"},
            "displayName": {"displayName": ""},
            "description": {"description": "x" * 501},
            "categories": {"categories": ["sandbox"]},
            "capabilities": {"capabilities": ["metrics.write"]},
            "entrypoints": {"entrypoints": {}},
            "environmentDrivers: unique": {"environmentDrivers": [driver, driver]},
            "driver X": {"environmentDrivers": [{**driver, "driverKey": "X"}]},
            f"driver {driver['driverKey']}: 'title'": {"environmentDrivers": [{**driver, "title": "x"}]},
            f"driver {driver['driverKey']}.configSchema": {"environmentDrivers": [{**driver, "configSchema": {}}]},
            f"driver {driver['driverKey']}.sandboxCapabilities: 'fast'":
                {"environmentDrivers": [{**driver, "sandboxCapabilities": {"fast": True}}]},
            f"driver {driver['driverKey']}.templateConfigBinding":
                {"environmentDrivers": [{**driver, "templateConfigBinding": {"field": "a", "unsetFields": ["a"]}}]},
    }.items():
        found = problems_of({**copy.deepcopy(good), **change})
        check(any(problem.startswith(what) for problem in found), f"{what} is noticed: {found}")


@test
def the_settings_form_has_a_title_and_a_description_for_every_field():
    for driver in packed_json("manifest.json")["environmentDrivers"]:
        for path, field in schema_fields(driver["configSchema"]):
            check(field.get("title"), f"{driver['driverKey']}: {path} has a title")
            check(field.get("description") or "[]." in path, f"{driver['driverKey']}: {path} has a description")
            # The path of a file with a key is none.
            secret = field.get("type") == "string" and re.search(r"(?i)(key|token|secret|password)(?!.*file)", path)
            check(not secret or field.get("format") == "secret-ref", f"{driver['driverKey']}: {path} is a secret")


@test
def the_manifest_is_loaded_by_import_as_the_host_does_it():
    script = "import(process.argv[1]).then((m) => process.stdout.write(JSON.stringify(m.default ?? m)))"
    for node in nodes():
        text = output_of(node, "-e", script, os.path.join(Packed.path, "manifest.js"))
        check_equal(json.loads(text), packed_json("manifest.json"), node)


@test
def the_manifest_is_the_program_s_own():
    check_equal(packed_json("manifest.json"), json.loads(output_of(binary_of(Packed.path), "manifest")))


# --- the program ---


@test
def the_program_needs_the_c_library_alone():
    needed = re.findall(r"Shared library: \[(.*?)\]", output_of("readelf", "-d", binary_of(Packed.path)))
    check("libc.so.6" in needed, "linked with the C library")
    # libm is part of it.
    check_equal([name for name in needed if not re.fullmatch(r"lib[cm]\.so\.6|ld-linux-.*", name)], [])


@test
def the_readme_names_the_oldest_c_library_that_will_do():
    symbols = output_of("readelf", "-W", "--dyn-syms", binary_of(Packed.path))
    versions = {tuple(map(int, text.split("."))) for text in re.findall(r"@GLIBC_([0-9.]+)", symbols)}
    oldest = re.search(r"glibc ([0-9.]+[0-9]) or newer", packed_file("README.md")).group(1)
    check_equal(".".join(map(str, max(versions))), oldest)


@test
def the_program_is_hardened_and_stripped_and_has_a_build_id():
    path = binary_of(Packed.path)
    check_match(output_of("readelf", "-h", path), r".*Type: +DYN .*")
    check_match(output_of("readelf", "-d", path), r".*BIND_NOW.*")
    check_match(output_of("readelf", "-W", "-l", path), r".*GNU_STACK \S+ \S+ \S+ \S+ \S+ RW .*GNU_RELRO.*".replace(" ", " +"))
    sections = output_of("readelf", "-W", "-S", path)
    check(".note.gnu.build-id" in sections, "a build id")
    check(".debug_info" not in sections and ".symtab" not in sections, "no symbols")


@test
def no_path_of_the_machine_that_built_it_is_in_the_program():
    with open(binary_of(Packed.path), "rb") as file:
        data = file.read()
    check(ROOT.encode() not in data, "the source tree's path")


# --- the worker, started as the host starts it ---


def lease_and_command(worker):
    """A whole job on the deterministic driver."""
    check_equal(worker.initialize()["ok"], True)
    check_equal(worker.call("health")["status"], "ok")
    lease = worker.acquire()
    result = worker.sh("echo out; echo err >&2; exit 3", lease=lease)
    check_equal((result["exitCode"], result["stdout"], result["stderr"]), (3, "out\n", "err\n"))
    check_equal(worker.call("environmentReleaseLease", {**worker.base(), "providerLeaseId": lease["providerLeaseId"]}), None)


@contextlib.contextmanager
def launched(node, package):
    temp = temp_dir()
    try:
        with Worker(binary=node, argv=[os.path.join(package, "worker.cjs")], env={**HOST_ENVIRONMENT, "TMPDIR": temp}) as worker:
            yield worker
        check_equal(os.listdir(temp), [], "what is left in the temporary directory")
    finally:
        remove_dir(temp)


@test
def the_launched_worker_serves_the_host_and_shuts_down():
    for node in nodes():
        with launched(node, Packed.path) as worker:
            lease_and_command(worker)


@test
def the_launched_worker_knows_the_drivers_of_the_manifest():
    with Worker(binary=binary_of(Packed.path)) as worker:
        worker.initialize()
        for driver in packed_json("manifest.json")["environmentDrivers"]:
            answer = worker.call("environmentValidateConfig", {"driverKey": driver["driverKey"], "config": {}})
            # A driver of a service misses its credentials here.
            check(answer["ok"] or answer["errors"], f"{driver['driverKey']}: {answer}")
        try:
            answer = worker.call("environmentValidateConfig", {"driverKey": "no-such-driver", "config": {}})
        except RpcError:
            return
        raise Failure(f"a driver that is not there answered {answer}")


@test
def the_installed_npm_package_works_without_install_scripts():
    if shutil.which("npm") is None:
        raise Skip("npm is not installed")
    top = temp_dir()
    try:
        environment = {**os.environ, "HOME": top, "npm_config_update_notifier": "false"}
        listing = json.loads(output_of("npm", "pack", "--json", "--pack-destination", top, cwd=Packed.path, env=environment,
                                       stderr=subprocess.DEVNULL))[0]
        check_equal(sorted(file["path"] for file in listing["files"]), files_below(Packed.path))
        subprocess.run(["npm", "install", "--silent", "--offline", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", top,
                        os.path.join(top, listing["filename"])], stdout=subprocess.DEVNULL, check=True, env=environment)
        installed = os.path.join(top, "node_modules", NAME)
        check(os.access(binary_of(installed), os.X_OK), "the program is executable")
        for node in nodes():
            with launched(node, installed) as worker:
                lease_and_command(worker)
    finally:
        remove_dir(top)


if __name__ == "__main__":
    Packed.build = os.path.join(os.path.abspath(sys.argv[1]), "pack")
    Packed.node_cache = os.path.join(os.path.abspath(sys.argv[1]), "node24")
    Packed.path = pack(os.path.abspath(sys.argv[1]))
    sys.argv[1] = binary_of(Packed.path)
    main()
