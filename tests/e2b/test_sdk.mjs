/*
 * The vendors' own SDKs against the emulator. What passes here shows that the emulator speaks what they speak, and each text of a failure
 * is the one that they make of it.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { run, test } from "../host/lib/tap.mjs";

const require = createRequire(path.join(process.env.PSW_MODULES, "x.js"));
const e2b = require("e2b");
const key = "e2b_0123456789abcdef";

const child = spawn(process.env.PSW_PYTHON, ["-B", path.join(path.dirname(fileURLToPath(import.meta.url)), "emulator.py"), "--key", key], {
  stdio: ["pipe", "pipe", "inherit"], env: { PATH: process.env.PATH, TMPDIR: process.env.PSW_TMP },
});
const firstLine = await new Promise((resolve, reject) => {
  createInterface({ input: child.stdout }).once("line", resolve);
  child.once("exit", (code) => reject(new Error(`the emulator ended with status ${code}`)));
});
const { url } = JSON.parse(firstLine);
for (const name of ["E2B", "NOVITA"]) {
  process.env[`${name}_API_URL`] = `${url}/api`;
  process.env[`${name}_SANDBOX_URL`] = url;
  process.env[`${name}_API_KEY`] = key;
}
const novita = require("novita-sandbox");

async function control(method, what, body) {
  const response = await fetch(`${url}/control/${what}`, { method, body: body && JSON.stringify(body) });
  const answer = await response.json();
  assert.equal(response.status, 200, JSON.stringify(answer));
  return answer;
}

const state = () => control("GET", "state");
const fault = (rule) => control("POST", "faults", rule);
const failure = (promise) => promise.then(() => assert.fail("was expected to fail"), (error) => error);

/* With each SDK, and a sandbox of its own; afterwards nothing lives. */
function sandboxTest(name, body) {
  for (const [sdk, { Sandbox }] of [["e2b", e2b], ["novita", novita]]) {
    test(`${sdk}: ${name}`, async () => {
      const sandbox = await Sandbox.create("base", { timeoutMs: 299_001, metadata: { mine: "yes" } });
      try {
        await body(sandbox, Sandbox);
      } finally {
        await control("DELETE", "faults");
        await control("POST", "behave", {});
        await Sandbox.kill(sandbox.sandboxId);
      }
      assert.deepEqual((await state()).live, []);
    });
  }
}

sandboxTest("create, lifetime, list by metadata, pause, connect", async (sandbox, Sandbox) => {
  const requests = await control("GET", "requests");
  const create = requests.findLast((request) => request.method === "POST" && request.path.endsWith("/sandboxes"));
  const body = JSON.parse(create.body);
  assert.deepEqual([body.templateID, body.timeout, body.metadata], ["base", 300, { mine: "yes" }]);
  await sandbox.setTimeout(60_000);
  const found = await Sandbox.list({ query: { metadata: { mine: "yes" } } }).nextItems();
  assert.deepEqual(found.map(({ sandboxId }) => sandboxId), [sandbox.sandboxId]);
  assert.deepEqual(await Sandbox.list({ query: { metadata: { mine: "no" } } }).nextItems(), []);
  assert.equal((await sandbox.getInfo()).state, "running");
  assert.equal(await Sandbox.pause(sandbox.sandboxId), true);
  assert.equal(await Sandbox.pause(sandbox.sandboxId), false);
  assert.equal((await Sandbox.connect(sandbox.sandboxId)).sandboxId, sandbox.sandboxId);
});

sandboxTest("a command's streams, codes, signals", async (sandbox) => {
  const live = [];
  const done = await sandbox.commands.run("printf 'h\\303\\251'; echo err >&2", { onStdout: (text) => { live.push(text); } });
  assert.deepEqual([done.exitCode, done.stdout, done.stderr, live.join("")], [0, "hé", "err\n", "hé"]);
  const error = await failure(sandbox.commands.run("echo x; exit 3"));
  assert.deepEqual([error.exitCode, error.stdout, error.message], [3, "x\n", "exit status 3"]);
  assert.equal((await failure(sandbox.commands.run("kill -9 $$"))).exitCode, -1);
  assert.match((await failure(sandbox.commands.run("pwd", { cwd: "/none/there" }))).message, /cwd '\/none\/there' does not exist/);
});

sandboxTest("a command is attached to again, listed and killed", async (sandbox) => {
  const handle = await sandbox.commands.run("sleep 0.4; echo later; exit 5", { background: true });
  const again = await sandbox.commands.connect(handle.pid);
  const error = await failure(again.wait());
  assert.deepEqual([error.exitCode, error.stdout], [5, "later\n"]);
  const long = await sandbox.commands.run("sleep 100000", { background: true });
  assert.ok((await sandbox.commands.list()).some(({ pid }) => pid === long.pid));
  assert.equal(await sandbox.commands.kill(long.pid), true);
  assert.equal((await failure(long.wait())).exitCode, -1);
});

sandboxTest("a command past its limit is ended", async (sandbox) => {
  const error = await failure(sandbox.commands.run("sleep 100000", { timeoutMs: 500 }));
  assert.match(error.message, /^\[deadline_exceeded\] /);
});

sandboxTest("files go up and are removed", async (sandbox) => {
  const where = `${(await sandbox.commands.run("pwd")).stdout.trim()}/deep/file`;
  await sandbox.files.write(where, "text ü");
  assert.equal(readFileSync(where, "utf8"), "text ü");
  assert.equal(await sandbox.files.read(where), "text ü");
  await sandbox.files.remove(where);
  await sandbox.files.remove(where);
});

sandboxTest("what fails is called as the wire document says", async (sandbox, Sandbox) => {
  assert.equal((await failure(Sandbox.connect("i0"))).message, "Paused sandbox i0 not found");
  assert.equal((await failure(Sandbox.setTimeout("i0", 1000))).message, "Sandbox i0 not found");
  assert.equal(await Sandbox.kill("i0"), false);
  assert.equal((await failure(Sandbox.create("none"))).message, "404: template 'none' not found");
  assert.match((await failure(Sandbox.create("base", { apiKey: `${key}0` }))).message, /^Unauthorized, please check your credentials\. - Invalid API key/);
  await fault({ path: "Process/Start", status: 502 });
  assert.match((await failure(sandbox.commands.run("true"))).message, /Sandbox is probably not running anymore|HTTP 502/);
});

test("e2b: texts of the errors that a command meets", async () => {
  const sandbox = await e2b.Sandbox.create("base");
  const fails = async (rule) => {
    await fault({ path: "Process/Start", ...rule });
    return (await failure(sandbox.commands.run("true"))).message;
  };
  assert.equal(await fails({ status: 500 }), "2: [unknown] HTTP 500");
  assert.equal(await fails({ status: 404 }), "12: [unimplemented] HTTP 404");
  assert.equal(await fails({ status: 401 }), "[unauthenticated] HTTP 401");
  assert.equal(await fails({ status: 429 }), "Sandbox is probably not running anymore");
  assert.equal(await fails({ status: 400 }), "13: [internal] HTTP 400");
  assert.equal(await fails({ status: 403 }), "7: [permission_denied] HTTP 403");
  assert.equal(await fails({ reset: true }), "2: [unknown] fetch failed");
  assert.equal(await fails({ truncate: 0 }), "2: [unknown] terminated");
  assert.equal(await fails({ status: 200, headers: { "Content-Type": "application/connect+json" } }), "2: [unknown] missing EndStreamResponse");
  assert.match(await fails({ status: 200, reply: "<html>", headers: { "Content-Type": "text/html" } }), /unsupported content type text\/html/);
  await sandbox.kill();
});

test("e2b: texts of the errors that an upload meets", async () => {
  const sandbox = await e2b.Sandbox.create("base");
  for (const [status, text] of [[400, "M"], [401, "M"], [507, "M"], [429, "M: The requests are being rate limited."], [500, "500: M"],
    [502, "M: This error is likely due to sandbox timeout. You can modify the sandbox timeout by passing 'timeoutMs' when starting the sandbox or " +
      "calling '.setTimeout' on the sandbox with the desired timeout."]]) {
    await fault({ path: "/files", status, reply: { code: status, message: "M" } });
    assert.equal((await failure(sandbox.files.write("/tmp/psw-e2b-sdk", "x"))).message, text);
  }
  await sandbox.kill();
});

test("e2b: a sandbox that dies under a command", async () => {
  const sandbox = await e2b.Sandbox.create("base");
  const handle = await sandbox.commands.run("sleep 100000", { background: true });
  await control("POST", "destroy", { id: sandbox.sandboxId });
  assert.equal((await failure(handle.wait())).message,
    "[unknown] terminated: The sandbox was killed or reached its end of life while the request was in flight.");
});

await run(async () => {
  child.removeAllListeners("exit");
  const ended = new Promise((resolve) => { child.once("exit", resolve); });
  child.stdin.end();
  assert.equal(await ended, 0);
});
