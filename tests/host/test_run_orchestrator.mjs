/*
 * The cases of the server's own environment-run-orchestrator.test.ts, with the built worker and a database where that test has mocks. They
 * bear its cases' names. The newer server realizes the workspace of a sandbox, which that test did not know: the cases are played with one.
 */
import assert from "node:assert/strict";
import { existsSync, rmSync, writeFileSync } from "node:fs";

import { drivers, fake } from "./lib/drivers.mjs";
import { databaseModule, drizzle, serverModule } from "./lib/modules.mjs";
import { openRuntime, stored } from "./lib/runtime.mjs";
import { run, test } from "./lib/tap.mjs";
import { makePlugin } from "./lib/worker.mjs";

const { environmentRunOrchestrator, EnvironmentRunError } = await serverModule("services/environment-run-orchestrator");
const { executionWorkspaces } = await databaseModule();
const { eq } = await drizzle();
const host = await openRuntime(makePlugin());
const orchestrator = environmentRunOrchestrator(host.db, { pluginWorkerManager: host.manager });
await host.start();

const workspace = {
  baseCwd: "/workspace", source: "project_primary", projectId: null, workspaceId: null, repoUrl: null, repoRef: null,
  strategy: "project_primary", cwd: "/workspace/project", branchName: null, worktreePath: null, warnings: [], created: false,
};

/* A run with its lease: what the server has before it realizes the workspace. */
async function begin(config, driver = "sandbox") {
  const seeded = await host.seedRun({ name: "Orchestrated", driver, config });
  const acquired = await orchestrator.acquireForRun({
    companyId: seeded.companyId, selectedEnvironmentId: seeded.environment.id, localEnvironmentId: "none", adapterType: "claude_local",
    issueId: null, heartbeatRunId: seeded.runId, agentId: seeded.agentId, persistedExecutionWorkspace: null,
  });
  const realize = (more = {}) => orchestrator.realizeForRun({
    environment: seeded.environment, lease: acquired.lease, adapterType: "claude_local", companyId: seeded.companyId, issueId: null,
    heartbeatRunId: seeded.runId, executionWorkspace: workspace, effectiveExecutionWorkspaceMode: null, persistedExecutionWorkspace: null, ...more,
  });
  const end = async () => {
    const released = await orchestrator.releaseForRun({ heartbeatRunId: seeded.runId, companyId: seeded.companyId, agentId: seeded.agentId });
    assert.deepEqual(released.errors, []);
    return released.released;
  };
  return { ...seeded, lease: acquired.lease, realize, end };
}

const runError = async (promise) => {
  const error = await promise.then(() => assert.fail("was expected to fail"), (reason) => reason);
  assert.ok(error instanceof EnvironmentRunError, String(error.stack));
  return error;
};

for (const driver of drivers) {
  const driverTest = (text, body) =>
    test(`${text} (${driver.key})`, async () => {
      driver.need();
      await body();
    });

  driverTest("happy path: returns lease, executionTarget, and remoteExecution on successful realization", async () => {
    const begun = await begin(stored(driver));
    const calls = host.callsDuring();
    const result = await begun.realize();
    const [realize] = calls("environmentRealizeWorkspace");
    assert.equal(result.lease.id, begun.lease.id);
    assert.equal(result.executionTarget.kind, "remote");
    assert.equal(result.executionTarget.transport, "sandbox");
    assert.equal(result.executionTarget.providerKey, driver.key);
    assert.equal(result.executionTarget.remoteCwd, begun.lease.metadata.remoteCwd);
    assert.equal(result.workspaceRealization.version, 1);
    assert.equal(result.workspaceRealization.remote.path, realize.result.cwd);
    assert.equal(realize.params.workspace.remotePath, begun.lease.metadata.remoteCwd);

    /* What an agent's adapter does with it. */
    const chunks = [];
    const executed = await result.executionTarget.runner.execute({
      command: "sh", args: ["-c", "pwd; cat"], cwd: result.executionTarget.remoteCwd, env: {}, stdin: "to the agent",
      onLog: async (stream, chunk) => void chunks.push(chunk),
    });
    assert.deepEqual([executed.exitCode, executed.stdout], [0, `${begun.lease.metadata.remoteCwd}\nto the agent`]);
    assert.equal(chunks.join(""), executed.stdout, "the run's log has everything once");
    const released = await begun.end();
    assert.deepEqual(released.map(({ lease }) => [lease.status, lease.cleanupStatus]), [["released", "success"]]);
  });

  driverTest("persisted metadata is updated on lease and execution workspace after realization", async () => {
    const begun = await begin(stored(driver));
    const persistedExecutionWorkspace = await host.seedExecutionWorkspace(begun.companyId);
    const result = await begun.realize({ persistedExecutionWorkspace });
    const row = (await host.leaseRows()).find(({ id }) => id === begun.lease.id);
    assert.equal(row.metadata.workspaceRealization.version, 1);
    assert.deepEqual(result.lease.metadata, row.metadata);
    const [kept] = await host.db.select().from(executionWorkspaces).where(eq(executionWorkspaces.id, persistedExecutionWorkspace.id));
    assert.equal(kept.metadata.workspaceRealization.remote.path, begun.lease.metadata.remoteCwd);
    assert.equal(kept.metadata.workspaceRealizationRequest.version, 1);
    await begun.end();
  });
}

test("realization failure: runtime.realizeWorkspace throws → EnvironmentRunError with code workspace_realization_failed", async () => {
  const begun = await begin(stored(fake));
  const { remoteCwd } = begun.lease.metadata;
  rmSync(remoteCwd, { recursive: true });
  writeFileSync(remoteCwd, "in the way");
  const error = await runError(begun.realize());
  assert.equal(error.code, "workspace_realization_failed");
  assert.deepEqual([error.environmentId, error.driver], [begun.environment.id, "sandbox"]);
  assert.match(error.message, /EEXIST: file already exists/);
  await begun.end();
  assert.ok(!existsSync(remoteCwd));
});

/* There: a mock that fails. Here: the config can be read when the workspace is realized, from the lease, but not when the target is made. */
test("target resolution failure: resolveEnvironmentExecutionTarget throws → EnvironmentRunError with code transport_resolution_failed", async () => {
  const begun = await begin(stored(fake));
  const environment = { ...begun.environment, config: { provider: fake.key, timeoutMs: "never" } };
  const error = await runError(begun.realize({ environment }));
  assert.equal(error.code, "transport_resolution_failed");
  assert.equal(error.environmentId, begun.environment.id);
  await begun.end();
});

test("non-sandbox driver skips workspace realization and goes straight to target resolution", () =>
  host.declaring("acme.environments", [{ driverKey: fake.key, displayName: "Fake plugin", configSchema: { type: "object" } }], async () => {
    const begun = await begin({ pluginKey: "acme.environments", driverKey: fake.key, driverConfig: {} }, "plugin");
    const calls = host.callsDuring();
    const result = await begun.realize();
    assert.equal(calls("environmentRealizeWorkspace").length, 0);
    assert.deepEqual(result.workspaceRealization, {});
    assert.equal(result.executionTarget, null);
    await begun.end();
  }));

await run(host.stop);
