/* The published server's own modules, by path: most are not exported by its package. */
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

export const modulesDir = process.env.PSW_MODULES;

export function packageFile(...parts) {
  return path.join(modulesDir, ...parts);
}

function load(...parts) {
  return import(pathToFileURL(packageFile(...parts)).href);
}

/* serverModule("services/secrets") */
export function serverModule(name) {
  return load("@paperclipai/server/dist", `${name}.js`);
}

export function databaseModule() {
  return load("@paperclipai/db/dist/index.js");
}

/* The query builder that the server itself uses: a second copy would not know the first one's tables. */
export function drizzle() {
  const require = createRequire(packageFile("@paperclipai/db/dist/index.js"));
  return import(pathToFileURL(require.resolve("drizzle-orm")).href);
}

export const serverVersion = createRequire(import.meta.url)(packageFile("@paperclipai/server/package.json")).version;
