/* A server's database with what a run needs in it: company, agent, environment, run, plugin. */
import { randomUUID } from "node:crypto";

import { databaseModule, drizzle, serverModule } from "./modules.mjs";
import { startPostgres } from "./postgres.mjs";

const schema = await databaseModule();
const { eq } = await drizzle();
const { environmentService } = await serverModule("services/environments");

export async function openDatabase() {
  const postgres = await startPostgres();
  const db = schema.createDb(postgres.connectionString);

  /* Rows of one run. config of a sandbox environment: provider and the provider's own keys. */
  async function seedRun({ name, driver = "sandbox", config }) {
    const [companyId, agentId, environmentId] = [randomUUID(), randomUUID(), randomUUID()];
    await db.insert(schema.companies).values({ id: companyId, name: "Acme", issuePrefix: `P${companyId.slice(0, 6)}` });
    await db.insert(schema.agents).values({
      id: agentId, companyId, name: "CodexCoder", role: "engineer", status: "active", adapterType: "codex_local",
      adapterConfig: {}, runtimeConfig: {}, permissions: {},
    });
    await db.insert(schema.environments).values({ id: environmentId, name: `${name} ${environmentId}`, driver, status: "active", config });
    const environment = await environmentService(db).getById(environmentId);
    return { companyId, agentId, environment, runId: await seedHeartbeat({ companyId, agentId }) };
  }

  async function seedHeartbeat({ companyId, agentId }) {
    const runId = randomUUID();
    await db.insert(schema.heartbeatRuns).values({ id: runId, companyId, agentId, invocationSource: "manual", status: "running" });
    return runId;
  }

  async function seedExecutionWorkspace(companyId) {
    const [projectId, id] = [randomUUID(), randomUUID()];
    await db.insert(schema.projects).values({ id: projectId, companyId, name: "Project" });
    const row = { id, companyId, projectId, mode: "standard", strategyType: "project_primary", name: "workspace" };
    return (await db.insert(schema.executionWorkspaces).values(row).returning())[0];
  }

  /* The plugin as the server has it after an installation. */
  async function seedPlugin(id, manifest, pluginKey = manifest.id) {
    await db.delete(schema.plugins);
    await db.insert(schema.plugins).values({
      id, pluginKey, packageName: manifest.id, version: manifest.version, apiVersion: manifest.apiVersion,
      categories: manifest.categories, manifestJson: { ...manifest, id: pluginKey }, status: "ready", installOrder: 1, updatedAt: new Date(),
    });
  }

  /* The environment is turned into the local one, of which the server allows a single one. */
  async function becomeLocal(environment) {
    await db.delete(schema.environments).where(eq(schema.environments.driver, "local"));
    return environments.update(environment.id, { driver: "local", config: {} });
  }

  const leaseRows = () => db.select().from(schema.environmentLeases);
  const environments = environmentService(db);
  return { db, environments, becomeLocal, seedRun, seedHeartbeat, seedExecutionWorkspace, seedPlugin, leaseRows, stop: postgres.stop };
}
