import type postgres from "postgres";
import { expect } from "vitest";
import { backUp, lastJob, tryBackUp, verify, work } from "../support/backup.ts";
import { test } from "../support/database.ts";

type Webhook = {
  id: string;
  job_id: string;
  url: string;
  attempts: number;
  next_attempt_at: Date;
  delivered_at: Date | null;
  gave_up_at: Date | null;
  last_error: string | null;
};

const plan = { tables: ["profiles"], notify_url: "https://example.com/hook?key=1" };
const webhooks = (sql: postgres.Sql) => sql<Webhook[]>`select * from migration_guard.webhooks order by created_at`;
const take = (sql: postgres.Sql, most = 10) =>
  sql<{ id: string; url: string; attempt: number; unix_time: string; payload: string }[]>`
    select * from migration_guard_api.take_webhooks(${most})`;
const record = async (
  sql: postgres.Sql,
  id: string,
  attempt: number,
  outcome: string | number,
): Promise<number | null> => {
  const [row] = await sql<[{ seconds: number | null }]>`
    select migration_guard_api.record_webhook(${id}, ${attempt},
      ${typeof outcome === "number" ? outcome : null}, ${typeof outcome === "string" ? outcome : null}) as seconds`;
  return row.seconds;
};
const makeDue = (sql: postgres.Sql) =>
  sql`update migration_guard.webhooks set next_attempt_at = now() where delivered_at is null`;

const accepted = [
  "https://example.com",
  "https://example.com/",
  "https://example.com:8443/a/b?c=d&e=%20",
  "https://example.com?a",
  "https://192.0.2.1/a",
  "https://[2001:db8::1]:443/a",
  "http://localhost:8000/a",
  "http://127.0.0.1/a",
  "http://[::1]:1/a",
  `https://example.com/${"a".repeat(1980)}`,
];

test("a plan takes an https URL as its notify_url, and http on the machine itself, and tells it again", async ({ example: { sql } }) => {
  for (const notify_url of accepted) {
    await sql`select migration_guard.put_plan('v1', ${sql.json({ ...plan, notify_url })}, 'test')`;
    expect(await sql`select notify_url from migration_guard_api.get_plan('v1')`).toEqual([{ notify_url }]);
  }
});

const refused = [
  "http://example.com/",
  "http://127.0.0.1.example.com/",
  "http://localhost@example.com/",
  "ftp://example.com/",
  "https://user:password@example.com/",
  "https://user@example.com/",
  "https://example.com/#there",
  "https://example.com\\@127.0.0.1/",
  "https://example.com/a b",
  "https://exämple.com/",
  "https://example.com/\r\nhost: other",
  "https://example.com/a\n",
  "https:///a",
  "//example.com/",
  "",
  " https://example.com/",
  `https://example.com/${"a".repeat(1981)}`,
  7,
  ["https://example.com/"],
];

test("a plan refuses any other notify_url: with a user, a fragment, another scheme, or beyond ASCII", async ({ example: { sql } }) => {
  for (const notify_url of refused) {
    const document = sql.json({ ...plan, notify_url });
    await expect(sql`select migration_guard.put_plan('v1', ${document}, 'test')`, String(notify_url)).rejects
      .toMatchObject({ code: "MG002", message: expect.stringContaining("notify_url") });
  }
});

test("each job that ends leaves one message, with what became of it and no value of a row", async ({ example: { sql } }) => {
  await backUp(sql, "v1", plan);
  await sql`delete from migration_backup_v1.profiles_backup`;
  await verify(sql, "v1");
  await sql`select migration_guard.enqueue('cleanup', 'v1', 'alice', '{}', null)`;
  await work(sql);
  const failed = await lastJob(sql);
  expect(failed.status).toBe("failed");

  const taken = await take(sql);
  expect(new Set(taken.map(({ id }) => id)).size).toBe(3);
  for (const { id, url, attempt, unix_time } of taken) {
    expect(id).toMatch(/^msg_[0-9a-f]{32}$/);
    expect({ url, attempt }).toEqual({ url: plan.notify_url, attempt: 1 });
    const [now] = await sql`select extract(epoch from now()) as seconds`;
    expect(Math.abs(Number(unix_time) - Number(now!.seconds))).toBeLessThan(60);
  }
  const payloads = taken.map(({ payload }) => JSON.parse(payload));
  const byKind = Object.fromEntries(payloads.map((payload) => [payload.data.kind, payload]));
  const succeeded = { status: "succeeded", version: "v1.0", actor: "test", error: null };
  expect(byKind).toMatchObject({
    backup: { type: "job.succeeded", data: succeeded },
    verify: { type: "job.succeeded", data: succeeded },
    cleanup: { type: "job.failed", data: { id: failed.id, actor: "alice", path: `/v1/jobs/${failed.id}` } },
  });
  expect(byKind.cleanup.data.error).toEqual({ code: failed.error!.code, message: failed.error!.message });
  for (const { timestamp, data } of payloads) {
    expect(timestamp).toBe(data.finished_at);
    expect(Object.keys(data).sort()).toEqual(
      "actor created_at error finished_at id kind path rehearse started_at status version".split(" "),
    );
  }
});

test("a queued job that is cancelled leaves its message, too", async ({ example: { sql } }) => {
  await sql`select migration_guard.put_plan('v1', ${sql.json(plan)}, 'test')`;
  await sql`select migration_guard.enqueue_backup('v1', 'test')`;
  await sql`update migration_guard.jobs set status = 'cancelled', finished_at = now(), error = '{"code": "cancelled", "message": "as asked"}'`;
  const [taken] = await take(sql);
  expect(JSON.parse(taken!.payload)).toMatchObject({
    type: "job.cancelled",
    data: { error: { code: "cancelled" }, started_at: null },
  });
});

test("a plan without notify_url leaves nothing, and that of a plan may change while there is a backup", async ({ example: { sql } }) => {
  await backUp(sql, "v1", { tables: ["profiles"] });
  expect(await webhooks(sql)).toEqual([]);
  await sql`select migration_guard.put_plan('v1', ${sql.json(plan)}, 'test')`;
  await verify(sql, "v1");
  await sql`select migration_guard.put_plan('v1', ${
    sql.json({ ...plan, notify_url: "https://example.com/b" })
  }, 'test')`;
  await verify(sql, "v1");
  await sql`select migration_guard.put_plan('v1', ${sql.json({ ...plan, notify_url: null })}, 'test')`;
  await verify(sql, "v1");
  expect((await webhooks(sql)).map(({ url }) => url)).toEqual([plan.notify_url, "https://example.com/b"]);
});

test("a message goes to the URL that the plan had when its job was asked for", async ({ example: { sql } }) => {
  const put = (notify_url: string | null) =>
    sql`select migration_guard.put_plan('v1', ${sql.json({ ...plan, notify_url })}, 'test')`;
  await put("https://example.com/asked");
  await sql`select migration_guard.enqueue_backup('v1', 'test')`;
  await put("https://example.com/later");
  await work(sql);
  await sql`select migration_guard.enqueue_verification('v1', 'test')`;
  await put(null);
  await work(sql);
  expect((await webhooks(sql)).map(({ url }) => url)).toEqual([
    "https://example.com/asked",
    "https://example.com/later",
  ]);
});

test("where the plan is gone, the backup's tells where to", async ({ example: { sql } }) => {
  await backUp(sql, "v1", plan);
  await sql`delete from migration_guard.plans`;
  await verify(sql, "v1");
  expect((await webhooks(sql)).map(({ url }) => url)).toEqual([plan.notify_url, plan.notify_url]);
});

test("a job succeeds even where its message cannot be left", async ({ example: { sql } }) => {
  await sql`alter table migration_guard.webhooks add constraint nothing check (false)`;
  expect(await tryBackUp(sql, "v1", plan)).toMatchObject({ status: "succeeded", error: null });
  expect(await webhooks(sql)).toEqual([]);
});

test("two senders at once never take the same message", async ({ example }) => {
  const { sql } = example;
  await backUp(sql, "v1", plan);
  for (let i = 0; i < 5; i++) await verify(sql, "v1");
  const other = example.connect();
  const first = await other.begin(async (held) => {
    const mine = await take(held as unknown as postgres.Sql, 4);
    const theirs = await take(sql);
    return [mine, theirs];
  });
  const ids = first.flat().map(({ id }) => id);
  expect([first[0]!.length, first[1]!.length, new Set(ids).size]).toEqual([4, 2, 6]);
  expect(await take(sql)).toEqual([]);
});

test("a message that fails is due again later and later, under the same id, and is given up after the ninth attempt", async ({ example: { sql } }) => {
  await backUp(sql, "v1", plan);
  const pauses: (number | null)[] = [];
  const { id } = (await webhooks(sql))[0]!;
  for (let attempt = 1; attempt <= 9; attempt++) {
    await makeDue(sql);
    expect(await take(sql)).toMatchObject([{ id, attempt }]);
    pauses.push(await record(sql, id, attempt, attempt === 9 ? "timeout" : 500));
    expect(await webhooks(sql)).toMatchObject([{
      last_error: attempt === 9 ? "timeout" : "http_500",
      delivered_at: null,
    }]);
  }
  const least = [10, 60, 300, 1800, 7200, 21_600, 43_200, 86_400];
  expect(pauses.pop()).toBeNull();
  pauses.forEach((pause, i) => {
    expect(pause).toBeGreaterThanOrEqual(least[i]!);
    expect(pause).toBeLessThanOrEqual(least[i]! * 1.2 + 1);
  });
  expect((await webhooks(sql))[0]!.gave_up_at).not.toBeNull();
  await makeDue(sql);
  expect(await take(sql)).toEqual([]);
});

test("a message that was delivered, or whose receiver is gone, is not sent again", async ({ example: { sql } }) => {
  await backUp(sql, "v1", plan);
  await verify(sql, "v1");
  const [first, second] = await take(sql);
  expect(await record(sql, first!.id, 1, 204)).toBeNull();
  expect(await record(sql, second!.id, 1, 410)).toBeNull();
  await makeDue(sql);
  expect(await take(sql)).toEqual([]);
  const byId = Object.fromEntries((await webhooks(sql)).map((webhook) => [webhook.id, webhook]));
  expect(byId[first!.id]).toMatchObject({ gave_up_at: null, last_error: null, delivered_at: expect.any(Date) });
  expect(byId[second!.id]).toMatchObject({ gave_up_at: expect.any(Date), last_error: "http_410", delivered_at: null });
});

test("what a lost sender took is due again, and given up where it was the last attempt", async ({ example: { sql } }) => {
  await backUp(sql, "v1", plan);
  expect(await take(sql)).toHaveLength(1);
  expect(await take(sql)).toEqual([]);
  for (let attempt = 2; attempt <= 9; attempt++) {
    await makeDue(sql);
    expect(await take(sql)).toMatchObject([{ attempt }]);
  }
  await makeDue(sql);
  expect(await take(sql)).toEqual([]);
  expect(await webhooks(sql)).toMatchObject([{ gave_up_at: expect.any(Date), last_error: "sender_lost" }]);
});

test("an attempt that ends late tells of a success, and of no failure", async ({ example: { sql } }) => {
  await backUp(sql, "v1", plan);
  const { id } = (await take(sql))[0]!;
  await makeDue(sql);
  await take(sql);
  expect(await record(sql, id, 1, 500)).toBeNull();
  expect(await webhooks(sql)).toMatchObject([{ last_error: null, gave_up_at: null }]);
  await record(sql, id, 1, 200);
  expect(await webhooks(sql)).toMatchObject([{ delivered_at: expect.any(Date) }]);
});

test("what was delivered or given up is kept for 30 days", async ({ example: { sql } }) => {
  await backUp(sql, "v1", plan);
  const { id } = (await take(sql))[0]!;
  await record(sql, id, 1, 200);
  await sql`update migration_guard.webhooks set delivered_at = now() - interval '29 days'`;
  await take(sql);
  expect(await webhooks(sql)).toHaveLength(1);
  await sql`update migration_guard.webhooks set delivered_at = now() - interval '31 days'`;
  await take(sql);
  expect(await webhooks(sql)).toEqual([]);
});

test.for<[number | null, string | null]>([[null, null], [200, "timeout"], [99, null], [null, "No such thing: x"]])(
  "an outcome of status %s and failure %s is refused",
  async ([status, failure], { database: { sql } }) => {
    await expect(sql`select migration_guard_api.record_webhook('msg_1', 1, ${status}, ${failure})`).rejects
      .toMatchObject({ code: "MG003" });
  },
);
