/* Protocol buffers and gRPC frames, as far as the emulator needs them: messages by tables of their fields. */

/* A field: [number, name, type, modifiers]. Types: string, bytes, int (uint32, int32, uint64, enum, bool), float, or a table. */
const str = (n, name) => ({ n, name, type: "string" });
const int = (n, name) => ({ n, name, type: "int" });
const float = (n, name) => ({ n, name, type: "float" });
const bytes = (n, name) => ({ n, name, type: "bytes" });
const msg = (n, name, table) => ({ n, name, type: table });
const many = (field) => ({ ...field, many: true });
/* Written also when it is 0: `optional` and members of a oneof. */
const present = (field) => ({ ...field, present: true });

const tag = [str(1, "tag_name"), str(2, "tag_value")];
const result = [int(1, "status"), str(2, "exception"), int(3, "exitcode")];
const sandboxId = [str(1, "sandbox_id")];
const exec = [str(1, "task_id"), str(2, "exec_id")];
const entry = [str(1, "key"), str(2, "value")];
const definition = [str(3, "image_id"), int(7, "timeout_secs"), str(8, "workdir"),
  msg(22, "network_access", [int(1, "network_access_type"), many(str(2, "allowed_cidrs"))]), present(int(33, "idle_timeout_secs"))];
const exitStatus = [present(int(1, "code")), present(int(2, "signal"))];

/* rpc -> [request, answer, is a stream] */
export const rpcs = {
  AuthTokenGet: [[], [str(1, "token")]],
  AppGetOrCreate: [[str(1, "app_name"), str(2, "environment_name"), int(3, "object_creation_type")], [str(1, "app_id")]],
  EnvironmentGetOrCreate: [[str(1, "deployment_name")], [str(1, "environment_id"), msg(2, "metadata", [str(1, "name"),
    msg(2, "settings", [str(1, "image_builder_version")])])]],
  ImageGetOrCreate: [[msg(2, "image", [many(str(6, "dockerfile_commands"))]), str(4, "app_id"), int(7, "force_build"),
    str(9, "builder_version")], [str(1, "image_id"), msg(2, "result", result)]],
  ImageJoinStreaming: [[str(1, "image_id"), float(2, "timeout"), str(3, "last_entry_id")],
    [msg(1, "result", result), many(msg(2, "task_logs", [str(1, "data")])), str(3, "entry_id"), int(4, "eof")], true],
  SandboxCreate: [[str(1, "app_id"), msg(2, "definition", definition), many(msg(4, "tags", tag))], sandboxId],
  SandboxTagsSet: [[str(1, "environment_name"), str(2, "sandbox_id"), many(msg(3, "tags", tag))], []],
  SandboxWait: [[str(1, "sandbox_id"), float(2, "timeout")], [msg(1, "result", result)]],
  SandboxGetTaskId: [sandboxId, [present(str(1, "task_id")), msg(2, "task_result", result)]],
  SandboxTerminate: [sandboxId, [msg(1, "existing_result", result)]],
  TaskGetCommandRouterAccess: [[str(1, "task_id")], [str(1, "jwt"), str(2, "url")]],
  ContainerFilesystemExec: [[msg(1, "file_open_request", [str(2, "path"), str(3, "mode")]),
    msg(2, "file_write_request", [str(1, "file_descriptor"), bytes(2, "data")]), msg(4, "file_flush_request", [str(1, "file_descriptor")]),
    msg(9, "file_close_request", [str(1, "file_descriptor")]), str(10, "task_id")], [str(1, "exec_id"), present(str(2, "file_descriptor"))]],
  ContainerFilesystemExecGetOutput: [[str(1, "exec_id"), float(2, "timeout")],
    [many(bytes(1, "output")), msg(2, "error", [int(1, "error_code"), str(2, "error_message")]), int(3, "batch_index"), int(4, "eof")], true],
  TaskExecStart: [[...exec, many(str(3, "command_args")), int(4, "stdout_config"), int(5, "stderr_config"), present(int(6, "timeout_secs")),
    str(7, "workdir"), many(msg(12, "env", entry))], []],
  TaskExecStdioRead: [[...exec, int(3, "offset"), int(4, "file_descriptor")], [bytes(1, "data")], true],
  TaskExecWait: [exec, exitStatus],
  TaskExecPoll: [exec, exitStatus],
  TaskExecStdinWrite: [[...exec, int(3, "offset"), bytes(4, "data"), int(5, "eof")], []],
};
for (const name of ["SandboxWait", "SandboxGetTaskId", "SandboxTagsSet", "SandboxTerminate"]) rpcs[`${name}V2`] = rpcs[name];

const statusTable = [int(1, "code"), str(2, "message"), many(msg(3, "details", [str(1, "type_url"), bytes(2, "value")]))];
const retryPolicy = [float(1, "retry_after_secs")];

/* grpc-status-details-bin of an answer that asks for a pause. */
export function retryDetails(code, message, seconds) {
  const details = [{ type_url: "type.googleapis.com/modal.client.RPCRetryPolicy", value: encode(retryPolicy, { retry_after_secs: seconds }) }];
  return encode(statusTable, { code, message, details }).toString("base64");
}

function varint(value) {
  const out = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest > 127n; rest >>= 7n) out.push(Number(rest & 127n) | 128);
  out.push(Number(rest));
  return Buffer.from(out);
}

function encodeOne(field, value) {
  const head = (type) => varint(field.n * 8 + type);
  if (field.type === "int") return [head(0), varint(Number(value))];
  if (field.type === "float") {
    const four = Buffer.alloc(4);
    four.writeFloatLE(value);
    return [head(5), four];
  }
  const body = field.type === "string" ? Buffer.from(value) : field.type === "bytes" ? value : encode(field.type, value);
  return [head(2), varint(body.length), body];
}

export function encode(table, object) {
  const parts = [];
  for (const field of table) {
    const value = object[field.name];
    if (value === undefined || value === null) continue;
    if (field.many) for (const one of value) parts.push(...encodeOne(field, one));
    else if (field.present || typeof field.type === "object" || (field.type === "bytes" ? value.length : value)) parts.push(...encodeOne(field, value));
  }
  return Buffer.concat(parts);
}

export function decode(table, buffer) {
  const object = {};
  let at = 0;
  const readVarint = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = buffer[at++];
      if (byte === undefined) throw new Error("a message is cut short");
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return Number(value);
    }
  };
  while (at < buffer.length) {
    const key = readVarint(), type = key & 7, field = table.find(({ n }) => n === key >>> 3);
    let value;
    if (type === 0) value = readVarint();
    else if (type === 5) { value = buffer.readFloatLE(at); at += 4; }
    else if (type === 1) { value = buffer.readDoubleLE(at); at += 8; }
    else if (type === 2) {
      const length = readVarint();
      value = buffer.subarray(at, at += length);
      if (value.length !== length) throw new Error("a message is cut short");
    } else throw new Error(`wire type ${type}`);
    if (!field) continue;
    if (field.type === "string") value = value.toString();
    else if (typeof field.type === "object") value = decode(field.type, value);
    if (field.many) (object[field.name] ??= []).push(value);
    else object[field.name] = value;
  }
  return object;
}

export function frame(message) {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/* For the request log: bytes as base64, and long ones only by their length. */
export function readable(value) {
  if (Buffer.isBuffer(value)) return value.length > 1000 ? { bytes: value.length } : { base64: value.toString("base64"), bytes: value.length };
  if (Array.isArray(value)) return value.map(readable);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, readable(one)]));
  return value;
}

export const percentEncoded = (text) => [...Buffer.from(text)].map((byte) =>
  (byte >= 0x20 && byte <= 0x7e && byte !== 0x25 ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`)).join("");
