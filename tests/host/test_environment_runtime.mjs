/*
 * The cases of the server's own environment-runtime.test.ts that concern a plugin-backed sandbox, with the built worker where that test
 * has a mock. They bear its cases' names. Where the newer server does otherwise than that test says, a comment tells.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { existsSync, rmSync } from "node:fs";
import path from "node:path";

import { drivers, fake, local } from "./lib/drivers.mjs";
import { serverModule } from "./lib/modules.mjs";
import { openRuntime, stored } from "./lib/runtime.mjs";
import { logPosition, logSinceText, run, test, until } from "./lib/tap.mjs";
import { longSleep, makePlugin, runs, stateDir } from "./lib/worker.mjs";

const { findReusableSandboxLeaseId } = await serverModule("services/environment-runtime");
const { secretService } = await serverModule("services/secrets");
const plugin = makePlugin();
const host = await openRuntime(plugin);
const service = host.service();
await host.start();

const acquireInput = (seeded, more = {}) => ({
  companyId: seeded.companyId, environment: seeded.environment, issueId: null, heartbeatRunId: seeded.runId,
  persistedExecutionWorkspace: null, ...more,
});

/* As the cases declare their driver: no capabilities, hardly a schema. */
const secureDriver = {
  driverKey: fake.key, kind: "sandbox_provider", displayName: "Secure Sandbox",
  configSchema: {
    type: "object",
    properties: {
      image: { type: "string" }, apiKey: { type: "string", format: "secret-ref" }, timeoutMs: { type: "number" }, reuseLease: { type: "boolean" },
    },
  },
};
const pluginDriver = { driverKey: fake.key, displayName: "Fake plugin", configSchema: { type: "object" } };
const pluginConfig = { pluginKey: "acme.environments", driverKey: fake.key, driverConfig: { template: "base" } };

for (const driver of drivers) {
  const driverTest = (text, body) =>
    test(`${text} (${driver.key})`, async () => {
      driver.need();
      await body();
    });

  driverTest("uses plugin-backed sandbox config for execute and release", async () => {
    const seeded = await host.seedRun({ name: "Plugin Sandbox", config: stored(driver, { timeoutMs: 1234 }) });
    const calls = host.callsDuring();
    const acquired = await service.acquireRunLease(acquireInput(seeded));
    const { lease } = acquired;
    assert.equal(lease.status, "active");
    assert.equal(lease.metadata.provider, driver.key);
    const executed = await service.execute({
      environment: seeded.environment, lease, command: "printf", args: ["ok\\n"], cwd: lease.metadata.remoteCwd, env: {}, timeoutMs: 1000,
    });
    await host.becomeLocal(seeded.environment);
    const released = await service.releaseRunLeases(seeded.runId);

    assert.equal(executed.stdout, "ok\n");
    assert.equal(released.length, 1);
    assert.equal(released[0].lease.status, "released");
    const [acquire] = calls("environmentAcquireLease");
    assert.deepEqual(acquire.params.config, { ...driver.config, timeoutMs: 1234 });
    const [execute] = calls("environmentExecute");
    assert.equal(execute.timeoutMs, 31000);
    const [release] = calls("environmentReleaseLease");
    assert.equal(release.timeoutMs, 31234);
    /* What the worker's metadata adds comes back as config; the server's own keys do not, nor does `provider`. */
    for (const key of ["driver", "executionWorkspaceMode", "pluginId", "pluginKey", "providerMetadata", "provider", "sandboxProviderPlugin"]) {
      assert.ok(!(key in release.params.config), key);
    }
    for (const [key, value] of Object.entries({ ...driver.config, timeoutMs: 1234 })) {
      assert.deepEqual(release.params.config[key], value, key);
    }
    assert.equal(release.error, undefined);
  });

  driverTest("waits briefly for a ready sandbox provider plugin worker to come online", async () => {
    const seeded = await host.seedRun({ name: "Eventually Running", config: stored(driver, { timeoutMs: 1234 }) });
    const calls = host.callsDuring();
    await host.manager.stopWorker(host.pluginId);
    const patient = host.service({ pluginWorkerReadyTimeoutMs: 30_000, pluginWorkerReadyPollMs: 1 });
    const acquiring = patient.acquireRunLease(acquireInput(seeded));
    await host.start();
    const { lease } = await acquiring;
    assert.equal(typeof lease.providerLeaseId, "string");
    assert.equal(calls("environmentAcquireLease")[0].timeoutMs, 31234);
    await service.releaseRunLeases(seeded.runId);
  });

  driverTest("extends plugin-backed sandbox lease RPC timeouts from provider config", async () => {
    const more = { timeoutMs: 1_234, bridgeRequestTimeoutMs: 40_000 };
    const seeded = await host.seedRun({ name: "Long Lease", config: stored(driver, more) });
    const calls = host.callsDuring();
    const { lease } = await service.acquireRunLease(acquireInput(seeded));
    const [acquire] = calls("environmentAcquireLease");
    assert.equal(acquire.timeoutMs, 70_000);
    assert.deepEqual(acquire.params.config, { ...driver.config, ...more });
    assert.equal(acquire.result.providerLeaseId, lease.providerLeaseId);
    await service.releaseRunLeases(seeded.runId);
  });

  driverTest("releases a sandbox run lease from metadata after the environment config changes", async () => {
    const seeded = await host.seedRun({ name: "Changing", config: stored(driver) });
    const acquired = await service.acquireRunLease(acquireInput(seeded));
    await host.becomeLocal(seeded.environment);
    const released = await service.releaseRunLeases(seeded.runId);
    assert.deepEqual(released.map(({ lease }) => [lease.id, lease.status]), [[acquired.lease.id, "released"]]);
  });

  driverTest("live output and the rest of the server's execute: onLog, env, stdin, bypassSession", async () => {
    const seeded = await host.seedRun({ name: "Live", config: stored(driver) });
    const calls = host.callsDuring();
    const { lease } = await service.acquireRunLease(acquireInput(seeded));
    let live = "";
    const executed = await service.execute({
      environment: seeded.environment, lease, command: "sh", args: ["-c", 'cat; echo "$FOO"; exit 7'], cwd: lease.metadata.remoteCwd,
      env: { FOO: "bar" }, stdin: "in\n", onLog: (stream, chunk) => { live += chunk; },
    });
    assert.deepEqual([executed.exitCode, executed.stdout], [7, "in\nbar\n"]);
    assert.ok("in\nbar\n".startsWith(live));
    assert.equal(calls("environmentExecute")[0].params.bypassSession, true);
    await service.releaseRunLeases(seeded.runId);
  });

  driverTest("resolves the capabilities that the worker's methods and the manifest grant", async () => {
    const seeded = await host.seedRun({ name: "Capable", config: stored(driver) });
    const { lease } = await service.acquireRunLease(acquireInput(seeded));
    const granted = await service.resolveCapabilities({ environment: seeded.environment, lease });
    const { sandboxCapabilities = {} } = plugin.manifest.environmentDrivers.find(({ driverKey }) => driverKey === driver.key);
    for (const key of ["persistentProcessSessions", "independentControlCommands", "incrementalSessionOutput"]) {
      assert.equal(granted[key], sandboxCapabilities[key] === true, key);
    }
    for (const key of ["nativeSyncIn", "nativeSyncOut", "duplexCommandStream", "runnerWebSocketIngress"]) assert.equal(granted[key], false, key);
    await service.releaseRunLeases(seeded.runId);
  });

  driverTest("resumes a released lease for the next run of the same agent and workspace", async () => {
    const seeded = await host.seedRun({ name: "Reusable", config: stored(driver, { reuseLease: true }) });
    const persistedExecutionWorkspace = await host.seedExecutionWorkspace(seeded.companyId);
    const more = { persistedExecutionWorkspace, agentId: seeded.agentId };
    const first = (await service.acquireRunLease(acquireInput(seeded, more))).lease;
    assert.equal(first.leasePolicy, "reuse_by_environment");
    const shell = (lease, script) =>
      service.execute({ environment: seeded.environment, lease, command: "sh", args: ["-c", script], cwd: lease.metadata.remoteCwd, env: {} });
    await shell(first, "echo kept > file");
    await service.releaseRunLeases(seeded.runId);

    const calls = host.callsDuring();
    const runId = await host.seedHeartbeat(seeded);
    const second = (await service.acquireRunLease(acquireInput({ ...seeded, runId }, more))).lease;
    assert.equal(second.providerLeaseId, first.providerLeaseId);
    assert.deepEqual(second.metadata.sandboxLeaseAcquisition, { outcome: "resumed" });
    assert.equal(calls("environmentAcquireLease").length, 0);
    assert.equal((await shell(second, "cat file")).stdout, "kept\n");
    const destroyed = await service.destroyRunLease({ environment: seeded.environment, lease: second });
    assert.equal(destroyed.cleanupStatus, "success");
  });

  driverTest("releasing a cancelled run's lease ends its command at once, and the worker proves it", async () => {
    const seeded = await host.seedRun({ name: "Cancelled", config: stored(driver) });
    const calls = host.callsDuring();
    const { lease } = await service.acquireRunLease(acquireInput(seeded));
    const seconds = longSleep();
    const input = { environment: seeded.environment, lease, command: "sleep", args: [seconds], cwd: lease.metadata.remoteCwd, env: {} };
    const running = service.execute(input).then(() => null, (error) => error);
    await until(() => runs(seconds), "the command runs");
    const [released] = await service.releaseRunLeases(seeded.runId, "released", undefined, "stop_and_retain", true);
    assert.ok((await running) instanceof Error);
    assert.ok(!runs(seconds));
    const [release] = calls("environmentReleaseLease");
    assert.equal(release.params.cancelActiveWork, true);
    assert.deepEqual(release.result, { providerLeaseId: lease.providerLeaseId, state: "destroyed" });
    /* Of a provider named "local" the server takes no proof: it takes the lease for one of its own local environment. */
    if (driver.key === "local") return;
    assert.deepEqual([released.lease.status, released.lease.cleanupStatus], ["released", "success"]);
    assert.equal(released.lease.metadata.remoteExecutionTermination.state, "destroyed");
  });

  driverTest("the server records an expiry only where the provider keeps it", async () => {
    const seeded = await host.seedRun({ name: "Expiring", config: stored(driver) });
    const requestedExpiresAt = new Date(Date.now() + 3_600_000);
    const { lease } = await service.acquireRunLease(acquireInput(seeded, { requestedExpiresAt }));
    if (driver.keepsExpiry) assert.ok(lease.expiresAt && lease.expiresAt <= requestedExpiresAt, `${lease.expiresAt}`);
    else assert.equal(lease.expiresAt, null);
    await service.releaseRunLeases(seeded.runId);
  });
}

test("matches reusable plugin-backed sandbox leases by provider", async () => {
  const leaseOf = async (image) => {
    const seeded = await host.seedRun({ name: image, config: stored(fake, { image, reuseLease: true }) });
    const { lease } = await service.acquireRunLease(acquireInput(seeded));
    return lease;
  };
  const leases = [await leaseOf("template-a"), await leaseOf("template-b")];
  const config = { ...stored(fake), image: "template-b", reuseLease: true };
  assert.equal(findReusableSandboxLeaseId({ config, leases }), leases[1].providerLeaseId);
  for (const lease of leases) {
    await service.destroyRunLease({ environment: await host.environments.getById(lease.environmentId), lease });
    assert.ok(!existsSync(lease.metadata.fakeRootDir));
  }
});

/* The driver of the case, secure-plugin, is none of the worker's: here the fake one is declared with a secret. */
test("uses resolved secret-ref config for plugin-backed sandbox execute and release", () =>
  host.declaring("acme.secure-sandbox-provider", [secureDriver], async () => {
    const start = logPosition();
    const key = `resolved-${randomUUID()}`;
    const seeded = await host.seedRun({ name: "Secure", config: stored(fake, { timeoutMs: 1234 }) });
    const secret = await secretService(host.db).create(seeded.companyId, { name: `key-${randomUUID()}`, provider: "local_encrypted", value: key });
    await secretService(host.db).createBinding({
      companyId: seeded.companyId, secretId: secret.id, targetType: "environment", targetId: seeded.environment.id, configPath: "apiKey",
    });
    const environment = await host.environments.update(seeded.environment.id, { config: stored(fake, { timeoutMs: 1234, apiKey: secret.id }) });
    const calls = host.callsDuring();
    const { lease } = await service.acquireRunLease(acquireInput({ ...seeded, environment }));
    assert.equal(lease.metadata.apiKey, secret.id);
    assert.equal(lease.metadata.timeoutMs, 1234);
    const executed = await service.execute({ environment, lease, command: "printf", args: ["ok\\n"], cwd: lease.metadata.remoteCwd, env: {} });
    assert.equal(executed.stdout, "ok\n");
    await host.becomeLocal(environment);
    const released = await service.releaseRunLeases(seeded.runId);
    assert.deepEqual(released.map((each) => each.lease.status), ["released"]);
    for (const method of ["environmentAcquireLease", "environmentExecute", "environmentReleaseLease"]) {
      const [call] = calls(method);
      assert.equal(call.params.config.apiKey, key);
      assert.equal(call.timeoutMs, 31234);
      assert.ok(!JSON.stringify(call.result ?? null).includes(key), "no result holds the secret");
    }
    assert.ok(!logSinceText(start).includes(key), "no log line holds the secret");
  }));

/*
 * In that test an error of the resume made the server acquire a new lease. The newer server keeps the old lease and fails the run upon an
 * error; it makes a new one if the worker says that the old one is gone, by an empty id. So a worker must know the one from the other.
 */
test("falls back to acquire when plugin-backed sandbox lease resume throws", async () => {
  local.need();
  const seeded = await host.seedRun({ name: "Reusable Plugin Sandbox", config: stored(local, { timeoutMs: 1234, reuseLease: true }) });
  const persistedExecutionWorkspace = await host.seedExecutionWorkspace(seeded.companyId);
  const more = { persistedExecutionWorkspace, agentId: seeded.agentId };
  const stale = (await service.acquireRunLease(acquireInput(seeded, more))).lease;
  await service.releaseRunLeases(seeded.runId);
  for (const lease of ["leases", "trash"]) rmSync(path.join(stateDir, lease), { recursive: true, force: true });

  const calls = host.callsDuring();
  const runId = await host.seedHeartbeat(seeded);
  const { lease } = await service.acquireRunLease(acquireInput({ ...seeded, runId }, more));
  const [resume] = calls("environmentResumeLease");
  assert.deepEqual([resume.params.providerLeaseId, resume.timeoutMs], [stale.providerLeaseId, 31234]);
  assert.equal(resume.result.providerLeaseId, null);
  assert.equal(calls("environmentAcquireLease")[0].timeoutMs, 31234);
  assert.notEqual(lease.providerLeaseId, stale.providerLeaseId);
  assert.deepEqual(lease.metadata.sandboxLeaseAcquisition, { outcome: "replacement", reason: "not_found" });
  assert.equal((await host.leaseRows()).find(({ id }) => id === stale.id).status, "expired", "destroying what is gone is a success");
  await service.destroyRunLease({ environment: seeded.environment, lease });
});

test("delegates plugin environment leases through the plugin worker manager", () =>
  host.declaring(pluginConfig.pluginKey, [pluginDriver], async () => {
    const seeded = await host.seedRun({ name: "Plugin Fake plugin", driver: "plugin", config: pluginConfig });
    const calls = host.callsDuring();
    const { lease } = await service.acquireRunLease(acquireInput(seeded));
    const [acquire] = calls("environmentAcquireLease");
    assert.deepEqual(acquire.params.config, { template: "base" });
    assert.equal(acquire.params.runId, seeded.runId);
    assert.equal(lease.providerLeaseId, acquire.result.providerLeaseId);
    const { driver, pluginId, driverKey, executionWorkspaceMode, providerMetadata } = lease.metadata;
    assert.deepEqual({ driver, pluginId, pluginKey: lease.metadata.pluginKey, driverKey, executionWorkspaceMode },
      { driver: "plugin", pluginId: host.pluginId, pluginKey: pluginConfig.pluginKey, driverKey: fake.key, executionWorkspaceMode: null });
    assert.deepEqual(providerMetadata, acquire.result.metadata, "the worker's metadata is kept apart");
    assert.ok(existsSync(providerMetadata.fakeRootDir));

    await host.becomeLocal(seeded.environment);
    const released = await service.releaseRunLeases(seeded.runId);
    assert.deepEqual(released.map((each) => each.lease.status), ["released"]);
    const [release] = calls("environmentReleaseLease");
    assert.deepEqual([release.params.config, release.params.providerLeaseId], [{}, lease.providerLeaseId]);
    assert.ok(!existsSync(providerMetadata.fakeRootDir));
  }));

test("delegates the full plugin environment lifecycle through the worker manager", () =>
  host.declaring(pluginConfig.pluginKey, [pluginDriver], async () => {
    const seeded = await host.seedRun({ name: "Plugin Full Lifecycle", driver: "plugin", config: pluginConfig });
    const { environment } = seeded;
    const calls = host.callsDuring();
    const { lease } = await service.acquireRunLease(acquireInput(seeded));
    const resumed = await service.resumeRunLease({ environment, lease });
    const realized = await service.realizeWorkspace({ environment, lease, workspace: { localPath: "/tmp/project", mode: "ephemeral" } });
    const executed = await service.execute({
      environment, lease, command: "sh", args: ["-c", 'echo ok; echo "$FOO" >&2'], cwd: realized.cwd, env: { FOO: "bar" }, stdin: "", timeoutMs: 1000,
    });
    const destroyed = await service.destroyRunLease({ environment, lease });

    assert.equal(resumed.providerLeaseId, lease.providerLeaseId);
    assert.equal(resumed.metadata.resumedLease, true);
    const { remoteCwd } = lease.metadata.providerMetadata;
    assert.deepEqual(realized, { cwd: remoteCwd, metadata: { provider: fake.key, remoteCwd } });
    assert.deepEqual([executed.exitCode, executed.timedOut, executed.stdout, executed.stderr], [0, false, "ok\n", "bar\n"]);
    assert.equal(destroyed.status, "failed");
    assert.equal(calls("environmentExecute")[0].timeoutMs, 31000);
    assert.deepEqual(calls("environmentRealizeWorkspace")[0].params.workspace, { localPath: "/tmp/project", mode: "ephemeral" });
    for (const method of ["environmentResumeLease", "environmentDestroyLease"]) {
      const [{ params }] = calls(method);
      assert.deepEqual([params.config, params.providerLeaseId, params.leaseMetadata.driver], [{ template: "base" }, lease.providerLeaseId, "plugin"]);
    }
    assert.ok(!existsSync(lease.metadata.providerMetadata.fakeRootDir));
  }));

test("releases with the driver captured on the lease even if the environment driver changes later", async () => {
  const seeded = await host.seedRun({ name: "Captured", config: stored(fake) });
  const { lease } = await service.acquireRunLease(acquireInput(seeded));
  await host.environments.update(seeded.environment.id, { driver: "ssh" });
  const calls = host.callsDuring();
  assert.equal((await service.releaseRunLeases(seeded.runId)).length, 1);
  assert.equal(calls("environmentReleaseLease").length, 1);
  assert.ok(!existsSync(lease.metadata.fakeRootDir));
});

test("a worker that dies in a run is restarted, and the run's lease can still be released", async () => {
  const seeded = await host.seedRun({ name: "Crashing", config: stored(fake) });
  const { lease } = await service.acquireRunLease(acquireInput(seeded));
  const seconds = longSleep();
  const running = service.execute({ environment: seeded.environment, lease, command: "sleep", args: [seconds], cwd: lease.metadata.remoteCwd, env: {} })
    .catch((error) => error);
  await until(() => runs(seconds), "the command runs");
  const handle = host.manager.getWorker(host.pluginId);
  process.kill(handle.diagnostics().pid, "SIGKILL");
  assert.match((await running).message, /Worker process exited/);
  await until(() => !runs(seconds), "the command is gone");
  await until(() => handle.status === "running", "the worker is back");
  const released = await service.releaseRunLeases(seeded.runId);
  assert.deepEqual(released.map((each) => each.lease.status), ["released"]);
  const other = await host.seedRun({ name: "Next", config: stored(fake) });
  await service.acquireRunLease(acquireInput(other));
  await until(() => !existsSync(lease.metadata.fakeRootDir), "what the dead worker left is gone");
  await service.releaseRunLeases(other.runId);
});

await run(host.stop);
