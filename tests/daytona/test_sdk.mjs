/*
 * Daytona's own SDK against the emulator. What passes here shows that the emulator speaks what the SDK speaks, and each text of a
 * failure is the one that the SDK makes of it.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { run, test } from "../host/lib/tap.mjs";

const require = createRequire(path.join(process.env.PSW_MODULES, "x.js"));
const { Daytona, DaytonaNotFoundError, DaytonaTimeoutError } = require("@daytonaio/sdk");
const sdk = require("@daytonaio/sdk/package.json");

const emulatorPath = path.join(path.dirname(fileURLToPath(import.meta.url)), "emulator.py");
const child = spawn(process.env.PSW_PYTHON, ["-B", emulatorPath], {
  stdio: ["pipe", "pipe", "inherit"], env: { PATH: process.env.PATH, TMPDIR: process.env.PSW_TMP },
});
const firstLine = await new Promise((resolve, reject) => {
  createInterface({ input: child.stdout }).once("line", resolve);
  child.once("exit", (code) => reject(new Error(`the emulator ended with status ${code}`)));
});
const { url } = JSON.parse(firstLine);
const apiUrl = `${url}/api`;

async function control(method, what, body) {
  const response = await fetch(`${url}/control/${what}`, { method, body: body && JSON.stringify(body) });
  const answer = await response.json();
  assert.equal(response.status, 200, JSON.stringify(answer));
  return answer;
}

const state = () => control("GET", "state");
const fault = (rule) => control("POST", "faults", rule);
const requests = async () => (await control("GET", "requests")).filter((request) => !request.path.includes("socket.io"));

const daytona = new Daytona({ apiKey: "test-key", apiUrl, target: "us" });
const failure = (promise) => promise.then(() => assert.fail("was expected to fail"), (error) => error);

/* A test with a sandbox of its own; afterwards nothing lives and nothing runs. */
function sandboxTest(name, body, params = { snapshot: "base-snapshot" }) {
  test(name, async () => {
    const sandbox = await daytona.create(params, { timeout: 60 });
    try {
      await body(sandbox);
    } finally {
      await control("DELETE", "faults");
      await control("POST", "behave", {});
      await control("POST", "toolbox", {});
      if ((await state()).live.includes(sandbox.id)) await sandbox.delete(60);
    }
    const after = await state();
    assert.deepEqual([after.live, after.running], [[], 0]);
  });
}

test("the SDK is the version that the wire is known from", () => {
  assert.equal(sdk.version, "0.203.0");
});

test("create sends the body and the headers that the wire document states, and waits until the sandbox has started", async () => {
  const sandbox = await daytona.create({
    image: "node:20", language: "typescript", labels: { "paperclip-provider": "daytona" }, autoStopInterval: 15,
    resources: { cpu: 2, memory: 4, disk: 10 },
  }, { timeout: 60 });
  assert.equal(sandbox.state, "started");
  const request = (await requests()).find(({ method, path: where }) => method === "POST" && where === "/api/sandbox");
  assert.deepEqual(JSON.parse(request.body), {
    buildInfo: { dockerfileContent: "FROM node:20\n" }, env: {}, target: "us", cpu: 2, memory: 4, disk: 10, autoStopInterval: 15,
    labels: { "paperclip-provider": "daytona", "code-toolbox-language": "typescript" },
  });
  assert.equal(request.headers.authorization, "Bearer test-key");
  assert.equal(request.headers["x-daytona-sdk-version"], "0.203.0");
  assert.deepEqual((await state()).live, [sandbox.id]);
  await sandbox.delete(60);
  assert.deepEqual((await state()).live, []);
});

sandboxTest("work dir, home and folders are real directories", async (sandbox) => {
  const dir = await sandbox.getWorkDir();
  assert.equal(await sandbox.getUserHomeDir(), dir);
  await sandbox.fs.createFolder(`${dir}/paperclip-workspace/a`, "755");
  assert.ok(existsSync(`${dir}/paperclip-workspace/a`));
});

sandboxTest("a command's status and both streams in one", async (sandbox) => {
  const result = await sandbox.process.executeCommand("echo out; echo err >&2; exit 7");
  assert.equal(result.exitCode, 7);
  assert.equal(result.result, "out\nerr\n");
  assert.equal((await sandbox.process.executeCommand("echo \"$A\"", "/", { A: "it's" })).result, "it's\n");
  assert.equal((await sandbox.process.executeCommand("kill -9 $$")).exitCode, -1);
  assert.equal((await sandbox.process.executeCommand("true", "/none/there")).exitCode, -1);
});

sandboxTest("output that is not UTF-8, and NUL", async (sandbox) => {
  assert.equal((await sandbox.process.executeCommand("printf 'a\\377b\\000c'")).result, "a\uFFFDb\0c");
});

sandboxTest("a command past its timeout is ended, and the SDK calls it a timeout", async (sandbox) => {
  const error = await failure(sandbox.process.executeCommand("sleep 1000", undefined, undefined, 1));
  assert.ok(error instanceof DaytonaTimeoutError);
  assert.match(error.message, /^request timeout: command execution timeout/);
  assert.equal((await state()).running, 0);
});

sandboxTest("files go up and come down byte for byte", async (sandbox) => {
  const dir = await sandbox.getWorkDir();
  const bytes = Buffer.from(Array.from({ length: 100_000 }, (_, at) => at * 7 % 256));
  const odd = Buffer.from("\r\n--DAYTONA-FILE-BOUNDARY--\r\n");
  await sandbox.fs.uploadFiles([
    { source: bytes, destination: `${dir}/deep/er/bytes` }, { source: odd, destination: `${dir}/odd` },
    { source: Buffer.alloc(0), destination: `${dir}/empty` },
  ], 60);
  assert.deepEqual(readFileSync(`${dir}/deep/er/bytes`), bytes);
  const back = await sandbox.fs.downloadFiles([{ source: `${dir}/deep/er/bytes` }, { source: `${dir}/none` }, { source: `${dir}/empty` }]);
  assert.deepEqual(back[0].result, bytes);
  assert.equal(back[1].error, `file not found: ${dir}/none`);
  assert.equal(back[1].errorDetails.errorCode, "FILE_NOT_FOUND");
  assert.equal(back[2].result.length, 0);
  await sandbox.fs.setFilePermissions(`${dir}/odd`, { mode: "600" });
  await sandbox.fs.deleteFile(`${dir}/odd`);
  assert.ok(!existsSync(`${dir}/odd`));
});

sandboxTest("a session's command has two streams, and keeps what it changed for the next one", async (sandbox) => {
  await sandbox.process.createSession("s1");
  const { cmdId } = await sandbox.process.executeSessionCommand("s1", { command: "cd /; X=1; echo out; echo err >&2; (exit 3)", runAsync: true });
  let command;
  do command = await sandbox.process.getSessionCommand("s1", cmdId);
  while (command.exitCode === undefined);
  assert.equal(command.exitCode, 3);
  const logs = await sandbox.process.getSessionCommandLogs("s1", cmdId);
  assert.deepEqual([logs.stdout, logs.stderr], ["out\n", "err\n"]);
  const second = await sandbox.process.executeSessionCommand("s1", { command: "echo $X $PWD; printf abc" });
  assert.equal(second.stdout, "1 /\nabc\n");
  await sandbox.process.deleteSession("s1");
  assert.ok(await failure(sandbox.process.getSessionCommand("s1", cmdId)) instanceof DaytonaNotFoundError);
  assert.equal((await failure(sandbox.process.executeSessionCommand("s1", { command: "true" }))).message,
    "failed to execute command: not found: session not found");
});

/* All of it fits in one message: the SDK takes a label that stands at the end of a message for output. */
sandboxTest("a followed log comes over a WebSocket, with its streams apart", async (sandbox) => {
  await sandbox.process.createSession("s1");
  const { cmdId } = await sandbox.process.executeSessionCommand("s1", {
    command: "for i in $(seq 20); do echo out-ü-$i; echo err-$i >&2; done; sleep 0.1; echo last", runAsync: true,
  });
  const text = { stdout: "", stderr: "" };
  await sandbox.process.getSessionCommandLogs("s1", cmdId, (piece) => { text.stdout += piece; }, (piece) => { text.stderr += piece; });
  const lines = (what) => Array.from({ length: 20 }, (_, at) => `${what}-${at + 1}\n`).join("");
  assert.equal(text.stdout, `${lines("out-ü")}last\n`);
  assert.equal(text.stderr, lines("err"));
});

sandboxTest("ssh access, snapshots of a sandbox", async (sandbox) => {
  const access = await sandbox.createSshAccess(30);
  assert.equal(access.sshCommand, `ssh ${access.token}@ssh.app.daytona.io`);
  await sandbox.createSnapshot("captured", 60);
  const snapshot = await daytona.snapshot.get("captured");
  await daytona.snapshot.delete(snapshot);
  assert.equal((await failure(daytona.snapshot.get("captured"))).message, "Snapshot captured not found");
});

sandboxTest("stop, archive, start again, find by label", async (sandbox) => {
  await sandbox.stop(60);
  assert.equal(sandbox.state, "stopped");
  const error = await failure(sandbox.process.executeCommand("true"));
  assert.match(error.message, /Is the Sandbox started\?/);
  await sandbox.setAutoDeleteInterval(60);
  await sandbox.archive();
  assert.equal(sandbox.state, "archiving");
  assert.equal((await daytona.get(sandbox.id)).state, "archived");
  await sandbox.start(60);
  assert.equal(sandbox.state, "started");
  const found = [];
  for await (const one of daytona.list({ labels: { mine: "yes" } })) found.push(one.id);
  assert.deepEqual(found, [sandbox.id]);
}, { snapshot: "base-snapshot", labels: { mine: "yes" } });

sandboxTest("a sandbox in error that can be recovered", async (sandbox) => {
  await control("POST", "state", { id: sandbox.id, state: "error", errorReason: "disk", recoverable: true });
  const again = await daytona.get(sandbox.id);
  assert.deepEqual([again.state, again.errorReason, again.recoverable], ["error", "disk", true]);
  await again.recover(60);
  assert.equal(again.state, "started");
});

test("what the service refuses comes with the service's words", async () => {
  assert.equal((await failure(daytona.create({ snapshot: "none" }))).message,
    "Snapshot none not found. Did you add it through the Daytona Dashboard?");
  const error = await failure(daytona.get("none"));
  assert.ok(error instanceof DaytonaNotFoundError);
  assert.equal(error.message, "Sandbox with ID or name none not found");
  const stranger = new Daytona({ apiKey: "wrong", apiUrl });
  assert.equal((await failure(stranger.get("none"))).message, "Invalid credentials");
});

test("the SDK leaves a sandbox behind whose start fails; the emulator's list shows it", async () => {
  await control("POST", "behave", { plans: { image: ["pending_build", "build_failed"] }, errorReason: "no such image" });
  const error = await failure(daytona.create({ image: "none:1" }, { timeout: 60 }));
  await control("POST", "behave", {});
  assert.match(error.message, /failed to start with status: build_failed, error reason: /);
  const { live } = await state();
  assert.equal(live.length, 1);
  await (await daytona.get(live[0])).delete(60);
});

sandboxTest("faults look to the SDK as the wire document says", async (sandbox) => {
  const fails = async (rule) => {
    await fault({ path: "process/execute", ...rule });
    return (await failure(sandbox.process.executeCommand("true"))).message;
  };
  assert.equal(await fails({ status: 500, reply: { error: "Oops" } }), "Oops");
  assert.equal(await fails({ status: 500, reply: { odd: 1 } }), "{\"odd\":1}");
  assert.equal(await fails({ status: 502, reply: "<html>Bad Gateway</html>" }), "<html>Bad Gateway</html>");
  assert.equal(await fails({ status: 503 }), "Request failed with status code 503");
  assert.match(await fails({ reset: true }), /ECONNRESET/);
  assert.match(await fails({ close: true }), /socket hang up/);
  assert.equal(await fails({ truncate: 5 }), "stream has been aborted");
  await fault({ path: "process/execute", delayMs: 50 });
  assert.equal((await sandbox.process.executeCommand("echo late")).result, "late\n");
});

await run(async () => {
  child.removeAllListeners("exit");
  const ended = new Promise((resolve) => { child.once("exit", resolve); });
  child.stdin.end();
  assert.equal(await ended, 0);
});
