/*
 * What the service keeps: tokens, apps, images, sandboxes and what runs in them. There is no container: a sandbox is a directory, which is
 * its commands' HOME, and they run on this machine as they are.
 */
import { spawn } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { EventEmitter } from "node:events";
import { closeSync, mkdirSync, openSync, writeSync } from "node:fs";
import path from "node:path";

export const CANCELLED = 1, INVALID_ARGUMENT = 3, NOT_FOUND = 5, FAILED_PRECONDITION = 9, UNIMPLEMENTED = 12, UNAUTHENTICATED = 16;

export class Refused extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const newId = (prefix) => `${prefix}-${[...randomBytes(22)].map((byte) => letters[byte % 62]).join("")}`;
const base64url = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/* Bytes that are appended and read, by any number of readers, each from where it likes. */
class Log extends EventEmitter {
  constructor() {
    super();
    this.setMaxListeners(0);
    this.chunks = [];
    this.length = 0;
    this.ended = false;
  }

  append(chunk) {
    this.chunks.push({ at: this.length, chunk });
    this.length += chunk.length;
    this.emit("more");
  }

  end() {
    this.ended = true;
    this.emit("more");
  }

  /* What there is from that offset on, in one piece of at most 64 KiB; null: nothing yet. */
  from(offset) {
    if (offset >= this.length) return null;
    let low = 0, high = this.chunks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.chunks[middle].at <= offset) low = middle;
      else high = middle - 1;
    }
    const { at, chunk } = this.chunks[low];
    return chunk.subarray(offset - at, offset - at + 65536);
  }

  more() {
    return new Promise((resolve) => { this.once("more", resolve); });
  }
}

class Exec {
  constructor(sandbox, request, idle) {
    this.logs = [new Log(), new Log()];
    this.status = null;
    this.done = new Promise((resolve) => { this.resolve = resolve; });
    if (idle) this.pretend(request);
    else this.run(sandbox, request);
  }

  /* As if the script's last word were what it prints. */
  pretend({ command_args: args }) {
    this.logs[0].append(Buffer.from(`${/'([^']*)'$/.exec(args.at(-1))?.[1] ?? ""}\n`));
    for (const log of this.logs) log.end();
    this.finish({ code: 0 });
  }

  run(sandbox, request) {
    const [command, ...args] = request.command_args;
    const env = { PATH: process.env.PATH, HOME: sandbox.directory, LANG: "C.UTF-8" };
    for (const { key, value } of request.env ?? []) env[key] = value ?? "";
    this.child = spawn(command, args, { cwd: sandbox.directory, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
    this.child.stdout.on("data", (chunk) => this.logs[0].append(chunk));
    this.child.stderr.on("data", (chunk) => this.logs[1].append(chunk));
    this.child.stdout.on("close", () => this.logs[0].end());
    this.child.stderr.on("close", () => this.logs[1].end());
    this.child.on("error", () => this.finish({ code: 127 }));
    this.child.on("exit", (code, signal) => this.finish(signal ? { signal: { SIGKILL: 9, SIGTERM: 15, SIGSEGV: 11, SIGINT: 2 }[signal] } : { code }));
    if (request.timeout_secs) this.timer = setTimeout(() => this.kill(), request.timeout_secs * 1000);
  }

  finish(status) {
    this.status = status;
    clearTimeout(this.timer);
    this.resolve(status);
  }

  kill() {
    if (!this.child) return;
    try {
      process.kill(-this.child.pid, "SIGKILL");
    } catch { /* it has ended */ }
  }
}

export class Service {
  constructor(directory) {
    this.directory = directory;
    this.behaviour = {};
    this.tokens = new Set();
    this.apps = new Map();
    this.images = new Map();
    this.sandboxes = new Map();
    this.tasks = new Map();
    this.files = new Map();
    this.outcomes = new Map();
    this.answered = new Map(); // by idempotency key
    this.created = 0;
  }

  /* {"tokenLifeS", "routerLifeS", "images": {name: {"joins", "status", "exception"}}, "taskPolls", "routerUrl", "firstGenerationOnly",
     "idle": no command runs, see Exec.pretend} */
  behave(behaviour) {
    this.behaviour = behaviour;
  }

  token(life, more) {
    const exp = Math.floor(Date.now() / 1000) + life;
    const token = `${base64url({ alg: "none" })}.${base64url({ exp, jti: randomUUID(), ...more })}.${randomBytes(24).toString("base64url")}`;
    this.tokens.add(token);
    return token;
  }

  checkToken(token) {
    if (!this.tokens.has(token)) throw new Refused(UNAUTHENTICATED, "the token is not valid");
    const { exp } = JSON.parse(Buffer.from(token.split(".")[1], "base64url"));
    if (exp * 1000 <= Date.now()) throw new Refused(UNAUTHENTICATED, "the token has expired");
  }

  sandbox(id) {
    const sandbox = this.sandboxes.get(id);
    if (!sandbox) throw new Refused(NOT_FOUND, `Sandbox ${id} not found`);
    return sandbox;
  }

  task(id) {
    const sandbox = this.tasks.get(id);
    if (!sandbox || sandbox.result) throw new Refused(NOT_FOUND, `Task ${id} not found`);
    return sandbox;
  }

  exec({ task_id: task, exec_id: id }) {
    const exec = this.task(task).execs.get(id);
    if (!exec) throw new Refused(NOT_FOUND, `Exec ${id} not found`);
    return exec;
  }

  end(id, result) {
    const sandbox = this.sandbox(id);
    if (sandbox.result) return;
    sandbox.result = result;
    clearTimeout(sandbox.timer);
    for (const exec of sandbox.execs.values()) exec.kill();
  }

  view() {
    const all = [...this.sandboxes.values()];
    return {
      live: all.filter(({ result }) => !result).map(({ id }) => id),
      sandboxes: all.map(({ id, tags, definition, result, taskId }) => ({ id, tags, definition, result, taskId })),
      created: this.created,
      running: all.flatMap(({ execs }) => [...execs.values()]).filter(({ status }) => !status).length,
      openFiles: this.files.size,
    };
  }

  close() {
    for (const sandbox of this.sandboxes.values()) this.end(sandbox.id, { status: 3 });
  }

  /* --- unary calls --- */

  AuthTokenGet(request, { metadata }) {
    if (metadata["x-modal-token-id"] !== "test-id" || metadata["x-modal-token-secret"] !== "test-secret")
      throw new Refused(UNAUTHENTICATED, "Token validation failed");
    return { token: this.token(this.behaviour.tokenLifeS ?? 3600) };
  }

  AppGetOrCreate({ app_name: name, object_creation_type: type }) {
    if (!this.apps.has(name)) {
      if (type !== 1) throw new Refused(NOT_FOUND, `no app ${name}`);
      this.apps.set(name, newId("ap"));
    }
    return { app_id: this.apps.get(name) };
  }

  EnvironmentGetOrCreate() {
    return { environment_id: "en-1", metadata: { name: "main", settings: { image_builder_version: "2024.10" } } };
  }

  ImageGetOrCreate({ image }) {
    const name = image.dockerfile_commands[0].replace(/^FROM /, "");
    const plan = { joins: 0, status: 1, ...this.behaviour.images?.[name] };
    const id = newId("im");
    this.images.set(id, plan);
    return { image_id: id, result: plan.joins === 0 ? { status: plan.status, exception: plan.exception } : undefined };
  }

  SandboxCreate({ definition, tags }) {
    if (!this.images.has(definition.image_id)) throw new Refused(NOT_FOUND, "no such image");
    const id = newId("sb");
    const directory = path.join(this.directory, id);
    mkdirSync(directory);
    const sandbox = { id, definition, tags: tags ?? [], directory, execs: new Map(), taskId: newId("ta"), taskPolls: this.behaviour.taskPolls ?? 0 };
    if (definition.timeout_secs) sandbox.timer = setTimeout(() => this.end(id, { status: 4 }), definition.timeout_secs * 1000).unref();
    this.sandboxes.set(id, sandbox);
    this.tasks.set(sandbox.taskId, sandbox);
    this.created++;
    return { sandbox_id: id };
  }

  SandboxTagsSet({ sandbox_id: id, tags }) {
    this.sandbox(id).tags = tags ?? [];
    return {};
  }

  SandboxWait({ sandbox_id: id }) {
    return { result: this.sandbox(id).result };
  }

  SandboxGetTaskId({ sandbox_id: id }) {
    const sandbox = this.sandbox(id);
    if (sandbox.result) return { task_id: sandbox.taskId, task_result: sandbox.result };
    return sandbox.taskPolls-- > 0 ? {} : { task_id: sandbox.taskId };
  }

  SandboxTerminate({ sandbox_id: id }) {
    const existing = this.sandbox(id).result;
    this.end(id, { status: 3 });
    return { existing_result: existing };
  }

  TaskGetCommandRouterAccess({ task_id: id }, { routerUrl }) {
    this.task(id);
    return { jwt: this.token(this.behaviour.routerLifeS ?? 3600, { task: id }), url: this.behaviour.routerUrl ?? routerUrl };
  }

  ContainerFilesystemExec(request) {
    const exec_id = newId("fx");
    this.task(request.task_id);
    const answer = { exec_id };
    try {
      if (request.file_open_request) {
        const { path: name, mode } = request.file_open_request;
        answer.file_descriptor = newId("fd");
        this.files.set(answer.file_descriptor, openSync(name, mode));
      } else if (request.file_write_request) {
        const { file_descriptor: fd, data = Buffer.alloc(0) } = request.file_write_request;
        for (let at = 0; at < data.length;) at += writeSync(this.files.get(fd), data, at);
      } else if (request.file_close_request) {
        closeSync(this.files.get(request.file_close_request.file_descriptor));
        this.files.delete(request.file_close_request.file_descriptor);
      }
      this.outcomes.set(exec_id, { eof: 1 });
    } catch (error) {
      this.outcomes.set(exec_id, { error: { error_code: -error.errno, error_message: error.code } });
    }
    return answer;
  }

  TaskExecStart(request) {
    const { execs } = this.task(request.task_id), sandbox = this.task(request.task_id);
    if (!execs.has(request.exec_id)) execs.set(request.exec_id, new Exec(sandbox, request, this.behaviour.idle));
    return {};
  }

  async TaskExecWait(request) {
    return { ...await this.exec(request).done };
  }

  TaskExecPoll(request) {
    return { ...this.exec(request).status };
  }

  /* --- streams: async generators of messages --- */

  async* ImageJoinStreaming({ image_id: id, last_entry_id: last = "" }) {
    const { joins, status, exception } = this.images.get(id);
    for (let n = last ? Number(last) + 1 : 1; n < joins; n++) yield { entry_id: `${n}`, task_logs: [{ data: `step ${n}\n` }] };
    yield { entry_id: `${joins}`, result: { status, exception } };
  }

  async* ContainerFilesystemExecGetOutput({ exec_id: id }) {
    yield this.outcomes.get(id);
  }

  async* TaskExecStdioRead(request) {
    const log = this.exec(request).logs[request.file_descriptor ?? 0];
    for (let offset = request.offset ?? 0; ;) {
      const data = log.from(offset);
      if (data) {
        yield { data };
        offset += data.length;
      } else if (log.ended) return;
      else await log.more();
    }
  }
}
