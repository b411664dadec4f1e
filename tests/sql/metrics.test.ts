import { expect } from "vitest";
import { test } from "../support/database.ts";

test("a duration that is a bucket's bound belongs to the bucket, and jobs that never ran to none", async ({ database: { sql } }) => {
  await sql`
    insert into migration_guard.jobs (kind, version, status, actor, error, created_at, started_at, finished_at)
    select 'diff', 'v1.0', 'failed', 'test', '{}', t.at, t.at + interval '5 s', t.at + interval '5 s' + make_interval(secs => ran)
    from (values (0.1), (0.100001), (300), (100000)) as d (ran), (select now() - interval '2 days' as at) as t`;
  await sql`
    insert into migration_guard.jobs (kind, version, status, actor, error, finished_at)
    values ('diff', 'v1.0', 'cancelled', 'test', '{}', now())`;
  const lines = await sql<{ name: string; le: string; value: number }[]>`
    select replace(metric, 'migration_guard_job_', '') as name, labels ->> 'le' as le, value
    from migration_guard.metrics()
    where metric like '%\_seconds\_%' and labels ->> 'kind' = 'diff' and coalesce(labels ->> 'status', 'failed') = 'failed'
    order by 1, (labels ->> 'le')::float8`;
  const of = (name: string) =>
    lines.filter((line) => line.name === name).map(({ le, value }) => le ? `${le} ${value}` : value);
  expect(of("duration_seconds_bucket")).toEqual(
    ["0.1 1", "0.5 2", "1 2", "5 2", "15 2", "60 2", "300 3", "900 3", "3600 3", "14400 3", "+Inf 4"],
  );
  expect(of("duration_seconds_count")).toEqual([4]);
  expect(of("duration_seconds_sum")[0]).toBeCloseTo(100300.200001, 5);
  expect(of("queue_seconds_bucket").slice(2, 5)).toEqual(["1 0", "5 4", "15 4"]);
  expect(of("queue_seconds_sum")).toEqual([20]);
  const [cancelled] = await sql`
    select sum(value) as value from migration_guard.metrics()
    where metric like '%duration_seconds_count' and labels ->> 'status' = 'cancelled'`;
  expect(cancelled).toEqual({ value: 0 });
});

test("the age of the oldest queued job is that of no other", async ({ database: { sql } }) => {
  const age = async () =>
    (await sql<[{ value: number }]>`
      select value from migration_guard.metrics() where metric = 'migration_guard_oldest_queued_job_age_seconds'`)[0]
      .value;
  expect(await age()).toBe(0);
  await sql`
    insert into migration_guard.jobs (kind, version, status, actor, created_at, started_at)
    values ('verify', 'v1.0', 'running', 'test', now() - interval '1 day', now()),
      ('verify', 'v1.0', 'queued', 'test', now() - interval '1 hour', null),
      ('verify', 'v1.0', 'queued', 'test', now() - interval '2 hours', null)`;
  expect(await age()).toBeGreaterThanOrEqual(7200);
  expect(await age()).toBeLessThan(86_400);
});

test("the figures are read from an index alone, however many jobs there are", async ({ database }) => {
  const { sql } = database;
  // What is not flushed yet does not count as visible to everybody.
  await sql`set synchronous_commit = on`;
  await sql`
    insert into migration_guard.jobs (kind, version, status, actor, result, started_at, finished_at)
    select 'verify', 'v1.0', 'succeeded', 'test', jsonb_build_object('text', repeat('x', 1000)), now(), now()
    from generate_series(1, 20000)`;
  await sql`vacuum analyze migration_guard.jobs`.simple();
  const admin = database.connect("supabase_admin");
  const [{ source }] = await sql<[{ source: string }]>`
    select prosrc as source from pg_proc where oid = 'migration_guard.job_metrics'::regproc`;
  const plan = (await admin.unsafe(`explain ${source}`)).map((row) => row["QUERY PLAN"] as string);
  const scans = plan.flatMap((line) => /(\w+ \w+(?: \w+)?)(?: using \w+)? on jobs\b/.exec(line)?.[1] ?? []);
  expect(scans.toSorted()).toEqual(["Index Only Scan", "Index Scan"]);
});
