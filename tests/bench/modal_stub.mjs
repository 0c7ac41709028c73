// modal_stub.mjs KEY CERT: Modal's two services at https://127.0.0.2, as far as a worker that executes commands calls them, and without any
// command: a script with `bench-bytes-<n>` in it prints n bytes, another one `out`, and both end at once. Prints its port. For each line
// on stdin it prints what it has seen since the one before: {"calls", "connections"}.
import fs from "node:fs";
import http2 from "node:http2";
import { createInterface } from "node:readline";

import { decode, encode, frame, rpcs } from "../modal/wire.mjs";

const [key, cert] = process.argv.slice(2);
const PIECE = Buffer.alloc(65536, "x");
const execs = new Map(); // id -> how much it prints
let seen = { calls: 0, connections: 0 }, port;

const base64url = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const token = () => `${base64url({ alg: "none" })}.${base64url({ exp: Math.floor(Date.now() / 1000) + 3600 })}.signature`;

const answers = {
  AuthTokenGet: () => ({ token: token() }),
  AppGetOrCreate: () => ({ app_id: "ap-1" }),
  ImageGetOrCreate: () => ({ image_id: "im-1", result: { status: 1 } }),
  SandboxCreate: () => ({ sandbox_id: "sb-0123456789012345678901" }),
  SandboxTagsSet: () => ({}),
  SandboxWait: () => ({}),
  SandboxGetTaskId: () => ({ task_id: "ta-1" }),
  SandboxTerminate: () => ({}),
  TaskGetCommandRouterAccess: () => ({ jwt: token(), url: `https://127.0.0.2:${port}` }),
  TaskExecStart: ({ exec_id: id, command_args: args }) => {
    const bytes = /bench-bytes-(\d+)/.exec(args.at(-1));
    execs.set(id, bytes ? Number(bytes[1]) : 0);
    return {};
  },
  TaskExecWait: () => ({ code: 0 }),
};

function* output({ exec_id: id, file_descriptor: fd = 0, offset = 0 }) {
  if (fd === 1) return;
  const bytes = execs.get(id);
  if (!bytes && !offset) yield Buffer.from("out\n");
  for (let at = offset; at < bytes; at += PIECE.length) yield PIECE.subarray(0, Math.min(PIECE.length, bytes - at));
}

/* There is room again, or nobody to send to. */
function drained(stream) {
  return new Promise((resolve) => {
    const done = () => {
      stream.off("drain", done);
      stream.off("close", done);
      resolve();
    };
    stream.on("drain", done);
    stream.on("close", done);
  });
}

async function answer(stream, rpc, body) {
  const [requestTable, answerTable, streams] = rpcs[rpc];
  const request = decode(requestTable, body.subarray(5));
  stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  if (!streams) stream.write(frame(encode(answerTable, answers[rpc](request))));
  else {
    for (const data of output(request))
      if (!stream.write(frame(encode(answerTable, { data })))) await drained(stream);
  }
  stream.end();
}

const server = http2.createSecureServer({ key: fs.readFileSync(key), cert: fs.readFileSync(cert), settings: { maxConcurrentStreams: 250 },
  maxSessionMemory: 1000 });
server.on("session", (session) => {
  seen.connections++;
  session.on("error", () => {});
});
server.on("stream", (stream, headers) => {
  const parts = [];
  seen.calls++;
  stream.on("error", () => {});
  stream.on("data", (chunk) => parts.push(chunk));
  stream.on("end", () => { answer(stream, headers[":path"].split("/").at(-1), Buffer.concat(parts)); });
});
server.listen(0, "127.0.0.2", 2048, () => {
  ({ port } = server.address());
  console.log(port);
});
createInterface({ input: process.stdin }).on("line", () => {
  console.log(JSON.stringify(seen));
  seen = { calls: 0, connections: 0 };
}).on("close", () => process.exit(0));
