import parsePrometheus from "parse-prometheus-text-format";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { publishableKeys, serviceRoleKey } from "../../local/keys.ts";
import { metrics } from "../../supabase/functions/migration-guard/metrics.ts";
import { Job } from "../../supabase/functions/migration-guard/schemas.ts";
import { type Api, test } from "../support/api.ts";
import { examplePlan } from "../support/example.ts";

type Family = {
  name: string;
  help: string;
  type: string;
  metrics: { value: string; labels?: Record<string, string> }[];
};

async function scrape({ call }: Pick<Api, "call">) {
  const answer = await call("GET", "/metrics");
  expect(answer.status).toBe(200);
  const families = parsePrometheus(answer.text) as Family[];
  // The parser makes one of a histogram's series, unless it is not told that they are a histogram's.
  const series = new Map(
    (parsePrometheus(answer.text.replace(/^#.*\n/gm, "")) as Family[]).map(({ name, metrics }) => [name, metrics]),
  );
  const all = (name: string) => series.get(`migration_guard_${name}`) ?? [];
  const value = (name: string, labels: Record<string, string> = {}) => {
    const found = all(name).filter((metric) =>
      Object.entries(labels).every(([label, value]) => metric.labels?.[label] === value)
    );
    expect(found.length, name).toBeLessThan(2);
    return found[0] && Number(found[0].value);
  };
  return { families, all, value };
}

const docs = readFileSync(join(import.meta.dirname, "..", "..", "docs", "metrics.md"), "utf8");

test("the documentation, the route and the database know the same metrics, types and labels", async ({ freshApi: api }) => {
  await api.call("PUT", "/v1/plans/v10", { json: examplePlan });
  await api.call("POST", "/v1/backups", { json: { version: "v10" }, wait: 60 });
  await api.call("POST", "/v1/backups/v10/verify", { wait: 60 });
  await api.call("POST", "/v1/backups/v10/confirm", { json: { note: "done" } });
  const { families, all } = await scrape(api);
  const documented = [...docs.matchAll(/^\| `(migration_guard_\w+)` \| (\w+) \|([^|]*)\|/gm)]
    .map(([, name, type, labels]) => [name, type, labels!.match(/\w+/g)?.sort() ?? []]);
  const answered = families.map(({ name, type, help }) => {
    const [first] = all(name.replace("migration_guard_", "") + (type === "HISTOGRAM" ? "_count" : ""));
    expect(help).toBe(metrics[name as keyof typeof metrics].help);
    return [name, type.toLowerCase(), Object.keys(first!.labels ?? {}).sort()];
  });
  expect(answered).toEqual(documented);
  expect(answered.map(([name]) => name)).toEqual(Object.keys(metrics));
  // What the alert rules ask for is there.
  const asked = [...new Set(docs.match(/migration_guard_\w+/g))].map((name) =>
    name.replace(/_(bucket|count|sum)$/, "")
  );
  expect(asked.filter((name) => !(name in metrics))).toEqual([]);
});

test("the figures follow a backup from the plan to the cleanup", async ({ freshApi: api }) => {
  const { call, database: { sql } } = api;
  const empty = await scrape(api);
  for (const kind of Job.shape.kind.options) {
    for (const status of Job.shape.status.options) expect(empty.value("jobs", { kind, status })).toBe(0);
    expect(empty.value("job_duration_seconds_count", { kind, status: "failed" })).toBe(0);
  }
  expect(empty.all("backup_age_seconds")).toEqual([]);
  expect(empty.value("copied_bytes_total")).toBe(0);

  await call("PUT", "/v1/plans/v10", { json: { ...examplePlan, retention_days: 7 } });
  await call("POST", "/v1/backups", { json: { version: "v10" }, wait: 60 });
  const taken = await scrape(api);
  const [{ bytes }] = await sql<[{ bytes: number }]>`
    select sum(backup_bytes)::int as bytes from migration_backup_v10.tables_backup`;
  expect(bytes).toBeGreaterThan(0);
  expect(taken.value("jobs", { kind: "backup", status: "succeeded" })).toBe(1);
  expect(taken.value("backups", { state: "fresh" })).toBe(1);
  expect(taken.value("backup_age_seconds", { version: "v10.0", state: "fresh" })).toBeGreaterThan(0);
  expect(taken.value("backup_size_bytes", { version: "v10.0" })).toBe(bytes);
  expect(taken.value("copied_bytes_total")).toBe(bytes);
  expect(taken.value("backup_intact")).toBeUndefined();
  expect(taken.value("backup_verified_timestamp_seconds")).toBeUndefined();
  expect(taken.value("backup_retention_remaining_days")).toBeUndefined();

  await call("POST", "/v1/backups/v10/verify", { wait: 60 });
  await call("POST", "/v1/backups/v10/confirm", { json: { note: "done" } });
  const confirmed = await scrape(api);
  expect(confirmed.value("backup_intact")).toBe(1);
  const [{ verified }] = await sql<[{ verified: number }]>`
    select extract(epoch from verified_at)::float8 as verified from migration_guard.backups`;
  expect(confirmed.value("backup_verified_timestamp_seconds")).toBeCloseTo(verified, 3);
  expect(confirmed.value("backups", { state: "migrated" })).toBe(1);
  expect(confirmed.value("backup_retention_remaining_days")).toBeCloseTo(7, 1);

  await sql`update migration_guard.backups set confirmed_at = confirmed_at - interval '8 days'`;
  expect((await scrape(api)).value("backup_retention_remaining_days")).toBeCloseTo(-1, 1);
  const { json: { token } } = await call("GET", "/v1/backups/v10/cleanup-plan");
  const removed = await call("DELETE", "/v1/backups/v10", {
    json: { confirm: "migration_backup_v10", token },
    wait: 60,
  });
  expect(removed.json.status).toBe("succeeded");
  const gone = await scrape(api);
  expect(gone.value("jobs", { kind: "cleanup", status: "succeeded" })).toBe(1);
  expect(gone.all("backup_size_bytes")).toEqual([]);
  expect(gone.value("copied_bytes_total")).toBe(bytes);
});

test("a key is wanted, a service_role token does as well, and HEAD says what GET would", async ({ api }) => {
  const refused = await api.call("GET", "/metrics", { credentials: {} });
  expect(refused.json.code).toBe("missing_credentials");
  const publishable = await api.call("GET", "/metrics", { credentials: { apikey: publishableKeys.default } });
  expect(publishable.json.code).toBe("service_role_required");
  const credentials = { authorization: `Bearer ${serviceRoleKey}` };
  const get = await api.call("GET", "/metrics", { credentials });
  expect(get.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  const head = await api.call("HEAD", "/metrics", { credentials });
  expect([head.status, head.text, head.headers.get("content-type")]).toEqual([
    200,
    "",
    get.headers.get("content-type"),
  ]);
});

const promtool = spawnSync("promtool", ["--version"]).status === 0;
test("promtool has nothing to say but that days are no base unit", async ({ api, skip }) => {
  skip(!promtool, "promtool is not installed (Debian's package prometheus).");
  const { text } = await api.call("GET", "/metrics");
  const { stdout, stderr } = spawnSync("promtool", ["check", "metrics"], { input: text, encoding: "utf8" });
  const said = (stdout + stderr).split("\n").filter(Boolean);
  expect(said.filter((line) => !line.includes("retention_remaining_days"))).toEqual([]);
});
