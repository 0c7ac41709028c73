// cloud_stub.mjs KEY CERT: a service that answers every one-shot command of the daytona driver after a moment, over HTTP/2 and TLS. Prints its
// port; at the end of stdin what it has seen: connections and the most requests at once.
import fs from "node:fs";
import http2 from "node:http2";

const [key, cert, delay] = process.argv.slice(2);
const seen = { connections: 0, requests: 0, at_once: 0, at_once_max: 0 };
const server = http2.createSecureServer({ key: fs.readFileSync(key), cert: fs.readFileSync(cert), settings: { maxConcurrentStreams: 250 } });

server.on("session", () => seen.connections++);
server.on("stream", (stream, headers) => {
	const path = headers[":path"];
	seen.requests++;
	seen.at_once_max = Math.max(seen.at_once_max, ++seen.at_once);
	stream.on("close", () => seen.at_once--);
	stream.on("error", () => {});
	stream.resume();
	stream.on("end", () => {
		const answer = path.endsWith("/process/execute")
			? { exitCode: 0, result: "out\n" }
			: { id: "box", name: "box", state: "started", toolboxProxyUrl: `https://127.0.0.1:${server.address().port}/toolbox` };
		setTimeout(() => {
			if (stream.destroyed) return;
			stream.respond({ ":status": 200, "content-type": "application/json" });
			stream.end(JSON.stringify(answer));
		}, Number(delay));
	});
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.resume();
process.stdin.on("end", () => {
	console.log(JSON.stringify(seen));
	process.exit(0);
});
