/* The drivers that need nothing but this machine, with a config for tests; need() skips where the machine lacks something. */
import { spawnSync } from "node:child_process";

import { Skip } from "./tap.mjs";
import { stateDir } from "./worker.mjs";

function needBubblewrap() {
  const tried = spawnSync("bwrap", ["--ro-bind", "/", "/", "--unshare-all", "true"], { encoding: "utf8" });
  if (tried.error) throw new Skip("bwrap is not installed");
  if (tried.status !== 0) throw new Skip(`bwrap does not work here: ${tried.stderr.trim()}`);
}

export const fake = {
  key: "fake-plugin",
  config: { image: "fake:test", timeoutMs: 60_000, reuseLease: false },
  keepsExpiry: false,
  need: () => {},
};

export const local = {
  key: "local",
  config: { stateDir, timeoutMs: 60_000, reuseLease: false },
  keepsExpiry: true,
  need: needBubblewrap,
};

export const drivers = [fake, local];
