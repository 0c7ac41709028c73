/*
 * The built worker as an installed plugin, started by the server's own plugin-worker-manager with the options and the environment
 * that its plugin loader would give.
 */
import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { serverModule } from "./modules.mjs";
import { logPosition, logSince, until } from "./tap.mjs";

const NAME = "paperclip-sandbox-worker";
const WARNING = 40; // pino's levels

/* What tests leave must be below this directory, so that leftovers can be seen. */
export const testDir = process.env.PSW_TMP;

/* An assembled package, as its manifest describes it. */
export function openPlugin(root) {
  const manifest = JSON.parse(readFileSync(path.join(root, "manifest.json")));
  const program = path.join(root, "bin", `linux-${process.arch}`, NAME);
  return { root, program, manifest, entrypoint: path.join(root, manifest.entrypoints.worker) };
}

/* Puts the package together as scripts/pack-plugin does, with the program under test. */
export function makePlugin() {
  const source = fileURLToPath(new URL("../../../plugin/", import.meta.url));
  const root = path.join(testDir, "the plugin");
  const program = path.join(root, "bin", `linux-${process.arch}`, NAME);
  mkdirSync(path.dirname(program), { recursive: true });
  for (const file of ["package.json", "manifest.js", "worker.cjs"]) cpSync(path.join(source, file), path.join(root, file));
  cpSync(process.env.PSW_WORKER, program);
  const printed = spawnSync(program, ["manifest"], { encoding: "utf8" });
  if (printed.status !== 0) throw new Error(`${NAME} manifest: status ${printed.status}, ${printed.stderr}`);
  writeFileSync(path.join(root, "manifest.json"), printed.stdout);
  return openPlugin(root);
}

/* As the plugin loader does it; extraEnv is ours. */
export async function workerOptions(plugin, extraEnv = {}) {
  const { buildPluginWorkerEnv } = await serverModule("services/plugin-loader");
  const instanceInfo = { instanceId: "default", hostVersion: "0.0.0", deploymentMode: "local_trusted", deploymentExposure: "private" };
  return {
    entrypointPath: plugin.entrypoint,
    manifest: plugin.manifest,
    config: {},
    instanceInfo,
    apiVersion: plugin.manifest.apiVersion,
    databaseNamespace: null,
    hostHandlers: {},
    autoRestart: true,
    env: { ...buildPluginWorkerEnv({ manifest: plugin.manifest, packageName: NAME, packagePath: plugin.root, instanceInfo }), ...extraEnv },
    proactiveCompanyScopes: [],
  };
}

/* The manager, with each call noted: the seeds' tests look at what the server asks of its worker. */
export async function recordingManager() {
  const { createPluginWorkerManager } = await serverModule("services/plugin-worker-manager");
  const manager = createPluginWorkerManager();
  const calls = [];
  const call = (pluginId, method, params, timeoutMs, sink) => {
    const entry = { pluginId, method, params, timeoutMs };
    calls.push(entry);
    const answer = manager.call(pluginId, method, params, timeoutMs, sink);
    answer.then((result) => (entry.result = result), (error) => (entry.error = error));
    return answer;
  };
  const callsOf = (method) => calls.filter((each) => each.method === method);
  return { ...manager, call, calls, callsOf };
}

/* Where the driver `local` keeps its leases in these tests, and what is there. */
export const stateDir = path.join(testDir, "state");

export function leasesInState() {
  const list = (name) => {
    const directory = path.join(stateDir, name);
    return existsSync(directory) ? readdirSync(directory).map((entry) => path.join(directory, entry)) : [];
  };
  return [...list("leases"), ...list("trash")];
}

/* One worker of its own with a temporary directory of its own. */
export async function startWorker(plugin, label = "temp") {
  const manager = await recordingManager();
  const pluginId = randomUUID();
  const temp = path.join(testDir, `${label} ${pluginId.slice(0, 8)}`);
  mkdirSync(temp);
  const handle = await manager.startWorker(pluginId, await workerOptions(plugin, { TMPDIR: temp }));
  const companyId = randomUUID();
  const base = (driver) => ({ driverKey: driver.key, companyId, environmentId: "environment-1", issueId: null, config: driver.config });
  const call = (method, params, timeoutMs, sink) => manager.call(pluginId, method, params, timeoutMs, sink);

  return {
    manager, handle, pluginId, companyId, temp, base, call,
    pid: () => handle.diagnostics().pid,
    acquire: (driver, params = {}) => call("environmentAcquireLease", { ...base(driver), runId: randomUUID(), ...params }),
    release: (driver, lease) =>
      call("environmentReleaseLease", { ...base(driver), providerLeaseId: lease.providerLeaseId, leaseMetadata: lease.metadata }),
    destroy: (driver, lease) =>
      call("environmentDestroyLease", { ...base(driver), providerLeaseId: lease.providerLeaseId, leaseMetadata: lease.metadata }),
    execute: (driver, lease, command, args = [], params = {}, sink = () => {}) =>
      call("environmentExecute", { ...base(driver), lease, command, args, cwd: lease.metadata.remoteCwd, bypassSession: true, ...params }, 120_000, sink),
  };
}

/* A worker for the body alone, stopped afterwards; then nothing may be left of it, and the server must have had nothing to complain about. */
export async function withWorker(plugin, body, { expectedWarnings = [] } = {}) {
  const start = logPosition();
  const worker = await startWorker(plugin);
  try {
    await body(worker);
  } finally {
    await worker.manager.stopAll();
  }
  const left = [...readdirSync(worker.temp), ...leasesInState()];
  if (left.length !== 0) throw new Error(`left in the temporary and the state directory: ${left}`);
  await nothingRuns();
  const isComplaint = ({ level, msg }) => level >= WARNING || /^dropping |did not exit/.test(msg);
  const complaints = logSince(start).filter((record) => isComplaint(record) && !expectedWarnings.some((each) => each.test(record.msg)));
  if (complaints.length !== 0) throw new Error(`the server complained: ${JSON.stringify(complaints).slice(0, 2000)}`);
}

export function processes() {
  const found = [];
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    const read = (get) => {
      try {
        return get();
      } catch {
        return "";
      }
    };
    const exe = read(() => readlinkSync(`/proc/${pid}/exe`));
    const cwd = read(() => readlinkSync(`/proc/${pid}/cwd`));
    const command = read(() => readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ").trim());
    found.push({ pid: Number(pid), exe, cwd, command });
  }
  return found;
}

/* Processes that have to do with this test run: by program, directory or argument. */
export function ownProcesses() {
  return processes().filter(({ pid, exe, cwd, command }) =>
    pid !== process.pid && [exe, cwd, command].some((text) => text.includes(testDir)));
}

export async function nothingRuns() {
  await until(() => ownProcesses().length === 0, "no process of a worker is left").catch((error) => {
    throw new Error(`${error.message}: ${JSON.stringify(ownProcesses())}`);
  });
}

/* A sleep that no other test starts, to be found by its argument. */
export function longSleep() {
  return String(10_000_000 + Math.floor(Math.random() * 1e9));
}

export function runs(argument) {
  return processes().some(({ command }) => command.includes(argument));
}
