/*
 * node_worker.mjs MODULES: a worker on Paperclip's plugin SDK for the benchmark, doing what the driver `fake-plugin` does, as plainly as the
 * SDK lets one: a lease is a temporary directory, a command is a child process, its output is streamed and returned.
 */
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { StringDecoder } from "node:string_decoder";
import { pathToFileURL } from "node:url";

const sdk = path.join(process.argv[2], "@paperclipai/plugin-sdk/dist/index.js");
const { definePlugin, runWorker } = await import(pathToFileURL(sdk).href);
const leases = new Map();
let context;

/* config.stream false: the output comes in the result alone. */
function execute({ config, command, args = [], cwd, env = {}, stdin }) {
  return new Promise((resolve, reject) => {
    const PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
    const child = spawn(command, args, { cwd, env: { PATH, ...env }, stdio: [stdin === undefined ? "ignore" : "pipe", "pipe", "pipe"] });
    const text = { stdout: "", stderr: "" };
    for (const stream of ["stdout", "stderr"]) {
      const decoder = new StringDecoder("utf8");
      child[stream].on("data", (bytes) => {
        const chunk = decoder.write(bytes);
        text[stream] += chunk;
        if (config.stream !== false) context.execution.log(stream, chunk);
      });
    }
    child.on("error", reject);
    child.on("close", (exitCode, signal) => resolve({ exitCode, signal, timedOut: false, ...text }));
    child.stdin?.end(stdin);
  });
}

const plugin = definePlugin({
  async setup(ctx) {
    context = ctx;
  },
  async onHealth() {
    return { status: "ok" };
  },
  async onEnvironmentAcquireLease({ runId }) {
    const root = mkdtempSync(path.join(os.tmpdir(), "node-worker-"));
    const remoteCwd = path.join(root, "workspace");
    mkdirSync(remoteCwd);
    const providerLeaseId = `node://${runId}/${randomUUID()}`;
    leases.set(providerLeaseId, root);
    return { providerLeaseId, metadata: { provider: "fake-plugin", remoteCwd } };
  },
  async onEnvironmentReleaseLease({ providerLeaseId }) {
    const root = leases.get(providerLeaseId);
    if (root) rmSync(root, { recursive: true, force: true });
    leases.delete(providerLeaseId);
  },
  async onEnvironmentExecute(params) {
    return execute(params);
  },
});

export default plugin;
runWorker(plugin, import.meta.url);
