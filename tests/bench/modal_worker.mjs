/*
 * modal_worker.mjs MODULES: environmentExecute over Modal's own SDK (0.7.4), as the Node plugin does it, for the benchmark: a client for each
 * request, the sandbox by its id, the command with both its streams read to their ends. Reads and writes lines of JSON-RPC.
 */
import { createRequire } from "node:module";
import path from "node:path";
import { createInterface } from "node:readline";

const { ModalClient } = createRequire(path.join(process.argv[2], "x.js"))("modal-reference");

async function execute({ config, lease, command, args = [] }) {
  const modal = new ModalClient({ tokenId: config.tokenId, tokenSecret: config.tokenSecret });
  try {
    const sandbox = await modal.sandboxes.fromId(lease.providerLeaseId);
    const child = await sandbox.exec(["sh", "-lc", `exec ${[command, ...args].map((word) => `'${word}'`).join(" ")}`],
      { stdout: "pipe", stderr: "pipe", timeoutMs: 300_000 });
    const [stdout, stderr, exitCode] = await Promise.all([child.stdout.readText(), child.stderr.readText(), child.wait()]);
    return { exitCode, timedOut: false, stdout, stderr };
  } finally {
    modal.close();
  }
}

createInterface({ input: process.stdin }).on("line", async (line) => {
  const { id, params } = JSON.parse(line);
  const answer = await execute(params).then((result) => ({ result }), (error) => ({ error: { code: -32002, message: error.message } }));
  process.stdout.write(`${JSON.stringify({ jsonrpc: "2.0", id, ...answer })}\n`);
}).on("close", () => process.exit(0));
