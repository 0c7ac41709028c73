/*
 * Scripted faults: which call goes wrong, how, and how often.
 *
 * A rule is a JSON object:
 *
 *   rpc      regular expression, of the whole name; left out: any
 *   body     regular expression, searched in the request as JSON; left out: any
 *   skip     so many matching calls pass first (0)
 *   times    so many are hit after that (1; null: all)
 *   after    true: the service carries the call out and only its answer suffers; false: it never learns of the call
 *   at       of a stream: so many bytes of its messages' data come first (implies after)
 *
 * and one way to go wrong:
 *
 *   status        [number, text] in trailers, or in the headers alone if nothing was sent before; with retryAfter: and a retry policy
 *   http          this HTTP status, and no gRPC
 *   rst           the stream is reset with this code
 *   reset         the connection is reset
 *   goaway        the connection is closed after GOAWAY with this error code, without an answer
 *   end           the stream ends without a status
 *   half          it ends with status 0 in the middle of a message
 *   empty         it ends with status 0 and no message
 *   garbage       a message that is none
 *   raw           these bytes (base64) as the message
 *   compressed    the message says that it is compressed
 *   stall         no answer (or no more of it), until the client goes away or the faults are cleared
 *   delayMs       the right answer, late
 *   answer        this answer instead (of a unary call)
 */
const WAYS = ["status", "http", "rst", "reset", "goaway", "end", "half", "empty", "garbage", "raw", "compressed", "stall", "delayMs", "answer"];
const OTHERS = ["rpc", "body", "skip", "times", "after", "at", "retryAfter"];

class Rule {
  constructor(text) {
    const unknown = Object.keys(text).filter((key) => !WAYS.includes(key) && !OTHERS.includes(key));
    const ways = WAYS.filter((way) => way in text);
    if (unknown.length || ways.length !== 1) throw new Error(`a fault goes wrong in one way: ${JSON.stringify(text)}`);
    this.way = ways[0];
    this.value = text[this.way];
    this.rpc = new RegExp(`^(?:${text.rpc ?? ".*"})$`);
    this.body = text.body === undefined ? null : new RegExp(text.body);
    this.skip = text.skip ?? 0;
    this.times = text.times === undefined ? 1 : text.times ?? Infinity;
    this.at = text.at;
    this.after = text.after ?? (this.at !== undefined || ["half", "compressed", "garbage"].includes(this.way));
    this.retryAfter = text.retryAfter;
  }
}

export class Faults {
  constructor() {
    this.rules = [];
    this.stalled = new Set();
  }

  add(text) {
    this.rules.push(new Rule(text));
  }

  /* Forgets the rules, and lets go of what stalls. */
  clear() {
    this.rules = [];
    for (const release of this.stalled) release();
    this.stalled.clear();
  }

  stall(stream) {
    return new Promise((resolve) => {
      this.stalled.add(resolve);
      stream.once("close", () => {
        this.stalled.delete(resolve);
        resolve();
      });
    });
  }

  /* The fault of this call, or null. Only the first rule that matches counts the call. */
  take(rpc, request) {
    for (const rule of this.rules) {
      if (!rule.rpc.test(rpc) || (rule.body && !rule.body.test(JSON.stringify(request)))) continue;
      if (rule.skip > 0) {
        rule.skip--;
        return null;
      }
      if (rule.times > 0) {
        rule.times--;
        return rule;
      }
    }
    return null;
  }
}
