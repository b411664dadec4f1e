import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { generateIdentity, identityToRecipient } from "age-encryption";
import type postgres from "postgres";
import { describe, expect } from "vitest";
import { databaseUrl } from "../../local/database-url.ts";
import { deno } from "../../local/edge-runtime.ts";
import { copyIn } from "../../supabase/functions/migration-guard/exports/copy-in.ts";
import { copyOut } from "../../supabase/functions/migration-guard/exports/copy-out.ts";
import type { CopySession } from "../../supabase/functions/migration-guard/exports/run-copy.ts";
import { seal } from "../../supabase/functions/migration-guard/exports/seal.ts";
import { unseal } from "../../supabase/functions/migration-guard/exports/unseal.ts";
import { makeColumnTypes } from "../support/column-types.ts";
import { test } from "../support/database.ts";
import { catalogValues } from "../support/values.ts";

type Chunk = {
  number: number;
  first_block: number;
  end_block: number | null;
  estimated_rows: number;
  estimated_bytes: number;
};

const maxBytes = 64_000_000;

const planChunks = (sql: postgres.Sql, table: string, targetBytes: number) =>
  sql<Chunk[]>`
    select number, first_block::int, end_block::int, estimated_rows::int, estimated_bytes::int
    from migration_guard.plan_chunks(${table}::regclass, ${targetBytes})`;

async function statementOf(sql: postgres.Sql, table: string, { first_block, end_block }: Chunk): Promise<string> {
  const [made] = await sql<[{ text: string }]>`
    select migration_guard.chunk_statement(${table}::regclass, ${`(${first_block},0)`}::tid, ${
    end_block === null ? null : `(${end_block},0)`
  }::tid) as text`;
  return made.text;
}

/** A table through all that an export and an import do with it, into another one; gives the chunks. */
async function transfer(sql: postgres.Sql, table: string, into: string, targetBytes: number): Promise<Chunk[]> {
  const identity = await generateIdentity();
  const recipient = await identityToRecipient(identity);
  const chunks = await planChunks(sql, table, targetBytes);
  for (const chunk of chunks) {
    const copied = await copyOut(sql, await statementOf(sql, table, chunk), { maxBytes });
    const { body, ...record } = await seal(copied.blocks, [recipient]);
    expect(record.rows).toBe(copied.rows);
    expect(record.bytes.text).toBe(copied.bytes);
    expect(await copyIn(sql, `copy ${into} from stdin`, await unseal(body, record, [identity]))).toBe(copied.rows);
  }
  return chunks;
}

async function differences(sql: postgres.Sql, one: string, other: string, columns = "*"): Promise<number> {
  const [found] = await sql.unsafe<[{ count: number }]>(`
    select count(*)::int as count from (
      (select ${columns} from ${one} except all select ${columns} from ${other})
      union all (select ${columns} from ${other} except all select ${columns} from ${one})
    ) as d`);
  return found.count;
}

test("values of every type come back exactly", async ({ database }) => {
  const admin = database.connect("supabase_admin");
  // Nobody but a superuser can have values of the others, which take no text.
  const types = (await makeColumnTypes(admin)).filter(({ name }) => !(name in catalogValues));
  expect(types.length).toBeGreaterThan(100);
  const columns = types.map(({ type }, i) => `c${i} ${type}`).join(", ");
  await admin.unsafe(`create table public.everything (type int, number int, ${columns})`);
  for (const [i, { valuesTable }] of types.entries()) {
    await admin.unsafe(`insert into public.everything (type, number, c${i}) select ${i}, i, v from ${valuesTable}`);
  }
  await admin`create table public.returned (like public.everything)`;
  const chunks = await transfer(admin, "public.everything", "public.returned", 20_000);
  expect(chunks.length).toBeGreaterThan(3);
  // As text, since not every type has an equality.
  const texts = types.map((_, i) => `format('%s %s', num_nulls(c${i}), c${i})`).join(", ");
  expect(
    await differences(
      admin,
      "public.everything",
      "public.returned",
      `type, number, array[${texts}]`,
    ),
  ).toBe(0);
});

test("text comes back with whatever copy escapes, in a table and columns of any name", async ({ database: { sql } }) => {
  await sql`create table "a ""table""; --" ("select" text, "a,b" bytea, dropped int, "Ё" jsonb)`;
  await sql`alter table "a ""table""; --" drop column dropped`;
  await sql`
    insert into "a ""table""; --"
    select t, decode(md5(t), 'hex'), jsonb_build_object('t', t)
    from unnest(array['', 'NULL', '\N', E'\\\\.', E'a\nb\r\nc\td\\e\b\f\v', 'Ёлка 🥗', null, repeat(E'\n', 100000)]) as t`;
  await sql`create table returned as table "a ""table""; --" with no data`;
  await transfer(sql, '"a ""table""; --"', "returned", 1000);
  expect(await differences(sql, '"a ""table""; --"', "returned")).toBe(0);
});

test("a table without columns keeps the number of its rows", async ({ database: { sql } }) => {
  await sql`create table nothing ()`;
  await sql`insert into nothing select from generate_series(1, 1000)`;
  await sql`create table returned ()`;
  await transfer(sql, "nothing", "returned", 100);
  expect([...await sql`select count(*)::int from returned`]).toEqual([{ count: 1000 }]);
});

describe("a copy", () => {
  const rows = (count: number, width = 200) =>
    `copy (select i, repeat('x', ${width}) from generate_series(1, ${count}) as i) to stdout`;

  /** Whether a session still answers, and is in no transaction. */
  async function expectUsable(sql: postgres.Sql) {
    const answer = sql`select 1 as one, txid_current_if_assigned() is null as idle`;
    const silence = sleep(5000).then(() => "no answer");
    expect(await Promise.race([answer.then((rows) => [...rows]), silence])).toEqual([{ one: 1, idle: true }]);
  }

  /** Alone, in a transaction, and in one that a session was reserved for. */
  async function everyWay(sql: postgres.Sql, use: (session: CopySession) => Promise<unknown>) {
    await use(sql);
    await expectUsable(sql);
    await sql.begin(use).catch(() => {});
    await expectUsable(sql);
    const reserved = await sql.reserve();
    await use(reserved);
    reserved.release();
    await expectUsable(sql);
  }

  test("out comes in blocks of 64 KiB, however long the rows", async ({ database: { sql } }) => {
    const { blocks, rows: count, bytes } = await copyOut(sql, rows(5000), { maxBytes });
    expect(count).toBe(5000);
    expect(Buffer.concat(blocks).toString().split("\n").length).toBe(5001);
    expect(new Set(blocks.slice(0, -1).map(({ length }) => length))).toEqual(new Set([65_536]));
    expect(bytes).toBe(blocks.reduce((sum, { length }) => sum + length, 0));
    const long = await copyOut(sql, rows(3, 5_000_000), { maxBytes });
    expect(Buffer.concat(long.blocks).toString()).toBe(
      [1, 2, 3].map((i) => `${i}\t${"x".repeat(5_000_000)}\n`).join(""),
    );
    expect(await copyOut(sql, rows(0), { maxBytes })).toEqual({ blocks: [], rows: 0, bytes: 0 });
  });

  test("out fails with the server's error, whenever that comes", async ({ database: { sql } }) => {
    for (const at of [1, 1000, 100_000]) {
      const failing = `copy (select 1 / (i - ${at}), repeat('x', 100) from generate_series(1, 100000) as i) to stdout`;
      await everyWay(
        sql,
        (session) => expect(copyOut(session, failing, { maxBytes })).rejects.toMatchObject({ code: "22012" }),
      );
    }
    await everyWay(
      sql,
      (session) =>
        expect(copyOut(session, "copy missing to stdout", { maxBytes })).rejects.toMatchObject({ code: "42P01" }),
    );
    await everyWay(sql, (session) => expect(copyOut(session, "select 1", { maxBytes })).rejects.toThrow(TypeError));
  });

  test("out of more than is allowed is stopped", async ({ database: { sql } }) => {
    expect((await copyOut(sql, rows(10, 9), { maxBytes: 121 })).bytes).toBe(121);
    await everyWay(
      sql,
      (session) =>
        expect(copyOut(session, rows(10, 9), { maxBytes: 120 })).rejects.toMatchObject({
          code: "copy_too_large",
          maxBytes: 120,
        }),
    );
    // It would take minutes, and more than all memory.
    const endless = "copy (select generate_series(1, 1000000000), repeat('x', 200)) to stdout";
    await everyWay(
      sql,
      (session) =>
        expect(copyOut(session, endless, { maxBytes: 1_000_000 })).rejects.toMatchObject({ code: "copy_too_large" }),
    );
    // A copy that has ended when the server is asked to stop: it must not stop what comes next.
    for (let count = 300; count < 400; count++) {
      await expect(copyOut(sql, rows(count), { maxBytes: 60_000 })).rejects.toMatchObject({ code: "copy_too_large" });
      expect([...await sql`select pg_sleep(0.001)::text`]).toEqual([{ pg_sleep: "" }]);
    }
  });

  test("fails when its connection is lost", async ({ database: { sql, connect } }) => {
    await sql`create table lost (i int, x text)`;
    const terminate = (pid: number) => sql`select pg_terminate_backend(${pid})`;
    const pidOf = async (other: postgres.Sql) =>
      (await other<[{ pid: number }]>`select pg_backend_pid() as pid`)[0].pid;
    const reader = connect();
    const pid = await pidOf(reader);
    const reading = copyOut(reader, "copy (select pg_sleep(60)) to stdout", { maxBytes });
    setTimeout(() => terminate(pid).catch(() => {}), 200);
    await expect(reading).rejects.toThrow();
    const writer = connect();
    const writerPid = await pidOf(writer);
    async function* endless() {
      yield Buffer.from("1\tx\n");
      await terminate(writerPid);
      for (;;) {
        await sleep(1);
        yield Buffer.from("1\tx\n");
      }
    }
    await expect(copyIn(writer, "copy lost from stdin", endless())).rejects.toThrow();
    expect([...await sql`select count(*)::int from lost`]).toEqual([{ count: 0 }]);
  });

  test("in keeps all rows, or fails with the server's error and keeps none", async ({ database: { sql } }) => {
    await sql`create table strict (i int not null check (i <> 13), x text)`;
    const good = "1\tx\n";
    const much = Buffer.from(`1\t${"y".repeat(1000)}\n`.repeat(5000));
    const texts: [code: string, blocks: (string | Buffer)[]][] = [
      ["22P02", ["x\ta\n", good]],
      ["22P02", [good, "x\ta\n"]],
      ["22P02", ["x\ta\n", ...Array(50).fill(much)]],
      ["22P02", [...Array(5).fill(much), "x\ta\n"]],
      ["22P02", [Buffer.concat([Buffer.from("x\ta\n"), much])]],
      ["23502", ["\\N\ta\n"]],
      ["23514", [good, "13\ta\n", much]],
      ["22P04", ["1\n"]],
    ];
    for (const [code, blocks] of texts) {
      await everyWay(
        sql,
        (session) =>
          expect(copyIn(session, "copy strict from stdin", blocks.map((block) => Buffer.from(block)))).rejects
            .toMatchObject({ code }),
      );
    }
    await everyWay(
      sql,
      (session) => expect(copyIn(session, "copy missing from stdin", [much])).rejects.toMatchObject({ code: "42P01" }),
    );
    await everyWay(sql, (session) => expect(copyIn(session, "select 1", [much])).rejects.toThrow(TypeError));
    expect([...await sql`select count(*)::int from strict`]).toEqual([{ count: 0 }]);
    await everyWay(sql, async (session) => {
      expect(await copyIn(session, "copy strict from stdin", [])).toBe(0);
      expect(await copyIn(session, "copy strict from stdin", [Buffer.from(good), much])).toBe(5001);
    });
    expect([...await sql`select count(*)::int from strict`]).toEqual([{ count: 3 * 5001 }]);
  });

  test("in is called off when its blocks fail", async ({ database: { sql } }) => {
    await sql`create table t (i int)`;
    await everyWay(sql, (session) => {
      const blocks = function* () {
        yield Buffer.from("1\n");
        throw new RangeError("no more");
      };
      return expect(copyIn(session, "copy t from stdin", blocks())).rejects.toThrow(RangeError);
    });
    expect([...await sql`select count(*)::int from t`]).toEqual([{ count: 0 }]);
  });

  // With the driver's own streams one of four hung in Deno after 4 MB or more.
  test("out ends each time, in Deno too, and memory stays bounded", async ({ database }) => {
    const script = join(import.meta.dirname, "..", "support", "copy-often.ts");
    const url = databaseUrl({ port: database.port, database: database.name });
    const output = execFileSync(
      deno,
      [
        "run",
        "--quiet",
        "--no-prompt",
        "--allow-net",
        "--allow-env",
        "--allow-read",
        "--node-modules-dir=manual",
        script,
        url,
      ],
      { encoding: "utf8", timeout: 100_000, cwd: join(import.meta.dirname, "..", "..") },
    );
    const { copies, megabytes } = JSON.parse(output) as { copies: number; megabytes: number };
    expect(copies).toBe(30);
    // Five times what one copy has, and what is sealed of it.
    expect(megabytes).toBeLessThan(60);
    for (let i = 0; i < 30; i++) {
      const sql = database.connect();
      expect((await copyOut(sql, rows(19_990 + i), { maxBytes })).rows).toBe(19_990 + i);
      await expectUsable(sql);
      await sql.end();
    }
  });
});

describe("the chunks of a table", () => {
  const scanOf = async (sql: postgres.Sql, statement: string): Promise<string> => {
    const [, query] = /^copy \((.*)\) to stdout \(encoding 'UTF8'\)$/s.exec(statement)!;
    const plan = await sql.unsafe<{ "QUERY PLAN": string }[]>(`explain (costs off) ${query}`);
    return plan.map((line) => line["QUERY PLAN"]).join("\n");
  };

  /** Every row is in one chunk, and no chunk reads more than its pages. */
  async function expectCovered(sql: postgres.Sql, table: string, targetBytes: number): Promise<Chunk[]> {
    await sql.unsafe("drop table if exists returned");
    await sql.unsafe(`create table returned as select * from only ${table} with no data`);
    const chunks = await transfer(sql, table, "returned", targetBytes);
    expect(await differences(sql, `only ${table}`, "returned")).toBe(0);
    expect(chunks.map(({ number }) => number)).toEqual(chunks.map((_, i) => i));
    expect(chunks.map(({ first_block }) => first_block)).toEqual([
      0,
      ...chunks.slice(0, -1).map(({ end_block }) => end_block),
    ]);
    expect(chunks.at(-1)!.end_block).toBeNull();
    for (const chunk of chunks) {
      const scan = await scanOf(sql, await statementOf(sql, table, chunk));
      // The only one is the whole table.
      expect(scan).toMatch(chunks.length === 1 ? /^(Tid Range|Seq) Scan on / : /^Tid Range Scan on /);
    }
    return chunks;
  }

  test("that is empty are none; a row is one", async ({ database: { sql } }) => {
    await sql`create table t (x text)`;
    expect([...await planChunks(sql, "t", 1000)]).toEqual([]);
    await sql`insert into t values ('a')`;
    expect([...await planChunks(sql, "t", 1000)]).toEqual([
      { number: 0, first_block: 0, end_block: null, estimated_rows: 1, estimated_bytes: 2 },
    ]);
    await expectCovered(sql, "t", 1000);
    await sql`delete from t`;
    expect([...await planChunks(sql, "t", 1000)]).toEqual([]);
  });

  test("with deleted rows and empty pages have all that is left", async ({ database: { sql } }) => {
    await sql`create table t as select i, repeat('x', i % 300) as x from generate_series(1, 20000) as i`;
    await sql`delete from t where i between 1 and 5000 or i between 9000 and 14000 or i % 3 = 0 or i > 19000`;
    await sql`vacuum t`;
    await sql`update t set x = 'longer ' || x where i % 50 = 1`;
    const chunks = await expectCovered(sql, "t", 100_000);
    expect(chunks.length).toBeGreaterThan(5);
    const [left] = await sql<[{ count: number }]>`select count(*)::int from t`;
    expect(chunks.reduce((sum, { estimated_rows }) => sum + estimated_rows, 0)).toBe(left.count);
  });

  test("are of about the size that was asked for, also where values lie outside of the rows, which are not read for it", async ({ database: { sql } }) => {
    await sql`create table t (i int, body text, raw bytea, doc jsonb)`;
    await sql`alter table t alter body set storage external, alter raw set storage external`;
    await sql`
      insert into t
      select i, case when i % 3 > 0 then repeat(md5(i::text), (i * i) % 1500) end, case when i % 7 = 0 then decode(repeat(md5(i::text), i), 'hex') end,
        jsonb_build_object('i', i, 'text', repeat('ab', i % 4000))
      from generate_series(1, 1000) as i`;
    await sql`vacuum t`;
    const chunks = await expectCovered(sql, "t", 1_000_000);
    expect(chunks.length).toBeGreaterThan(8);
    for (const chunk of chunks.slice(0, -1)) {
      const { bytes } = await copyOut(sql, await statementOf(sql, "t", chunk), { maxBytes });
      expect(bytes).toBeGreaterThan(200_000);
      expect(bytes).toBeLessThan(4_000_000);
    }
    const plan = await sql<{ "QUERY PLAN": string }[]>`
      explain (analyze, buffers, costs off, timing off, summary off) select * from migration_guard.plan_chunks('t'::regclass, 1000000)`;
    const [size] = await sql<[{ heap: number; all: number }]>`
      select (pg_relation_size('t') / 8192)::int as heap, (pg_table_size('t') / 8192)::int as all`;
    const [, hit] = /Buffers: shared hit=(\d+)/.exec(plan.map((line) => line["QUERY PLAN"]).join("\n"))!;
    expect(Number(hit)).toBeLessThan(size.heap + 500);
    expect(size.all).toBeGreaterThan(size.heap + 1000);
  });

  test("that has a page of much more than was asked for have that page alone in one", async ({ database: { sql } }) => {
    await sql`create table t (i int, x text)`;
    await sql`alter table t alter x set storage external`;
    const small = (from: number) =>
      sql`insert into t select i, 'x' from generate_series(${from}::int, ${from + 999}) as i`;
    await small(1);
    // Values outside of their rows, all of them in some pages.
    await sql`insert into t select i, repeat('y', 50000) from generate_series(1, 300) as i`;
    await small(1001);
    const chunks = await expectCovered(sql, "t", 100_000);
    const large = chunks.filter(({ estimated_bytes }) => estimated_bytes > 200_000);
    expect(large.length).toBeGreaterThan(1);
    for (const { first_block, end_block } of large) expect(end_block).toBe(first_block + 1);
  });

  test("of partitions of uneven rows, and of a parent with children, have each row once", async ({ database: { sql } }) => {
    await sql.unsafe(`
      create table parted (i int, x text) partition by range (i);
      create table part_1 partition of parted for values from (0) to (10);
      create table part_2 partition of parted for values from (10) to (100000);
      create table part_3 partition of parted for values from (100000) to (200000);
      insert into parted select i, repeat('x', i % 700) from generate_series(0, 20000) as i;
      create table parent (i int);
      create table child () inherits (parent);
      insert into parent select generate_series(1, 1000);
      insert into child select generate_series(1001, 5000);
    `);
    await expect(planChunks(sql, "parted", 1000)).rejects.toMatchObject({ code: "MG003" });
    expect((await expectCovered(sql, "part_1", 500_000)).length).toBe(1);
    expect((await expectCovered(sql, "part_2", 500_000)).length).toBeGreaterThan(10);
    expect([...await planChunks(sql, "part_3", 500_000)]).toEqual([]);
    await expectCovered(sql, "parent", 1000);
    await expectCovered(sql, "child", 1000);
  });

  test("have the same bytes each time", async ({ database: { sql } }) => {
    await sql`create table t as select i, random() as r, now() as at from generate_series(1, 10000) as i`;
    await sql`vacuum freeze t`;
    const sums = async () => {
      const found: string[] = [];
      for (const chunk of await planChunks(sql, "t", 100_000)) {
        const { blocks } = await copyOut(sql, await statementOf(sql, "t", chunk), { maxBytes });
        found.push((await seal(blocks)).sha256.text);
      }
      return found;
    };
    const first = await sums();
    expect(first.length).toBeGreaterThan(3);
    expect(await sums()).toEqual(first);
  });

  test("that has no pages, or of no bytes, are refused", async ({ database: { sql } }) => {
    await sql`create view shown as select 1 as i`;
    await sql`create table t (i int)`;
    await expect(planChunks(sql, "shown", 1000)).rejects.toMatchObject({ code: "MG003" });
    await expect(planChunks(sql, "t", 0)).rejects.toMatchObject({ code: "MG003" });
    await expect(sql`select migration_guard.plan_chunks(0, 1000)`).rejects.toMatchObject({ code: "MG003" });
  });
});
