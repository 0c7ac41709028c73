/*
 * Tests that print TAP on descriptor 3. `test(name, body)` notes one, `run()` plays them one after the other. A body fails by
 * throwing, and skips by `throw new Skip(reason)`. What the server logged since the test began is shown with a failure.
 */
import { readFileSync, statSync, writeSync } from "node:fs";

const TAP_FD = 3;
const LIMIT_MS = 300_000; // only to end a test that hangs

export class Skip extends Error {}

const tests = [];

/* So that what the process holds is given back when it is told to end. */
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.once(signal, () => process.exit(1));

export function test(name, body) {
  tests.push({ name, body });
}

function print(line) {
  writeSync(TAP_FD, `${line}\n`);
}

function explain(text) {
  for (const line of text.split("\n")) print(`# ${line}`);
}

/* Where the server's log ends now. */
export function logPosition() {
  return statSync(process.env.PSW_LOG).size;
}

/* What the server logged since then, and its records. */
export function logSinceText(position) {
  return readFileSync(process.env.PSW_LOG).subarray(position).toString();
}

export function logSince(position) {
  return logSinceText(position).split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
}

async function limited(body) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end after ${LIMIT_MS / 1000} s`)), LIMIT_MS);
  });
  try {
    await Promise.race([body(), limit]);
  } finally {
    clearTimeout(timer);
  }
}

/* cleanup runs last, whatever happened; then the process ends with the status of the tests. */
export async function run(cleanup = async () => {}) {
  print("TAP version 13");
  print(`1..${tests.length}`);
  let failed = 0;
  for (const [index, { name, body }] of tests.entries()) {
    const start = logPosition();
    try {
      await limited(body);
      print(`ok ${index + 1} - ${name}`);
    } catch (error) {
      if (error instanceof Skip) {
        print(`ok ${index + 1} - ${name} # SKIP ${error.message}`);
        continue;
      }
      failed++;
      print(`not ok ${index + 1} - ${name}`);
      explain(String(error.stack ?? error).slice(0, 4000));
      if (error.cause) explain(`cause: ${String(error.cause.stack ?? error.cause).slice(0, 2000)}`);
      for (const { level, msg, err } of logSince(start).slice(-25)) {
        explain(`server's log, ${level}: ${String(msg).slice(0, 300)} ${err ? JSON.stringify(err).slice(0, 300) : ""}`);
      }
    }
  }
  await cleanup();
  process.exit(failed === 0 ? 0 : 1);
}

/* Waits until the condition gives something true, which it returns. */
export async function until(condition, what, limitMs = 60_000) {
  const end = Date.now() + limitMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`never came true: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
