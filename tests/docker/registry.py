#!/usr/bin/python3
"""A registry of images (OCI distribution) that has the image of the tests, and nothing else: registry.py DIRECTORY

    127.0.0.1:5000/sandbox:1    for everybody
    127.0.0.1:5000/private:1    for the user "agent" with the password "s3cret-password"

Prints a line when it listens.
"""

import base64
import gzip
import hashlib
import http.server
import json
import re
import sys

LOGIN = "Basic " + base64.b64encode(b"agent:s3cret-password").decode()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def make_blobs(path):
    with open(path, "rb") as file:
        layer = file.read()
    packed = gzip.compress(layer, 1, mtime=0)
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [digest(layer)]}}).encode()
    docker = "application/vnd.docker."
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": docker + "distribution.manifest.v2+json",
        "config": {"mediaType": docker + "container.image.v1+json", "size": len(config), "digest": digest(config)},
        "layers": [{"mediaType": docker + "image.rootfs.diff.tar.gzip", "size": len(packed), "digest": digest(packed)}]}).encode()
    return {digest(config): config, digest(packed): packed, digest(manifest): manifest, "1": manifest}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    blobs = {}

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status, code, **headers):
        self.answer(status, json.dumps({"errors": [{"code": code, "message": code.lower().replace("_", " ")}]}).encode(),
                    Content_Type="application/json", **headers)

    def do_GET(self):
        found = re.fullmatch(r"/v2/(sandbox|private)/(manifests|blobs)/(\S+)", self.path)
        if self.path == "/v2/" and self.headers.get("Authorization") != LOGIN:  # how to sign in is told here
            return self.refuse(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="test"')
        if self.path == "/v2/":
            return self.answer(200, b"{}")
        if not found:
            return self.refuse(404, "NAME_UNKNOWN")
        if found.group(1) == "private" and self.headers.get("Authorization") != LOGIN:
            return self.refuse(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="test"')
        blob = self.blobs.get(found.group(3))
        if blob is None:
            return self.refuse(404, "MANIFEST_UNKNOWN")
        kind = json.loads(blob)["mediaType"] if found.group(2) == "manifests" else "application/octet-stream"
        return self.answer(200, blob, Content_Type=kind, Docker_Content_Digest=digest(blob))

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


def main():
    Handler.blobs = make_blobs(f"{sys.argv[1]}/image.tar")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 5000), Handler)
    print("ready", flush=True)
    server.serve_forever()


main()
