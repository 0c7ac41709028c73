/* holder.mjs DRIVER SECONDS PLUGIN: a server to be killed. Runs `sleep SECONDS` in a lease of the driver, and says "running". */
import { writeSync } from "node:fs";
import path from "node:path";

import { drivers } from "./drivers.mjs";
import { openPlugin, startWorker } from "./worker.mjs";

const [key, seconds, root] = process.argv.slice(2);
const driver = drivers.find((each) => each.key === key);
const worker = await startWorker(openPlugin(root), "held");
const lease = await worker.acquire(driver);
worker.execute(driver, lease, "sh", ["-c", `sleep ${seconds} & sleep ${seconds}`]).catch(() => {});
writeSync(1, "running\n");
