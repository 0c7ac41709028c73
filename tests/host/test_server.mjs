/* The whole server, as a person starts it: install the plugin by its directory, set an environment up, probe it, remove the plugin. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import path from "node:path";

import { drivers, fake, local } from "./lib/drivers.mjs";
import { packageFile } from "./lib/modules.mjs";
import { freePort, startPostgres } from "./lib/postgres.mjs";
import { run, test, until } from "./lib/tap.mjs";
import { leasesInState, makePlugin, nothingRuns, processes, stateDir, testDir } from "./lib/worker.mjs";

const plugin = makePlugin();
const postgres = await startPostgres();
const temp = path.join(testDir, "server temp");
mkdirSync(temp);

let server; // { child, ended, port }

/* Starts the server and waits until it answers. */
async function startServer() {
  const env = {
    PATH: process.env.PATH, HOME: process.env.HOME, PAPERCLIP_HOME: process.env.PAPERCLIP_HOME, NODE_ENV: "production", TMPDIR: temp,
    DATABASE_URL: postgres.connectionString, HOST: "127.0.0.1", PORT: String(await freePort()), SERVE_UI: "false",
    HEARTBEAT_SCHEDULER_ENABLED: "false", PAPERCLIP_ANNOUNCEMENTS_ENABLED: "false", PAPERCLIP_TELEMETRY_DISABLED: "1", DO_NOT_TRACK: "1",
    PAPERCLIP_DB_BACKUP_ENABLED: "false", PAPERCLIP_MIGRATION_AUTO_APPLY: "true",
  };
  const child = spawn(process.execPath, [packageFile("@paperclipai/server/dist/index.js")], { env, cwd: testDir, stdio: ["ignore", "pipe", "pipe"] });
  let log = "";
  let hasEnded = false;
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (log += chunk));
  const ended = new Promise((resolve) => child.once("exit", () => resolve((hasEnded = true))));
  server = { child, ended, port: 0 };
  const answers = async () => {
    /* The port that was free a moment ago may have been taken: then it chose another. */
    server.port = Number(/Server startup recovery complete on [^"]*:(\d+)/.exec(log)?.[1] ?? 0);
    return hasEnded || (server.port !== 0 && (await request("GET", "/health").then(() => true, () => false)));
  };
  await until(answers, "the server answers", 280_000).catch((error) => {
    throw new Error(error.message, { cause: log.slice(-3000) });
  });
  if (hasEnded) throw new Error("the server ended", { cause: log.slice(-3000) });
}

async function stopServer() {
  if (!server) return;
  server.child.kill("SIGTERM");
  await server.ended;
}

async function request(method, route, body) {
  const response = await fetch(`http://127.0.0.1:${server.port}/api${route}`, {
    method, headers: { "content-type": "application/json" }, body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${route}: ${response.status} ${text}`);
  return text === "" ? null : JSON.parse(text);
}

const workers = () => processes().filter(({ exe }) => exe === plugin.program);

let installed;
let companyId;

test("the server installs the plugin from its directory, and starts it", async () => {
  await startServer();
  installed = await request("POST", "/plugins/install", { packageName: plugin.root, isLocalPath: true });
  assert.deepEqual([installed.pluginKey, installed.status], [plugin.manifest.id, "ready"]);
  await until(() => workers().length === 1, "the worker runs");
  const health = await request("GET", `/plugins/${installed.id}/health`);
  assert.equal(health.healthy, true, JSON.stringify(health));
  companyId = (await request("POST", "/companies", { name: "Acme" })).id;
});

test("its drivers are offered as sandbox providers, with what they can do", async () => {
  const { sandboxProviders } = await request("GET", `/companies/${companyId}/environments/capabilities`);
  for (const driver of drivers) {
    const offered = sandboxProviders[driver.key];
    assert.equal(offered.source, "plugin", driver.key);
    assert.equal(offered.supportsSavedProbe, true);
    assert.equal(offered.supportsRunExecution, true);
    assert.equal(offered.supportsReusableLeases, true);
  }
});

for (const driver of [fake, local]) {
  test(`an environment is probed before and after it is saved (${driver.key})`, async () => {
    driver.need();
    const config = { provider: driver.key, ...driver.config };
    const unsaved = await request("POST", `/companies/${companyId}/environments/probe-config`, { name: "Try", driver: "sandbox", config });
    assert.equal(unsaved.ok, true, JSON.stringify(unsaved));
    const environment = await request("POST", `/companies/${companyId}/environments`, { name: driver.key, driver: "sandbox", config });
    assert.equal(environment.config.timeoutMs, driver.config.timeoutMs);
    const saved = await request("POST", `/environments/${environment.id}/probe`, {});
    assert.equal(saved.ok, true, JSON.stringify(saved));
    /* The server asks that the sandbox of a saved probe be kept for inspection; at most that one is there, and nothing runs in it. */
    assert.ok(leasesInState().length <= 1, `${leasesInState()}`);
    assert.deepEqual(processes().filter(({ command }) => command.includes(stateDir)), []);
  });
}

test("a config that the driver refuses is not saved, and the server shows why (local)", async () => {
  const config = { provider: local.key, ...local.config, network: "carrier pigeon" };
  const saving = request("POST", `/companies/${companyId}/environments`, { name: "wrong", driver: "sandbox", config });
  await assert.rejects(saving, /422.*network/s);
});

test("a restarted server starts the plugin again", async () => {
  await stopServer();
  await until(() => workers().length === 0, "the worker ended with its server");
  await startServer();
  await until(() => workers().length === 1, "the worker runs");
});

test("purging the plugin ends its worker", async () => {
  await request("DELETE", `/plugins/${installed.id}?purge=true`);
  await until(() => workers().length === 0, "the worker ended");
  assert.ok(existsSync(plugin.program), "an installation in place is left alone");
});

await run(async () => {
  await stopServer();
  await postgres.stop();
  await nothingRuns();
});
