// Node's own clients through an edge; the environment says where it is. Ends 0
// only if each test passed.
import assert from "node:assert/strict";
import {createHash} from "node:crypto";
import http from "node:http";
import http2 from "node:http2";
import https from "node:https";

const {PLAIN, H2C, SECURE} = process.env;
const sum = b => createHash("sha256").update(b).digest("hex");
const content = n => Buffer.alloc(n, "0123456789abcdef!");

function ask(lib, url, options, body) {
  return new Promise((resolve, reject) => {
    const r = lib.request(url, options, resp => {
      const parts = [];
      resp.on("data", p => parts.push(p));
      resp.on("error", reject);
      resp.on("end", () => resolve({resp, body: Buffer.concat(parts), reused: r.reusedSocket}));
    });
    r.on("error", reject);
    if (typeof body === "function") body(r); else r.end(body);
  });
}

async function http1(lib, base) {
  const agent = new lib.Agent({keepAlive: true, maxSockets: 1});
  for (let i = 0; i < 20; i++) {
    const {resp, body, reused} = await ask(lib, `${base}/bytes/${i * 1000}`, {agent});
    assert.equal(resp.statusCode, 200);
    assert.equal(sum(body), resp.headers["x-sum"]);
    assert.equal(reused, i > 0, "the connection is kept");
  }
  const chunked = await ask(lib, `${base}/chunked/1000000`, {agent});
  assert.equal(sum(chunked.body), chunked.resp.trailers["x-sum"]);
  const upload = content(1_000_000);
  for (const options of [{headers: {"Content-Length": upload.length}}, {headers: {Trailer: "X-Client"}}]) {
    const {body} = await ask(lib, `${base}/sum`, {agent, method: "POST", ...options}, r => {
      r.write(upload.subarray(0, 300_000));
      r.write(upload.subarray(300_000));
      if (options.headers.Trailer) r.addTrailers({"X-Client": "says"});
      r.end();
    });
    const receipt = JSON.parse(body);
    assert.equal(receipt.sha256, sum(upload));
    if (options.headers.Trailer) assert.deepEqual(receipt.trailer["X-Client"], ["says"]);
  }
  const granted = await ask(lib, `${base}/sum`, {agent, method: "POST", headers: {Expect: "100-continue", "Content-Length": 5}}, r => {
    r.on("continue", () => r.end("later"));
    r.flushHeaders();
  });
  assert.equal(JSON.parse(granted.body).sha256, sum("later"));
  const head = await ask(lib, `${base}/bytes/777`, {agent, method: "HEAD"});
  assert.equal(head.resp.headers["content-length"], "777");
  agent.destroy();
}

function stream(session, headers, body, trailers) {
  return new Promise((resolve, reject) => {
    const s = session.request(headers, {endStream: body === undefined, waitForTrailers: trailers !== undefined});
    const got = {parts: []};
    s.on("wantTrailers", () => s.sendTrailers(trailers));
    s.on("response", h => { got.headers = h; });
    s.on("trailers", t => { got.trailers = t; });
    s.on("data", p => got.parts.push(p));
    s.on("error", reject);
    s.on("close", () => resolve({...got, body: Buffer.concat(got.parts)}));
    if (body !== undefined) s.end(body);
  });
}

async function http2Session(base) {
  const session = http2.connect(base, {settings: {enablePush: false}});
  const all = await Promise.all(Array.from({length: 50}, (_, i) =>
    stream(session, {":path": `/${["bytes", "chunked", "h2c/bytes", "h2c/chunked"][i % 4]}/${i * 3000}`})));
  all.forEach((a, i) => {
    assert.equal(a.headers[":status"], 200);
    assert.equal(a.body.length, i * 3000);
    assert.equal(sum(a.body), a.headers["x-sum"] ?? a.trailers["x-sum"]);
  });
  const upload = content(500_000);
  const r = await stream(session, {":path": "/sum", ":method": "POST"}, upload, {"x-client": "says"});
  const receipt = JSON.parse(r.body);
  assert.equal(receipt.sha256, sum(upload));
  assert.deepEqual(receipt.trailer["X-Client"], ["says"]);
  await new Promise((resolve, reject) => session.ping((err, _, payload) => err ? reject(err) : resolve(payload)));
  await new Promise(resolve => session.close(resolve));
}

async function undici(base) {
  const all = await Promise.all(Array.from({length: 30}, (_, i) => fetch(`${base}/chunked/${i * 1000}`).then(r => r.arrayBuffer())));
  all.forEach((b, i) => assert.equal(b.byteLength, i * 1000));
  const upload = content(300_000);
  const body = new ReadableStream({
    start(c) {
      for (let at = 0; at < upload.length; at += 50_000) c.enqueue(upload.subarray(at, at + 50_000));
      c.close();
    },
  });
  const r = await fetch(`${base}/sum`, {method: "POST", body, duplex: "half"});
  assert.equal((await r.json()).sha256, sum(upload));
  const zipped = await fetch(`${base}/gzip/100000`);
  assert.equal((await zipped.arrayBuffer()).byteLength, 100_000);
}

async function socket(base) {
  const ws = new WebSocket(base.replace("http", "ws") + "/ws");
  ws.binaryType = "arraybuffer";
  const next = () => new Promise((resolve, reject) => {
    ws.onmessage = m => resolve(m.data);
    ws.onclose = e => reject(new Error(`closed: ${e.code}`));
  });
  await new Promise((resolve, reject) => { ws.onopen = resolve; ws.onerror = e => reject(e.error ?? new Error("WebSocket")); });
  for (const sent of ["text ✓", "x".repeat(200_000)]) {
    const got = next();
    ws.send(sent);
    assert.equal(await got, sent);
  }
  const closed = new Promise(resolve => { ws.onclose = resolve; });
  ws.close(1000, "done");
  assert.equal((await closed).code, 1000);
}

const tests = {
  "http": () => http1(http, PLAIN),
  "https": () => http1(https, SECURE),
  "http2 TLS": () => http2Session(SECURE),
  "http2 without TLS": () => http2Session(H2C),
  "fetch": () => undici(PLAIN),
  "fetch TLS": () => undici(SECURE),
};
if (typeof WebSocket !== "undefined") {
  tests["WebSocket"] = () => socket(PLAIN);
  tests["WebSocket TLS"] = () => socket(SECURE);
}
let failed = 0;
for (const [name, run] of Object.entries(tests)) {
  try {
    await run();
    console.log(`ok ${name}`);
  } catch (e) {
    failed++;
    console.log(`FAILED ${name}: ${e.stack}`);
  }
}
process.exit(failed ? 1 : 0);
