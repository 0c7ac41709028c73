/*
 * The worker behind the server's plugin-worker-manager: start, calls, live output, bulk, odd text, death, restart, stop. Everything
 * that a driver does is played for each driver.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { readdirSync, readlinkSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { drivers } from "./lib/drivers.mjs";
import { serverModule, serverVersion } from "./lib/modules.mjs";
import { run, test, until } from "./lib/tap.mjs";
import { leasesInState, longSleep, makePlugin, nothingRuns, runs, testDir, withWorker } from "./lib/worker.mjs";

const plugin = makePlugin();
const { pluginManifestValidator } = await serverModule("services/plugin-manifest-validator");
const MIB = 1024 * 1024;

const rejection = (promise) => promise.then(() => assert.fail("was expected to fail"), (error) => error);

const sha256 = (text) => createHash("sha256").update(text).digest("hex");

/* A command's live output, as the server's sink gets it. */
function collector() {
  const text = { stdout: "", stderr: "" };
  const sink = (stream, chunk) => {
    text[stream] += chunk;
  };
  return { text, sink };
}

test(`the server under test is the published one, ${serverVersion}`, () => {
  assert.match(serverVersion, /^\d{4}\.\d+\.\d+$/);
  assert.ok(Number(process.versions.node.split(".")[0]) >= 24);
});

test("the server accepts the plugin's manifest as it is", () => {
  const parsed = pluginManifestValidator().parseOrThrow(plugin.manifest);
  const keys = parsed.environmentDrivers.map((driver) => driver.driverKey);
  for (const key of ["fake-plugin", "local"]) assert.ok(keys.includes(key), key);
  const stored = JSON.parse(JSON.stringify(parsed)); /* without what is undefined */
  assert.deepEqual(stored.environmentDrivers, plugin.manifest.environmentDrivers, "the server drops nothing of the drivers");
});

test("the launcher becomes the worker: the server's child is the native program, and it lists what it can do", () =>
  withWorker(plugin, async (worker) => {
    assert.equal(worker.handle.status, "running");
    assert.equal(readlinkSync(`/proc/${worker.pid()}/exe`), plugin.program);
    const methods = worker.handle.supportedMethods;
    for (const method of ["Probe", "AcquireLease", "ResumeLease", "ReleaseLease", "DestroyLease", "RealizeWorkspace", "Execute"]) {
      assert.ok(methods.includes(`environment${method}`), method);
    }
    assert.equal(methods.includes("environmentSyncIn"), methods.includes("environmentSyncOut"));
    assert.ok(!methods.includes("initialize"));
  }));

test("health is ok", () =>
  withWorker(plugin, async (worker) => {
    const health = await worker.call("health", {});
    assert.equal(health.status, "ok");
  }));

test("a second initialize is refused, and the worker goes on", () =>
  withWorker(plugin, async (worker) => {
    const error = await rejection(worker.call("initialize", {}));
    assert.equal(error.code, -32002);
    assert.equal(error.message, "Worker already initialized");
    assert.equal((await worker.call("health", {})).status, "ok");
  }));

test("configChanged is accepted for one company after the other", () =>
  withWorker(plugin, async (worker) => {
    for (const [config, companyId] of [[{ a: 1 }, randomUUID()], [{ a: 1 }, randomUUID()], [{ b: [2] }, null]]) {
      assert.equal(await worker.call("configChanged", { config, companyId }), null);
    }
  }));

test("a method that nobody knows and one that this worker lacks get their own errors", () =>
  withWorker(plugin, async (worker) => {
    const unknown = await rejection(worker.call("environmentTeleport", {}));
    assert.deepEqual([unknown.code, unknown.message], [-32601, "Unknown method: environmentTeleport"]);
    const missing = await rejection(worker.call("executeTool", {}));
    assert.deepEqual([missing.code, missing.message], [-32004, "executeTool is not implemented by this plugin"]);
  }));

test("an unknown driver is named in the error", () =>
  withWorker(plugin, async (worker) => {
    const error = await rejection(worker.acquire({ key: "no-such-driver", config: {} }));
    assert.equal(error.code, -32002);
    assert.match(error.message, /no-such-driver/);
  }));

for (const driver of drivers) {
  const name = (text) => `${driver.key}: ${text}`;
  const driverTest = (text, body, expectedWarnings = []) =>
    test(name(text), () => {
      driver.need();
      return withWorker(plugin, body, { expectedWarnings });
    });

  /* Commands of a lease, which is destroyed afterwards. */
  const withLease = async (worker, body) => {
    const lease = await worker.acquire(driver);
    const sh = (script, params, sink) => worker.execute(driver, lease, "sh", ["-c", script], params, sink);
    try {
      await body({ lease, sh });
    } finally {
      await worker.destroy(driver, lease);
    }
  };

  driverTest("validate, probe, acquire, realize, execute, release", async (worker) => {
    const { config } = driver;
    const validated = await worker.call("environmentValidateConfig", { driverKey: driver.key, config });
    assert.equal(validated.ok, true);
    const probed = await worker.call("environmentProbe", { ...worker.base(driver), environmentId: "unsaved" }, 120_000);
    assert.equal(probed.ok, true, JSON.stringify(probed));
    const lease = await worker.acquire(driver);
    assert.equal(typeof lease.providerLeaseId, "string");
    const realized = await worker.call("environmentRealizeWorkspace", { ...worker.base(driver), lease, workspace: {} });
    assert.match(realized.cwd, /^\//);
    const result = await worker.execute(driver, lease, "sh", ["-c", "pwd; echo oops >&2; exit 3"], { cwd: realized.cwd });
    assert.deepEqual([result.exitCode, result.timedOut, result.stdout, result.stderr], [3, false, `${realized.cwd}\n`, "oops\n"]);
    await worker.release(driver, lease);
    await worker.destroy(driver, lease);
  });

  driverTest("output reaches the server's sink while the command runs, in order, and the result holds it all", (worker) =>
    withLease(worker, async ({ sh }) => {
      const { text, sink } = collector();
      const running = sh("echo first; until [ -e go ]; do sleep 0.01; done; echo second; echo third >&2", {}, sink);
      await until(() => text.stdout === "first\n", "the first line is there before the command has ended");
      await sh("touch go");
      const result = await running;
      assert.deepEqual([result.stdout, result.stderr], ["first\nsecond\n", "third\n"]);
      assert.ok(result.stdout.startsWith(text.stdout));
      assert.ok(result.stderr.startsWith(text.stderr));
    }));

  driverTest("200 executes at once, each with its own answer and its own live output", (worker) =>
    withLease(worker, async ({ sh }) => {
      const all = await Promise.all(Array.from({ length: 200 }, async (_, i) => {
        const { text, sink } = collector();
        return { text, result: await sh(`echo number ${i}`, {}, sink) };
      }));
      for (const [i, { text, result }] of all.entries()) {
        assert.deepEqual([result.exitCode, result.stdout], [0, `number ${i}\n`]);
        assert.ok(`number ${i}\n`.startsWith(text.stdout));
      }
    }));

  driverTest("50 MB of output come in one result, to the byte", (worker) =>
    withLease(worker, async ({ sh }) => {
      const size = 50_000_000;
      const { text, sink } = collector();
      const line = '0123456789 "quoted" \\ and so on, a line of 63 characters + newline';
      const result = await sh(`yes '${line}' | head -c ${size}`, {}, sink);
      assert.equal(result.exitCode, 0);
      const whole = `${line}\n`.repeat(Math.ceil(size / (line.length + 1))).slice(0, size);
      assert.equal(result.stdout.length, size);
      assert.equal(sha256(result.stdout), sha256(whole));
      assert.ok(whole.startsWith(text.stdout), "live output is a prefix of the result");
    }));

  driverTest("U+2028, U+2029, carriage returns and all control characters pass the server's line reader", (worker) =>
    withLease(worker, async ({ sh }) => {
      const controls = Array.from({ length: 32 }, (_, i) => String.fromCharCode(i)).join("");
      const text = `a\u2028b\u2029c\rd${controls}\u007f\u0085\ufeffé€😀"\\/`;
      const { text: live, sink } = collector();
      const result = await sh("cat", { stdin: text }, sink);
      assert.equal(result.stdout, text);
      assert.ok(text.startsWith(live.stdout));
    }));

  driverTest("bytes that are not UTF-8 become U+FFFD, and characters written in pieces stay whole", (worker) =>
    withLease(worker, async ({ sh }) => {
      const { text, sink } = collector();
      const script = "printf '\\377ok\\300\\n'; for b in 360 237 230 200; do printf \"\\\\$b\"; sleep 0.03; done; printf '\\342\\202'";
      const result = await sh(script, {}, sink);
      assert.equal(result.stdout, "\ufffdok\ufffd\n😀\ufffd");
      assert.ok(result.stdout.startsWith(text.stdout));
    }));

  driverTest("the server's file transfer: base64 in by stdin, dd and base64 out", (worker) =>
    withLease(worker, async ({ sh }) => {
      const bytes = randomBytes(3 * MIB);
      const chunk = bytes.toString("base64");
      assert.equal((await sh("base64 -d >> 'up load'", { stdin: chunk })).exitCode, 0);
      assert.equal((await sh("base64 -d >> 'up load'", { stdin: chunk })).exitCode, 0);
      assert.equal((await sh("wc -c < 'up load'")).stdout.trim(), String(bytes.length * 2));
      for (const skip of [0, 1]) {
        const { stdout } = await sh(`dd if='up load' bs=${3 * MIB} skip=${skip} count=1 2>/dev/null | base64`);
        assert.ok(Buffer.from(stdout, "base64").equals(bytes));
      }
    }));

  driverTest("a command that passes its time limit ends with everything that it started", (worker) =>
    withLease(worker, async ({ sh }) => {
      const seconds = longSleep();
      const result = await sh(`echo begun; sleep ${seconds} & sleep ${seconds}`, { timeoutMs: 300 });
      assert.deepEqual([result.exitCode, result.timedOut, result.stdout], [null, true, "begun\n"]);
      await until(() => !runs(seconds), "the sleeps are gone");
    }));

  driverTest("a lease that is destroyed ends the command in it at once", async (worker) => {
    const lease = await worker.acquire(driver);
    const seconds = longSleep();
    const running = rejection(worker.execute(driver, lease, "sleep", [seconds]));
    await until(() => runs(seconds), "the command runs");
    await worker.destroy(driver, lease);
    const error = await running;
    assert.equal(error.code, -32002);
    assert.ok(!runs(seconds));
  });

  driverTest("after kill -9 the calls fail, the server restarts the worker, and nothing of the old one runs on", async (worker) => {
    const lease = await worker.acquire(driver);
    const seconds = longSleep();
    const running = rejection(worker.execute(driver, lease, "sh", ["-c", `sleep ${seconds} & sleep ${seconds}`]));
    await until(() => runs(seconds), "the command runs");
    const old = worker.pid();
    process.kill(old, "SIGKILL");
    const error = await running;
    assert.equal(error.code, -32000);
    assert.match(error.message, /^Worker process exited \(code=null, signal=SIGKILL\)$/);
    await until(() => worker.handle.status === "running", "the server has restarted the worker");
    assert.notEqual(worker.pid(), old);
    await until(() => !runs(seconds), "the command died with its worker");
    assert.equal((await worker.call("health", {})).status, "ok");
    await worker.destroy(driver, lease);
    await withLease(worker, async ({ sh }) => assert.equal((await sh("echo again")).stdout, "again\n"));
  }, [/worker process crashed/]);

  driverTest("the server's stop needs neither SIGTERM nor SIGKILL, though commands run, and leaves nothing", async (worker) => {
    const lease = await worker.acquire(driver);
    const seconds = longSleep();
    const exits = [];
    worker.handle.on("exit", (exit) => exits.push(exit));
    const running = worker.execute(driver, lease, "sh", ["-c", `sleep ${seconds} & sleep ${seconds}`]).catch((error) => error);
    await until(() => runs(seconds), "the command runs");
    await worker.manager.stopWorker(worker.pluginId);
    assert.deepEqual(exits.map(({ code, signal }) => [code, signal]), [[0, null]]);
    await running;
    await until(() => !runs(seconds), "the command is gone");
  });

  driverTest("restart keeps the server's handle usable", async (worker) => {
    const old = worker.pid();
    await worker.handle.restart();
    assert.notEqual(worker.pid(), old);
    await withLease(worker, async ({ sh }) => assert.equal((await sh("echo again")).stdout, "again\n"));
  });

  test(name("when the server itself is killed, its worker and the commands end, and no directory is left"), async () => {
    driver.need();
    const seconds = longSleep();
    const holder = spawn(process.execPath, [fileURLToPath(new URL("./lib/holder.mjs", import.meta.url)), driver.key, seconds, plugin.root],
      { stdio: ["ignore", "pipe", "inherit"] });
    for await (const line of createInterface({ input: holder.stdout })) if (line === "running") break;
    await until(() => runs(seconds), "the command runs");
    holder.kill("SIGKILL");
    await until(() => !runs(seconds), "the command is gone");
    await nothingRuns();
    assert.deepEqual(leasesInState(), []);
    assert.deepEqual(readdirSync(testDir).filter((entry) => entry.startsWith("held ")).flatMap((entry) => readdirSync(`${testDir}/${entry}`)), []);
  });
}

await run(nothingRuns);
