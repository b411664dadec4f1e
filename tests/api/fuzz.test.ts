import fc from "fast-check";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "vitest";
import { anonKey, publishableKeys, serviceRoleKey } from "../../local/keys.ts";
import { type Api, credentials, giveRoles, startApi, test as base } from "../support/api.ts";
import { examplePlan } from "../support/example.ts";
import { type Operation, readDocument } from "../support/fuzz/document.ts";
import { hostileText } from "../support/fuzz/hostile.ts";
import { hostileRequest } from "../support/fuzz/hostile-request.ts";
import { createSender, type Received, type Sent } from "../support/fuzz/send.ts";
import { tableRows } from "../support/table-rows.ts";

// A fixed one, so that what fails has a cause in the change at hand; others are for whoever looks for more.
const seed = Number(process.env.FAST_CHECK_SEED ?? 20261128);
const numRuns = Number(process.env.FUZZ_REQUESTS ?? 20_000);
const concurrency = 16;

/** What a request that is refused, or only reads, may write: the trail, and plans and tokens that were read. */
const written = /^(audit_\w+|changing_requests|refusal_counts|rollback_plans|cleanup_tokens|turns): /;

const who = {
  ...credentials,
  service_role: { authorization: `Bearer ${serviceRoleKey}` },
  nobody: {},
  stranger: { apikey: "sb_secret_unknown" },
  public: { apikey: publishableKeys.default },
  anon: { authorization: `Bearer ${anonKey}` },
  odd: { authorization: "Bearer \xe9.\xe9.\xe9", apikey: "\xe9" },
  long: { authorization: `Bearer ${"x".repeat(5000)}` },
} satisfies Record<string, Record<string, string>>;

const test = base.extend("fuzzed", { scope: "file" }, async ({}, { onCleanup }) => {
  let log = "";
  const api = await startApi("with_example", { onLog: (text) => void (log += text) });
  const sender = createSender(api.stack.edgeRuntime.url);
  onCleanup(async () => {
    sender.close();
    await api.stop();
  });
  await giveRoles(api);
  await api.call("PUT", "/v1/plans/v10", { json: examplePlan });
  const { json: job } = await api.call("POST", "/v1/backups", { json: { version: "v10" }, wait: 60 });
  expect(job.status).toBe("succeeded");
  const document = readDocument((await api.call("GET", "/openapi.json")).json);
  return { api, send: sender.send, jobId: job.id as string, log: () => log, ...document };
});

/** All that there is: rows, and the catalog with its privileges. */
async function everything({ database }: Api): Promise<string[]> {
  const sql = database.connect("supabase_admin");
  const rows: string[] = [];
  for (const schema of ["public", "migration_guard", "migration_backup_v10"]) {
    const lines = (await tableRows(sql, schema)).filter((line) => schema !== "migration_guard" || !written.test(line));
    rows.push(...lines.map((line) => `${schema}.${line}`));
  }
  const catalog = await sql<{ line: string }[]>`
    select format('namespace %s %s', nspname, nspacl) as line from pg_namespace where nspname !~ '^pg_(toast_)?temp_'
    union all select format('relation %s %s %s %s', oid::regclass, relkind, relowner, relacl) from pg_class
      where relnamespace not in (select oid from pg_namespace where nspname ~ '^pg_')
    union all select format('function %s %s %s %s', oid::regprocedure, md5(prosrc), proowner, proacl) from pg_proc where oid > 16383
    union all select format('type %s %s', oid::regtype, typacl) from pg_type where oid > 16383 and typnamespace not in (select oid from pg_namespace where nspname ~ '^pg_')
    union all select format('trigger %s %s %s', tgrelid::regclass, tgname, tgenabled) from pg_trigger
    union all select format('setting %s %s', setdatabase, setconfig) from pg_db_role_setting
    order by 1`;
  return [...rows, ...catalog.map(({ line }) => line)];
}

/** The operation whose path a request has, and the path without what a gateway adds. */
function operationOf(operations: Operation[], { method, path }: Sent): Operation | undefined {
  const { pathname } = new URL(`http://function${path}`);
  const own = pathname.replace(/^(\/functions\/v1)?\/migration-guard(?=\/|$)/, "");
  return operations.find((operation) =>
    operation.method === (method === "HEAD" ? "GET" : method) &&
    new RegExp(`^${operation.path.replaceAll(/\{\w+\}/g, "[^/]+")}$`).test(own)
  );
}

const isReading = (method: string, path: string) =>
  /^(GET|HEAD|OPTIONS)$/.test(method) || /\/(derive|preflight)$/.test(path);

/** Does something with everything, some at a time, until it throws. */
async function inTurns<T>(
  all: T[],
  ask: (one: T, index: number) => Promise<void>,
  atOnce = concurrency,
): Promise<void> {
  let next = 0;
  await Promise.all(Array.from({ length: atOnce }, async () => {
    while (next < all.length) {
      const index = next++;
      try {
        await ask(all[index]!, index);
      } catch (error) {
        next = all.length;
        throw error;
      }
    }
  }));
}

const shown = ({ body, headers, ...sent }: Sent, index: number) =>
  `request ${index} of seed ${seed}: ${
    JSON.stringify({ ...sent, headers, body: body && Buffer.from(body).toString().slice(0, 2000) })
  }`;

test("no hostile request has an answer that is not documented, or changes anything", {
  timeout: numRuns * 200 + 120_000,
}, async ({ fuzzed: { api, send, operations, problemFault, jobId, log } }) => {
  console.log(`${numRuns} requests: FUZZ_REQUESTS=${numRuns} FAST_CHECK_SEED=${seed}`);
  const before = await everything(api);
  const statuses: Record<string, number> = {};
  const faults: string[] = [];
  const requests = fc.sample(hostileRequest(operations, who, { jobId }), { seed, numRuns });
  await inTurns(requests, async (sent, index) => {
    const { status, contentType, cacheControl, text } = await send(sent);
    statuses[status] = (statuses[status] ?? 0) + 1;
    const told = () => `${shown(sent, index)}\n${status} ${text.slice(0, 1000)}`;
    const operation = operationOf(operations, sent);
    let fault: string | null = null;
    if (status >= 500) fault = "a fault of the server";
    else if (cacheControl !== "no-store") fault = `cache-control: ${cacheControl}`;
    else if (sent.method === "HEAD") fault = text === "" ? null : "a body";
    else if (status === 429 || status === 404 || status === 405) {
      fault = operation && status === 405 ? "the method is documented" : problemFault(status, contentType, text);
    } else fault = (operation?.fault ?? problemFault)(status, contentType, text);
    if (status < 400 && !isReading(sent.method, operation?.path ?? "")) fault ??= "it was done";
    if (/sb_secret_\w{9}|eyJ\w{20}|PL\/pgSQL|node_modules/.test(text)) fault ??= "it says too much";
    if (fault) faults.push(`${fault}: ${told()}`);
    if (faults.length === 20) expect.fail(faults.join("\n\n"));
  });
  expect(faults.join("\n\n")).toBe("");
  console.log(Object.entries(statuses).map(([status, count]) => `${status}: ${count}`).join(", "));
  expect(await everything(api)).toEqual(before);
  expect(log().split("\n").filter((line) => /"event":"(request_failed|rpc_failed)"/.test(line))).toEqual([]);
  // What was kept out at the door alone would tell little.
  for (const status of [200, 400, 403, 404, 409]) expect(statuses[status]).toBeGreaterThan(numRuns / 400);
});

test("a body of nearly a mebibyte, however it is made, is answered", async ({ fuzzed: { api, send } }) => {
  const before = await everything(api);
  const size = 1024 * 1024 - 200;
  const fill = (open: string, inner: string, close: string) =>
    open + inner.repeat(Math.floor((size - open.length - close.length) / inner.length)) + close;
  const bodies = [
    "[".repeat(size / 2) + "]".repeat(size / 2),
    '{"tables":' + "[".repeat(size / 2 - 10) + "]".repeat(size / 2 - 10) + "}",
    '{"a":'.repeat(size / 6) + "1" + "}".repeat(size / 6),
    fill('{"tables":["', "\\u0000", '"]}'),
    fill('{"title":"', "\\ud800", '"}'),
    fill("{", '"a":1,', '"b":1}'),
    fill('{"tables":[', "1,", "1]}"),
    fill("", "9", ""),
    fill("", " ", ""),
    fill('{"retention_days":1', "0", "}"),
  ];
  const sql = [
    fill("select ", "(", ""),
    fill("select 1", "+1", ""),
    fill("", ";", ""),
    fill("select '", "x", ""),
    fill("", "drop table t;", ""),
    fill("/*", "/*", ""),
  ];
  const headers = { ...credentials.operator };
  const sent: Sent[] = [
    ...bodies.map((body) => ({
      method: "PUT",
      path: "/v1/plans/v99",
      headers: { ...headers, "content-type": "application/json" },
      body,
    })),
    ...sql.map((body) => ({
      method: "POST",
      path: "/v1/plans/v10/derive",
      headers: { ...headers, "content-type": "application/sql" },
      body,
    })),
  ];
  for (const one of sent) {
    const told = `${one.method} ${one.path} ${one.body!.slice(0, 30)}`;
    const { status, contentType, text }: Received = await send(one);
    expect([200, 400, 413], `${told}: ${text.slice(0, 300)}`).toContain(status);
    if (one.method === "PUT") expect(status, told).toBe(400);
    if (status !== 200) expect(contentType, told).toBe("application/problem+json");
    // What is wrong is told in less than what was sent.
    expect(text.length, told).toBeLessThan(4 * size);
  }
  expect(await everything(api)).toEqual(before);
});

test("a strange text is stored as it is, or refused", async ({ fuzzed: { api } }) => {
  const before = await everything(api);
  // These change something, and the changes of one key take turns: a busy machine may not be done with all in time.
  const ask = async (...request: Parameters<Api["call"]>) => {
    for (let attempt = 1;; attempt++) {
      const answer = await api.call(...request);
      // What had no answer may have been done nevertheless.
      if (attempt > 1 && request[0] === "DELETE" && answer.status === 404) return { ...answer, status: 204 };
      if (answer.status !== 503 || attempt === 10) return answer;
      await delay(100 * attempt);
    }
  };
  const texts = fc.sample(hostileText, { seed, numRuns: Math.min(numRuns, 100) });
  const isStorable = (text: string) => !text.includes("\0") && text.isWellFormed();
  await inTurns(texts, async (text, index) => {
    const version = `v${90_000 + index}`;
    const json = { tables: ["profiles"], title: text, description: text };
    const plan = await ask("PUT", `/v1/plans/${version}`, { credentials: credentials.operator, json });
    const told = `${JSON.stringify(text)} of seed ${seed}: ${plan.text}`;
    if (!isStorable(text) || text.length > 200) {
      return expect(plan.json, told).toMatchObject({ code: "invalid_request" });
    }
    expect(plan.json, told).toMatchObject({ title: text, description: text });
    expect((await ask("GET", `/v1/plans/${version}`)).json, told).toEqual(plan.json);
    expect((await ask("DELETE", `/v1/plans/${version}`)).status, told).toBe(204);
  }, 4);
  const names = new Set(texts.filter((text) => isStorable(text) && !/^\.{0,2}$/.test(text) && text.length <= 200));
  await inTurns([...names], async (name) => {
    const path = `/v1/keys/${encodeURIComponent(name)}`;
    const told = JSON.stringify(name);
    const { status, json } = await ask("PUT", path, { json: { role: "viewer" } });
    if (!/^(?!sb_|eyJ)[a-z_][a-z0-9_-]{0,63}$/.test(name)) return expect(status, told).toBe(400);
    expect(json, told).toMatchObject({ name, role: "viewer" });
    expect((await ask("DELETE", path)).status, told).toBe(204);
  }, 4);
  expect(await everything(api)).toEqual(before);
}, 600_000);
