/*
 * Modal's two gRPC services on loopback ports, for tests.
 *
 *   emulator.mjs [CERTIFICATE KEY]   prints one line of JSON when it listens: {"url", "serverUrl", "tlsUrl", "directory"}; ends when
 *                                    stdin does. tlsUrl, at 127.0.0.2, if it has a certificate: there the routers speak TLS too.
 *
 * Commands really run (sandboxes.mjs). Below <url>/control, in HTTP/1:
 *
 *   POST   /reset       all is as in the beginning, in another directory: {"directory"}
 *   POST   /faults      one rule (faults.mjs)
 *   DELETE /faults      forget them; let go of calls that stall
 *   POST   /behave      see Service.behave
 *   POST   /end         {"id", "result"}: what happens to a sandbox behind its owner's back
 *   POST   /forget      {"id"}: the service knows nothing of it any more
 *   POST   /task        {"id"}: it runs as another task from now on
 *   POST   /tokens      all tokens that were given out are refused from now on
 *   POST   /goaway      every connection is told to go away, and ends when its calls have
 *   GET    /state       {"live": [ids], "sandboxes", "created", "running", "openFiles", "connections"}
 *   GET    /requests    what was called so far: [{"rpc", "metadata", "request", "fault"}]; ?since=<n>
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import os from "node:os";
import path from "node:path";

import { Faults } from "./faults.mjs";
import { Refused, Service, UNIMPLEMENTED } from "./sandboxes.mjs";
import { decode, encode, frame, percentEncoded, readable, retryDetails, rpcs } from "./wire.mjs";

const directory = mkdtempSync(path.join(os.tmpdir(), "modal-emulator-"));
let rounds = 0, service = begin();
const faults = new Faults();
const log = [];
const sessions = new Set();
const connections = { open: 0, peak: 0, total: 0 };
const SECOND = /V2$/;

/* A service without a past. */
function begin() {
  const place = path.join(directory, `${rounds++}`);
  mkdirSync(place);
  return new Service(place);
}

const HEADERS = { ":status": 200, "content-type": "application/grpc" };

/* --- one call --- */

class Call {
  constructor(stream, headers, routerUrl) {
    this.stream = stream;
    this.metadata = headers;
    this.routerUrl = routerUrl;
    const [, owner, rpc] = headers[":path"].split("/");
    this.owner = owner;
    this.rpc = rpc;
    this.started = false;
    stream.on("error", () => {}); // the client's resets
  }

  get over() {
    return this.stream.destroyed || this.stream.closed;
  }

  begin() {
    if (this.started || this.over) return;
    this.started = true;
    this.stream.respond(HEADERS, { waitForTrailers: true });
    this.stream.on("wantTrailers", () => {
      this.stream.sendTrailers(this.trailers ?? { "x-trailer": "without a status" });
    });
  }

  /* Waits while the client's window is full. */
  async send(bytes) {
    this.begin();
    if (this.over || this.stream.write(bytes)) return;
    await new Promise((resolve) => {
      const done = () => {
        this.stream.off("drain", done);
        this.stream.off("close", done);
        resolve();
      };
      this.stream.on("drain", done);
      this.stream.on("close", done);
    });
  }

  finish(code, message, details) {
    if (this.over) return;
    const trailers = { "grpc-status": `${code}`, ...(message ? { "grpc-message": percentEncoded(message) } : {}),
      ...(details ? { "grpc-status-details-bin": details } : {}) };
    if (!this.started && code !== 0) {
      this.stream.respond({ ...HEADERS, ...trailers }, { endStream: true });
      return;
    }
    this.begin();
    this.trailers = trailers;
    this.stream.end();
  }

  /* What a fault does in place of (the rest of) an answer. */
  async suffer(rule, answer) {
    const { way, value } = rule;
    const session = this.stream.session;
    if (way === "status") this.finish(value[0], value[1], rule.retryAfter === undefined ? null : retryDetails(value[0], value[1], rule.retryAfter));
    else if (way === "http") this.stream.respond({ ":status": value, "content-type": "text/html" }, { endStream: true });
    else if (way === "rst") {
      if (rule.at !== undefined) await new Promise((resolve) => { setTimeout(resolve, 20); }); // else it overtakes what was written
      this.stream.close(value);
    } else if (way === "reset") {
      if (rule.at !== undefined) await new Promise((resolve) => { setTimeout(resolve, 20); });
      session?.psw.resetAndDestroy();
    } else if (way === "goaway") {
      session?.goaway(value);
      session?.destroy();
    } else if (way === "end") {
      this.begin();
      this.stream.end();
    } else if (way === "half") {
      await this.send(frame(answer).subarray(0, 5 + (answer.length >> 1)));
      this.finish(0);
    } else if (way === "empty") this.finish(0);
    else if (way === "garbage") {
      await this.send(frame(Buffer.from([0x0a, 0x7f, 1])));
      this.finish(0);
    } else if (way === "raw") {
      await this.send(frame(Buffer.from(value, "base64")));
      this.finish(0);
    } else if (way === "compressed") {
      const bytes = frame(answer);
      bytes[0] = 1;
      await this.send(bytes);
      this.finish(0);
    } else if (way === "answer") {
      await this.send(frame(encode(rpcs[this.rpc][1], value)));
      this.finish(0);
    } else if (way === "stall") {
      if (this.started || rule.at !== undefined) this.begin();
      await faults.stall(this.stream);
      if (!this.over) this.stream.close(http2.constants.NGHTTP2_CANCEL);
    }
  }

  authenticate() {
    if (this.owner === "modal.task_command_router.TaskCommandRouter")
      service.checkToken((this.metadata.authorization ?? "").replace(/^Bearer /, ""));
    else if (this.rpc !== "AuthTokenGet") service.checkToken(this.metadata["x-modal-auth-token"]);
  }

  /* The same key is the same call. */
  async carryOut(name, request) {
    const key = this.metadata["x-idempotency-key"];
    if (!key) return service[name](request, this);
    if (!service.answered.has(key)) service.answered.set(key, service[name](request, this));
    return service.answered.get(key);
  }

  async run(body) {
    const [requestTable, answerTable, streams] = rpcs[this.rpc] ?? [];
    const name = this.rpc.replace(SECOND, "");
    const request = requestTable ? decode(requestTable, body.subarray(5)) : {};
    const shown = readable(request);
    const rule = faults.take(this.rpc, shown);
    log.push({ rpc: this.rpc, metadata: { ...this.metadata }, request: shown, fault: rule?.way ?? null });
    if (rule && !rule.after && rule.way !== "delayMs") {
      await this.suffer(rule, Buffer.alloc(0));
      return;
    }
    if (rule?.way === "delayMs") await new Promise((resolve) => { setTimeout(resolve, rule.value); });
    try {
      if (!requestTable || (service.behaviour.firstGenerationOnly && SECOND.test(this.rpc))) throw new Refused(UNIMPLEMENTED, `unknown method ${this.rpc}`);
      this.authenticate();
      if (streams) await this.stream_(name, request, answerTable, rule);
      else {
        const answer = encode(answerTable, await this.carryOut(name, request));
        if (rule?.after && rule.way !== "delayMs") {
          await this.suffer(rule, answer);
          return;
        }
        await this.send(frame(answer));
        this.finish(0);
      }
    } catch (error) {
      this.finish(error instanceof Refused ? error.code : 13, error instanceof Refused ? error.message : `${error.stack}`);
    }
  }

  async stream_(name, request, answerTable, rule) {
    let sent = 0;
    this.begin();
    for await (const message of service[name](request, this)) {
      if (this.over) return;
      const answer = encode(answerTable, message);
      const room = rule?.at === undefined ? Infinity : rule.at - sent;
      if (rule && rule.way !== "delayMs" && (rule.at === undefined || room < (message.data?.length ?? 0))) {
        if (room > 0 && room !== Infinity) await this.send(frame(encode(answerTable, { ...message, data: message.data.subarray(0, room) })));
        const rest = room === Infinity ? answer : encode(answerTable, { ...message, data: message.data.subarray(Math.max(room, 0)) });
        await this.suffer(rule, rule.way === "half" ? rest : answer);
        return;
      }
      await this.send(frame(answer));
      sent += message.data?.length ?? 0;
    }
    this.finish(0);
  }
}

/* --- servers --- */

function serve(server, url) {
  server.on("session", (session) => {
    sessions.add(session);
    const { remoteAddress, remotePort } = session.socket;
    session.psw = raw.get(`${remoteAddress}:${remotePort}`);
    connections.total++;
    connections.peak = Math.max(connections.peak, ++connections.open);
    session.on("close", () => {
      sessions.delete(session);
      raw.delete(`${remoteAddress}:${remotePort}`);
      connections.open--;
    });
    session.on("error", () => {});
  });
  server.on("stream", (stream, headers) => {
    const parts = [];
    const call = new Call(stream, headers, url());
    stream.on("data", (chunk) => parts.push(chunk));
    stream.on("end", () => call.run(Buffer.concat(parts)).catch((error) => { console.error(error); }));
  });
}

const listen = (server, host) => new Promise((resolve) => { server.listen(0, host, 2048, () => resolve(server.address().port)); });
const settings = { initialWindowSize: 16 << 20, maxConcurrentStreams: 1000 };
/* The raw sockets, which can be reset. */
const raw = new Map();

const plain = http2.createServer({ settings, maxSessionMemory: 2000 });
plain.prependListener("connection", (socket) => raw.set(`${socket.remoteAddress}:${socket.remotePort}`, socket));
const plainPort = await listen(plain, "127.0.0.1");
serve(plain, () => `https://127.0.0.1:${plainPort}`);
let tlsPort = 0;
if (process.argv.length > 3) {
  const [cert, key] = process.argv.slice(2).map((name) => readFileSync(name));
  const secure = http2.createSecureServer({ cert, key, settings, maxSessionMemory: 2000 });
  secure.prependListener("connection", (socket) => raw.set(`${socket.remoteAddress}:${socket.remotePort}`, socket));
  tlsPort = await listen(secure, "127.0.0.2");
  serve(secure, () => `https://127.0.0.2:${tlsPort}`);
}

/* --- control --- */

const control = {
  "POST /reset": () => {
    service.close();
    faults.clear();
    log.length = 0;
    Object.assign(connections, { peak: connections.open, total: 0 });
    service = begin();
    return { directory: service.directory };
  },
  "POST /faults": (body) => faults.add(body),
  "DELETE /faults": () => faults.clear(),
  "POST /behave": (body) => service.behave(body),
  "POST /end": ({ id, result }) => service.end(id, result),
  "POST /forget": ({ id }) => {
    service.end(id, { status: 3 });
    service.sandboxes.delete(id);
  },
  "POST /task": ({ id }) => {
    const sandbox = service.sandbox(id);
    service.tasks.delete(sandbox.taskId);
    sandbox.taskId += "x";
    service.tasks.set(sandbox.taskId, sandbox);
  },
  "POST /tokens": () => service.tokens.clear(),
  "POST /goaway": () => sessions.forEach((session) => session.close()),
  "GET /state": () => ({ ...service.view(), connections }),
  "GET /requests": (body, query) => log.slice(Number(query.get("since") ?? 0)),
};

const controller = http.createServer((request, response) => {
  const url = new URL(request.url, "http://x"), parts = [];
  request.on("data", (chunk) => parts.push(chunk));
  request.on("end", () => {
    let answer, status = 200;
    try {
      answer = control[`${request.method} ${url.pathname.replace(/^\/control/, "")}`](parts.length ? JSON.parse(Buffer.concat(parts)) : {}, url.searchParams);
    } catch (error) {
      status = 500;
      answer = `${error.stack}`;
    }
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer ?? null));
  });
});
const controlPort = await listen(controller, "127.0.0.1");

console.log(JSON.stringify({ url: `http://127.0.0.1:${controlPort}`, serverUrl: `http://127.0.0.1:${plainPort}`,
  tlsUrl: tlsPort ? `https://127.0.0.2:${tlsPort}` : null, directory: service.directory }));
process.stdin.resume().on("end", () => {
  service.close();
  setTimeout(() => {
    rmSync(directory, { recursive: true, force: true });
    process.exit(0);
  }, 50);
});
