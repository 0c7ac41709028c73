/* The server's environment runtime on a database, with the built worker behind it. */
import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";

import { openDatabase } from "./database.mjs";
import { serverModule } from "./modules.mjs";
import { leasesInState, nothingRuns, recordingManager, workerOptions } from "./worker.mjs";

const { environmentRuntimeService } = await serverModule("services/environment-runtime");

/* config of an environment for the driver, as it is stored */
export const stored = (driver, more = {}) => ({ provider: driver.key, ...driver.config, ...more });

/* The worker's environment is exactly the one that the server gives, so temporary directories are where a server's would be. */
export async function openRuntime(plugin) {
  const database = await openDatabase();
  const manager = await recordingManager();
  const pluginId = randomUUID();
  const start = async () => manager.startWorker(pluginId, await workerOptions(plugin));
  await database.seedPlugin(pluginId, plugin.manifest);

  /* The plugin under another key with another declaration of its drivers, for the body. */
  const declaring = async (pluginKey, environmentDrivers, body) => {
    await database.seedPlugin(pluginId, { ...plugin.manifest, environmentDrivers }, pluginKey);
    try {
      await body();
    } finally {
      await database.seedPlugin(pluginId, plugin.manifest);
    }
  };
  const service = (options = {}) => environmentRuntimeService(database.db, { pluginWorkerManager: manager, ...options });
  const callsDuring = () => {
    const from = manager.calls.length;
    return (method) => manager.calls.slice(from).filter((each) => each.method === method);
  };
  const stop = async () => {
    await manager.stopAll();
    await database.stop();
    await nothingRuns();
    const directories = manager.calls.map(({ result }) => result?.metadata?.fakeRootDir).filter((each) => each && existsSync(each));
    if (directories.length !== 0) throw new Error(`directories are left: ${directories}`);
    if (leasesInState().length !== 0) throw new Error(`leases are left: ${leasesInState()}`);
  };
  return { ...database, manager, pluginId, start, declaring, service, callsDuring, stop };
}
