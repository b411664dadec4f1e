import { expect } from "vitest";
import { backUp } from "../support/backup.ts";
import { test } from "../support/database.ts";
import { examplePlan } from "../support/example.ts";

type Parameter = { name: string; type: string; has_default: boolean };

/** What a caller over REST may send in the place of an argument. */
const hostile: Record<string, (string | null)[]> = {
  text: [null, "", "x", "x".repeat(10_000), "'", "\u200b"],
  "text[]": [null, "{}", "{NULL}", "{x,NULL}"],
  jsonb: [null, ...[
    "null",
    "{}",
    "[]",
    "[1]",
    "[null]",
    "[{}]",
    "[[]]",
    '{"x":null}',
    '{"data":[]}',
    '"x"',
    "1",
    "true",
  ]],
  integer: [null, "-2147483648", "0", "2147483647"],
  bigint: [null, "-1", "9223372036854775807"],
  boolean: [null],
  uuid: [null, "00000000-0000-4000-8000-000000000000"],
  "timestamp with time zone": [null, "infinity", "4713-01-01 BC"],
};

/** Arguments that are right. */
const right: Record<string, string> = {
  ...{ version: "v10", actor: "alice", plan: JSON.stringify(examplePlan), options: "{}", plan_hash: "0".repeat(64) },
  ...{
    name: "night_shift",
    role: "viewer",
    names: "{default}",
    note: "x",
    schema: "public",
    touches: "[]",
    warnings: "[]",
  },
  ...{ id: "00000000-0000-4000-8000-000000000000", confirm: "migration_backup_v10", token: "x", sample_keys: "1" },
  ...{
    include_values: "false",
    rehearse: "true",
    max_webhooks: "1",
    attempt: "1",
    status: "401",
    times: "1",
    action: "request",
  },
  ...{ target: "supabase", recipients: "{}", stored_only: "true", export: "v10.0-20260101T000000Z-00000000" },
};

test("no argument that REST takes leads to an error that is not the product's", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  await sql`select migration_guard_api.create_export('v10', 'supabase', '{}', 'alice')`;
  const [made] = await sql<[{ id: string }]>`select id from migration_guard.exports`;
  const functions = await sql<{ name: string; parameters: Parameter[] }[]>`
    select p.proname as name, jsonb_agg(jsonb_build_object('name', a.name, 'type', format_type(a.type, null),
      'has_default', a.position > p.pronargs - p.pronargdefaults) order by a.position) as parameters
    from pg_proc as p
    cross join lateral unnest(p.proargtypes::oid[], p.proargnames[:p.pronargs]) with ordinality as a (type, name, position)
    where p.pronamespace = 'migration_guard_api'::regnamespace and p.proname <> all ('{record_refusal,count_refusals}')
    group by p.oid, p.proname order by p.proname`;
  expect(functions.length).toBeGreaterThan(20);
  const faults: string[] = [];
  for (const { name, parameters } of functions) {
    for (const tried of parameters) {
      for (const value of hostile[tried.type]!) {
        const given = parameters.filter((parameter) => parameter === tried || !parameter.has_default);
        const list = given.map(({ name, type }, i) => `"${name}" => $${i + 1}::text::${type}`).join(", ");
        const values = given.map((parameter) => {
          if (parameter === tried) return value;
          return parameter.name === "id" && /export/.test(name) ? made.id : right[parameter.name]!;
        });
        const call = `${name}(${tried.name} => ${value?.slice(0, 40) ?? null})`;
        await sql.begin(async (transaction) => {
          const state = await transaction.unsafe(`select * from migration_guard_api.${name}(${list})`, values).then(
            () => "MG",
            (error) => error.code,
          );
          if (!state.startsWith("MG")) faults.push(`${call}: ${state}`);
          throw new Error("undone");
        }).catch((error) => {
          if (error.message !== "undone") throw error;
        });
      }
    }
  }
  expect(faults).toEqual([]);
}, 600_000);
