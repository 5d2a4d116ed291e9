// Writes are served in nrt, everything else where it comes in.
import { createServer } from "node:http";

createServer((req, res) => {
  const here = req.headers["edge-geo"]; // where this instance serves, says the edge
  if (req.method === "POST" && here !== "nrt" && !req.headers["replay-geo-failed"]) {
    res.writeHead(409, { "Replay-Geo": 'nrt;timeout=2;fallback=self;state="a write"' });
    return res.end();
  }
  const why = req.headers["replay-geo-src"] ?? "it came in here";
  res.end(`${req.method} served in ${here}: ${why}\n`);
}).listen(process.env.PORT ?? 3000, "127.0.0.1");
