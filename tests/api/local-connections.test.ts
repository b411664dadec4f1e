import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { connectLite } from "../../local/connect-lite.ts";
import { test, type TestDatabase } from "../support/database.ts";

/** Runs a query as lite does: on a connection that is lent for it. */
function queries({ port, name }: TestDatabase) {
  const { driver } = connectLite({ user: "postgres", port, database: name });
  const query = async (text: string, values: unknown[] = []) => {
    const lent = await driver.reserve();
    try {
      return (await lent.unsafe(text, values as never[]))[0];
    } finally {
      lent.release();
    }
  };
  return { driver, query };
}

test("the local REST reads and writes arrays", async ({ database }) => {
  const { driver, query } = queries(database);
  const read = await query(`
    select '{a,"b c",null,"q\\"\\\\"}'::text[] as texts, '{{1,2},{3,4}}'::int[] as ints, '{t,f}'::boolean[] as booleans,
      array['{"a": 1}'::jsonb] as documents, '{}'::uuid[] as uuids, '{1,9007199254740993}'::bigint[] as bigints`);
  expect(read).toEqual({
    texts: ["a", "b c", null, 'q"\\'],
    ints: [[1, 2], [3, 4]],
    booleans: [true, false],
    documents: [{ a: 1 }],
    uuids: [],
    bigints: [1, 9007199254740993n],
  });
  // The last is a text, and no null.
  const texts = ["a", "b c", 'q"\\', "", "null"];
  const written = await query("select $1::text[] as texts, $2::text[] as none, $3::int[] as ints", [
    texts,
    [],
    [1, null],
  ]);
  expect(written).toEqual({ texts, none: [], ints: [1, null] });
  await driver.end();
});

test("the local REST lends ten connections at most, and none that is gone", async ({ database }) => {
  const { driver, query } = queries(database);
  const ask = () =>
    Promise.all(Array.from({ length: 25 }, () => query("select pg_backend_pid() as pid, pg_sleep(0.02)")));
  const before = new Set((await ask()).map((row) => row!.pid));
  expect(before.size).toBe(10);

  const lent = await driver.reserve();
  await database.sql`
    select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`;
  await sleep(200);
  await expect(lent.unsafe("select 1")).rejects.toMatchObject({ code: "CONNECTION_CLOSED" });
  lent.release();

  const after = new Set((await ask()).map((row) => row!.pid));
  expect(after.size).toBe(10);
  expect(after.isDisjointFrom(before)).toBe(true);
  await driver.end();
  await expect(query("select 1")).rejects.toMatchObject({ code: expect.stringMatching(/^CONNECTION_/) });
});
