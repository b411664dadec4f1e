import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingHttpHeaders, type RequestListener, type Server } from "node:http";
import { createServer as createEncryptedServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { Webhook as Verifier } from "standardwebhooks";
import { expect } from "vitest";
import { webhookSecret } from "../../local/keys.ts";
import type { StackOptions } from "../../local/stack.ts";
import { type Api, startApi, test } from "../support/api.ts";

type Received = { url: string; headers: IncomingHttpHeaders; body: string };
type OnFinished = (end: () => void | Promise<void>) => void;

/** Answers each request with the next of the statuses, the last one for ever; null never answers. */
async function receive(
  onTestFinished: OnFinished,
  statuses: (number | null)[],
  { create = createServer, location = "" }: { create?: (listener: RequestListener) => Server; location?: string } = {},
) {
  const received: Received[] = [];
  const server = create((request, response) => {
    let body = "";
    request.setEncoding("utf8").on("data", (text) => body += text).on("end", () => {
      received.push({ url: request.url!, headers: request.headers, body });
      const status = statuses[Math.min(received.length, statuses.length) - 1];
      if (status) response.writeHead(status, location ? { location } : {}).end();
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return { received, port: (server.address() as AddressInfo).port };
}

async function start(onTestFinished: OnFinished, options: Partial<StackOptions> = {}): Promise<Api> {
  const api = await startApi("with_example", { allowNet: ["127.0.0.1", "localhost"], ...options });
  onTestFinished(api.stop);
  return api;
}

async function backUp({ call }: Api, notify_url: string, version = "v1") {
  expect(await call("PUT", `/v1/plans/${version}`, { json: { tables: ["profiles"], notify_url } }))
    .toMatchObject({ status: 201, json: { notify_url } });
  const answer = await call("POST", "/v1/backups", { json: { version }, wait: 60 });
  expect(answer.json).toMatchObject({ status: "succeeded" });
  return answer.json;
}

const webhooks = ({ database: { sql } }: Api) =>
  sql`select attempts, last_error, delivered_at, gave_up_at from migration_guard.webhooks order by created_at`;

test("a message arrives signed, and again after a failure, under the same id", async ({ onTestFinished, skip }) => {
  if (spawnSync("openssl", ["version"]).status !== 0) return skip("openssl is not installed: apt-get install openssl");
  const api = await start(onTestFinished);
  const { received, port } = await receive(onTestFinished, [500, 200]);
  const job = await backUp(api, `http://127.0.0.1:${port}/hook?key=1`);
  await expect.poll(() => received.length, { timeout: 60_000 }).toBe(1);
  await expect.poll(() => webhooks(api), { timeout: 60_000 }).toMatchObject([{ last_error: "http_500" }]);

  await api.database.sql`update migration_guard.webhooks set next_attempt_at = now()`;
  await expect.poll(async () => {
    expect((await api.call("GET", "/v1/jobs")).status).toBe(200);
    return received.length;
  }, { timeout: 60_000 }).toBe(2);
  await expect.poll(() => webhooks(api), { timeout: 60_000 })
    .toMatchObject([{ attempts: 2, last_error: null, delivered_at: expect.any(Date) }]);

  const [first, second] = received as [Received, Received];
  expect(second.headers["webhook-id"]).toBe(first.headers["webhook-id"]);
  expect(second.body).toBe(first.body);
  for (const { url, headers, body } of [first, second]) {
    expect(url).toBe("/hook?key=1");
    const message = new Verifier(webhookSecret).verify(body, headers as Record<string, string>);
    expect(message).toMatchObject({
      type: "job.succeeded",
      data: { id: job.id, kind: "backup", version: "v1.0", actor: "default", error: null, path: `/v1/jobs/${job.id}` },
    });
    expect((await api.call("GET", (message as { data: { path: string } }).data.path)).json.id).toBe(job.id);
    expect(verifyByHand(headers, body)).toBe("genuine\n");
    expect(verifyByHand(headers, body.replace("succeeded", "failed"))).toBe("");
    expect(verifyByHand({ ...headers, "webhook-timestamp": "1" }, body)).toBe("");
  }
});

/** What the lines in the documentation print of a message. */
function verifyByHand(headers: IncomingHttpHeaders, body: string): string {
  const docs = readFileSync(join(import.meta.dirname, "..", "..", "docs", "webhooks.md"), "utf8");
  const folder = mkdtempSync(join(tmpdir(), "migration-guard-webhook-"));
  const file = join(folder, "body");
  writeFileSync(file, body);
  const { stdout } = spawnSync("bash", ["-c", /^```sh\n(.*?)^```/ms.exec(docs)![1]!], {
    encoding: "utf8",
    env: {
      PATH: process.env.PATH,
      SECRET: webhookSecret,
      BODY: file,
      ID: String(headers["webhook-id"]),
      TIMESTAMP: String(headers["webhook-timestamp"]),
      SIGNATURE: String(headers["webhook-signature"]),
    },
  });
  rmSync(folder, { recursive: true });
  return stdout;
}

test("a failure is made good by the function itself, without any request", async ({ onTestFinished }) => {
  const api = await start(onTestFinished);
  const { received, port } = await receive(onTestFinished, [503, 204]);
  await backUp(api, `http://127.0.0.1:${port}/`);
  await expect.poll(() => received.length, { timeout: 60_000 }).toBe(2);
});

test("a redirect is not followed, and 410 ends the attempts", async ({ onTestFinished }) => {
  const api = await start(onTestFinished);
  const elsewhere = await receive(onTestFinished, [200]);
  const { port } = await receive(onTestFinished, [307], { location: `http://127.0.0.1:${elsewhere.port}/` });
  const gone = await receive(onTestFinished, [410]);
  await backUp(api, `http://127.0.0.1:${port}/`);
  await expect.poll(() => webhooks(api), { timeout: 60_000 }).toMatchObject([{
    last_error: "http_307",
    gave_up_at: null,
  }]);
  expect(elsewhere.received).toEqual([]);
  await backUp(api, `http://127.0.0.1:${gone.port}/`, "v2");
  await expect.poll(async () => (await webhooks(api))[1], { timeout: 60_000 })
    .toMatchObject({ last_error: "http_410", gave_up_at: expect.any(Date) });
});

test("a receiver that never answers delays no job, and no message to another", async ({ onTestFinished }) => {
  const api = await start(onTestFinished);
  const hanging = await receive(onTestFinished, [null]);
  const other = await receive(onTestFinished, [200]);
  await backUp(api, `http://127.0.0.1:${hanging.port}/`);
  await expect.poll(() => hanging.received.length, { timeout: 60_000 }).toBe(1);
  await backUp(api, `http://127.0.0.1:${other.port}/`, "v2");
  await expect.poll(() => other.received.length, { timeout: 60_000 }).toBe(1);
  await expect.poll(async () => (await webhooks(api))[0], { timeout: 60_000 }).toMatchObject({ last_error: "timeout" });
});

test("with https the certificate must be one of the name", async ({ onTestFinished, skip }) => {
  if (spawnSync("openssl", ["version"]).status !== 0) return skip("openssl is not installed: apt-get install openssl");
  const folder = mkdtempSync(join(tmpdir(), "migration-guard-certificate-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const openssl = (...args: string[]) => expect(spawnSync("openssl", args, { cwd: folder }).status).toBe(0);
  const newKey = ["req", "-newkey", "rsa:2048", "-nodes"];
  openssl(...newKey, "-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt");
  const certificate = (name: string) => {
    writeFileSync(join(folder, "names"), `subjectAltName=DNS:${name}`);
    openssl(...newKey, "-subj", `/CN=${name}`, "-keyout", `${name}.key`, "-out", "request");
    const authority = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"];
    openssl("x509", "-req", "-in", "request", ...authority, "-days", "2", "-extfile", "names", "-out", `${name}.crt`);
    return { key: readFileSync(join(folder, `${name}.key`)), cert: readFileSync(join(folder, `${name}.crt`)) };
  };
  const [right, wrong] = [certificate("localhost"), certificate("other.example")];
  const api = await start(onTestFinished, { environment: { DENO_CERT: join(folder, "ca.crt") } });
  const create = (options: object) => (listener: RequestListener) => createEncryptedServer(options, listener);
  const good = await receive(onTestFinished, [200], { create: create(right) });
  const bad = await receive(onTestFinished, [200], { create: create(wrong) });
  await backUp(api, `https://localhost:${good.port}/`);
  await expect.poll(() => webhooks(api), { timeout: 60_000 }).toMatchObject([{ delivered_at: expect.any(Date) }]);
  await backUp(api, `https://localhost:${bad.port}/`, "v2");
  await expect.poll(async () => (await webhooks(api))[1], { timeout: 60_000 }).toMatchObject({
    last_error: "tls_failed",
  });
  expect([good.received.length, bad.received.length]).toEqual([1, 0]);
});

test("but for the local stack, nothing goes to an address that is not public", async ({ onTestFinished }) => {
  const api = await start(onTestFinished, { environment: { MIGRATION_GUARD_ALLOW_PRIVATE_WEBHOOKS: "false" } });
  const { received, port } = await receive(onTestFinished, [200]);
  const urls = [
    `http://127.0.0.1:${port}/`,
    `https://127.0.0.1:${port}/`,
    `https://localhost:${port}/`,
    "https://[::1]/",
  ];
  for (const notify_url of urls) {
    const { json } = await api.call("PUT", "/v1/plans/v1", { json: { tables: ["profiles"], notify_url } });
    expect(json, notify_url).toMatchObject({ status: 400, code: "invalid_plan", errors: [{ path: "notify_url" }] });
  }
  // Stored past the function, or when the name led elsewhere.
  const plan = { tables: ["profiles"], notify_url: `http://localhost:${port}/` };
  await api.database.sql`select migration_guard.put_plan('v1', ${api.database.sql.json(plan)}, 'test')`;
  expect((await api.call("POST", "/v1/backups", { json: { version: "v1" }, wait: 60 })).json)
    .toMatchObject({ status: "succeeded" });
  await expect.poll(() => webhooks(api), { timeout: 60_000 }).toMatchObject([{ last_error: "address_not_public" }]);
  expect(received).toEqual([]);
});

test("without a secret a plan with a notify_url is refused, one without is not", async ({ onTestFinished }) => {
  const api = await start(onTestFinished, { environment: { MIGRATION_GUARD_WEBHOOK_SECRET: "" } });
  const put = (notify_url: unknown) => api.call("PUT", "/v1/plans/v1", { json: { tables: ["profiles"], notify_url } });
  expect((await put("https://example.com/")).json).toMatchObject({ status: 409, code: "webhook_secret_missing" });
  expect((await put(7)).json).toMatchObject({ status: 400, code: "invalid_request" });
  expect((await put(null)).status).toBe(201);
});
