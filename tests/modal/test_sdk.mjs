/*
 * Modal's own SDK against the emulator, in the release that the wire is known from and in the newest one. What passes here shows that the
 * emulator speaks what the SDK speaks, and each text of a failure is the one that the SDK makes of it.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { run, test } from "../host/lib/tap.mjs";

const emulatorPath = path.join(path.dirname(fileURLToPath(import.meta.url)), "emulator.mjs");
const child = spawn(process.execPath, [emulatorPath], { stdio: ["pipe", "pipe", "inherit"], env: { PATH: process.env.PATH, TMPDIR: process.env.PSW_TMP } });
const first = await new Promise((resolve, reject) => {
  createInterface({ input: child.stdout }).once("line", resolve);
  child.once("exit", (code) => reject(new Error(`the emulator ended with status ${code}`)));
});
const { url, serverUrl, directory } = JSON.parse(first);
process.env.MODAL_SERVER_URL = serverUrl;
process.env.MODAL_SANDBOX_V2 = "0";

async function control(method, what, body) {
  const response = await fetch(`${url}/control/${what}`, { method, body: body && JSON.stringify(body) });
  const answer = await response.json();
  assert.equal(response.status, 200, JSON.stringify(answer));
  return answer;
}

const state = () => control("GET", "state");
const fault = (rule) => control("POST", "faults", rule);
const calls = async (since = 0) => (await control("GET", `requests?since=${since}`)).map(({ rpc }) => rpc);
const failure = (promise) => promise.then(() => assert.fail("was expected to fail"), (error) => error);
const require = createRequire(path.join(process.env.PSW_MODULES, "x.js"));

for (const name of ["modal-reference", "modal"]) {
  const { ModalClient, NotFoundError } = require(name);
  const { version } = require(path.join(process.env.PSW_MODULES, name, "package.json"));
  const reference = version === "0.7.4";
  const client = new ModalClient({ tokenId: "test-id", tokenSecret: "test-secret" });

  /* A test with a sandbox of its own; afterwards nothing lives and nothing runs. */
  const sandboxTest = (what, body) => test(`${version}: ${what}`, async () => {
    const app = await client.apps.fromName("app", { createIfMissing: true });
    const sandbox = await client.sandboxes.create(app, client.images.fromRegistry("node:20"), { workdir: "/tmp", timeoutMs: 60000 });
    try {
      await body(sandbox);
    } finally {
      await control("DELETE", "faults");
      await sandbox.terminate();
    }
    assert.deepEqual((await state()).live, []);
  });

  test(`${version} is one of the two releases that the wire is known from`, () => {
    assert.ok(["0.7.4", "0.11.1"].includes(version));
  });

  sandboxTest("both streams and the exit code", async (sandbox) => {
    const since = (await calls()).length;
    const command = await sandbox.exec(["sh", "-lc", "echo out; echo err >&2; exit 3"], { timeoutMs: 10000 });
    assert.deepEqual([await command.stdout.readText(), await command.stderr.readText(), await command.wait()], ["out\n", "err\n", 3]);
    assert.deepEqual((await calls(since)).filter((rpc) => rpc.startsWith("TaskExec")),
      ["TaskExecStart", "TaskExecStdioRead", "TaskExecStdioRead", "TaskExecWait"]);
    const killed = await sandbox.exec(["sh", "-c", "kill -9 $$"]);
    assert.equal(await killed.wait(), 137);
  });

  sandboxTest("tags, and a sandbox found by its id", async (sandbox) => {
    await sandbox.setTags({ "paperclip-provider": "modal" });
    assert.deepEqual((await state()).sandboxes.find(({ id }) => id === sandbox.sandboxId).tags, [{ tag_name: "paperclip-provider", tag_value: "modal" }]);
    const again = await client.sandboxes.fromId(sandbox.sandboxId);
    assert.equal(await again.poll(), null);
    const command = await again.exec(["echo", "again"]);
    assert.equal(await command.stdout.readText(), "again\n");
    if (reference) assert.ok(await failure(client.sandboxes.fromId("sb-0000000000000000000000")) instanceof NotFoundError);
  });

  sandboxTest("a stream that breaks is read on from where it broke", async (sandbox) => {
    await fault({ rpc: "TaskExecStdioRead", body: "^(?!.*file_descriptor)", at: 70000, reset: true });
    await fault({ rpc: "TaskExecStdioRead", body: "^(?!.*file_descriptor)", at: 10, status: [14, "moved"] });
    const command = await sandbox.exec(["seq", "1", "50000"]);
    assert.equal(await command.stdout.readText(), Array.from({ length: 50000 }, (_, n) => `${n + 1}\n`).join(""));
  });

  sandboxTest("a command past its time is killed", async (sandbox) => {
    const began = Date.now();
    const command = await sandbox.exec(["sleep", "1000"], { timeoutMs: 1000 });
    const end = await command.wait().catch((error) => error.message);
    assert.ok(end === 137 || /[Dd]eadline exceeded/.test(end), `${end}`);
    assert.ok(Date.now() - began < 30000);
  });

  if (reference) {
    sandboxTest("a file is written by way of the control plane", async (sandbox) => {
      const file = await sandbox.open(path.join(directory, "written"), "w");
      await file.write(new TextEncoder().encode("written"));
      await file.flush();
      await file.close();
      const command = await sandbox.exec(["cat", path.join(directory, "written")]);
      assert.equal(await command.stdout.readText(), "written");
    });
  }

  test(`${version}: what the service refuses comes with the service's words`, async () => {
    await fault({ rpc: "AppGetOrCreate", status: [7, "not you: €"] });
    const error = await failure(client.apps.fromName("app", { createIfMissing: true }));
    assert.equal(error.message, "/modal.client.ModalClient/AppGetOrCreate PERMISSION_DENIED: not you: €");
    const stranger = new ModalClient({ tokenId: "test-id", tokenSecret: "wrong" });
    assert.match((await failure(stranger.apps.fromName("app", { createIfMissing: true }))).message, /AuthTokenGet UNAUTHENTICATED: Token validation failed$/);
    stranger.close();
  });

  test(`${version}: faults look as the wire document says`, async () => {
    for (const rule of [{ rst: 2 }, { http: 503 }, { end: true }, { reset: true }, { status: [14, "x"] }]) {
      const since = (await calls()).length;
      await fault({ rpc: "AppGetOrCreate", ...rule });
      await client.apps.fromName("app", { createIfMissing: true });
      assert.equal((await calls(since)).filter((rpc) => rpc === "AppGetOrCreate").length, 2, JSON.stringify(rule));
    }
  });

  test(`${version}: an image's build is followed to its end`, async () => {
    await control("POST", "behave", { images: { bad: { joins: 3, status: 2, exception: "no such image" } } });
    const app = await client.apps.fromName("app", { createIfMissing: true });
    const error = await failure(client.sandboxes.create(app, client.images.fromRegistry("bad"), {}));
    assert.match(error.message, /^Image build for im-\w+ failed with the exception:\nno such image$/);
    await control("POST", "behave", {});
  });

  test(`${version}: the client closes`, () => client.close());
}

await run(async () => {
  child.removeAllListeners("exit");
  const ended = new Promise((resolve) => { child.once("exit", resolve); });
  child.stdin.end();
  assert.equal(await ended, 0);
});
