// `npm run bench:catalog`: how long a backup, a diff and a rollback plan take on the catalog of a large schema, beside pg_dump.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import type postgres from "postgres";
import { connect, createPlatformRoles, createPlatformSchemas, pushMigrations } from "../local/database.ts";
import { databaseUrl } from "../local/database-url.ts";
import { freePort } from "../local/edge-runtime.ts";
import { type Postgres, removeData, startPostgres, superuser } from "../local/postgres.ts";
import { whyNoPgDump } from "../tests/support/pg-dump.ts";
import { fittedExponent, median } from "./figures.ts";
import { judgeAtMost, type Judged } from "./judged.ts";
import { markdownTable } from "./markdown-table.ts";
import { step } from "./step.ts";
import { wholeNumber } from "./whole-number.ts";

/** What is measured: pg_dump, and what is compared with it. */
const works = ["pg_dump", "backup", "diff", "plan", "plan after renames"] as const;
type Work = typeof works[number];
/** Times of pg_dump on the largest schema that each may take at most. */
const ratioTargets: { [work in Work]?: number } = { backup: 1.5, diff: 1, plan: 1, "plan after renames": 1 };
/** By what power of the number of objects the time may grow at most. */
const exponentTarget = 1.05;
/** Objects of a module in catalog.sql, and of what all modules share, as a backup counts them. */
const moduleObjects = 97;
const sharedObjects = 3;

const help =
  `Measures catalog work on schemas of several sizes without rows: a backup, its diff, its rollback plan where nothing
is to do and after some renames, and pg_dump --schema-only of the same schema, in turns. Starts a Postgres of its own in a
temporary folder, and removes it. It is of the newest major that the installed pg_dump reads, 17 at most.

  npm run bench:catalog                            100, 500, 2500 and 20000 objects, 5 rounds
  npm run bench:catalog -- --sizes=100,1000        other numbers of objects
  npm run bench:catalog -- --rounds=3              fewer rounds
  npm run bench:catalog -- --tables=all            with a plan that names all tables, and not three: each is copied and
                                                   proven, though it is empty; growth alone is judged then
  npm run bench:catalog -- --json=figures.json     writes the figures to a file, too

Exits with 1 when a target is missed.`;

type Spread = { median: number; min: number; max: number };
type Schema = { objects: number; database: string; seconds: Record<Work, number[]> };
type Figures = {
  server: string;
  pg_dump: string;
  rounds: number;
  schemas: { objects: number; seconds: Record<Work, Spread>; ratios: { [work in Work]?: Spread } }[];
  exponents: Record<Work, number>;
  judged: Judged[];
};

const options = readOptions();
const folder = mkdtempSync(join(tmpdir(), "migration-guard-bench-"));
let server: Postgres | undefined;
let cleaning: Promise<void> | undefined;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => cleanUp().then(() => process.exit(1)));
}

try {
  await start();
  const schemas: Schema[] = [];
  for (const size of options.sizes) schemas.push(await createSchema(size));
  // The first round warms up what the others find warm.
  for (let round = 0; round <= options.rounds; round++) {
    for (const schema of schemas) {
      step(`Round ${round} of ${options.rounds}: ${schema.objects} objects`);
      await measureRound(schema, round > 0);
    }
  }
  const figures = await summarize(schemas);
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(figures, null, 2)}\n`);
  process.exitCode = print(figures) ? 0 : 1;
} catch (error) {
  if (!cleaning) console.error(error);
  process.exitCode = 1;
} finally {
  await cleanUp();
}

async function start() {
  step(`Starting Postgres ${options.major ?? ""}`);
  const port = await freePort();
  server = await startPostgres({
    dataDirectory: join(folder, "postgres"),
    port,
    major: options.major,
    settings: { fsync: "off", synchronous_commit: "off", full_page_writes: "off" },
  });
  await createPlatformRoles(port);
  await asSuperuser("postgres", (sql) => sql`create database product owner postgres`);
  await createPlatformSchemas({ port, database: "product" });
  await pushMigrations({ port, database: "product" });
}

/** Makes a schema of so many objects at least, in a database of its own. */
async function createSchema(size: number): Promise<Schema> {
  step(`Making a schema of ${size} objects`);
  const database = `objects_${size}`;
  const modules = Math.max(1, Math.ceil((size - sharedObjects) / moduleObjects));
  await asSuperuser("postgres", (sql) => sql`create database ${sql(database)} owner postgres template product`);
  const sql = connect({ port: server!.port, database });
  await sql.unsafe(readFileSync(join(import.meta.dirname, "catalog.sql"), "utf8"));
  for (let number = 1; number <= modules; number++) await sql`call pg_temp.make_module(${number})`;
  await sql`update migration_guard.limits set max_jobs = 1000, changes_per_minute = 100000`;
  await sql`select migration_guard.put_plan('v1.0', ${
    sql.json({ schema: "app", tables: options.tables ?? ["customer_1", "order_1", "item_1"], enums: ["status_1"] })
  }, 'bench')`;
  await sql.end();
  // As autovacuum would have left it.
  await asSuperuser(database, (sql) => sql`vacuum analyze`);
  const seconds = Object.fromEntries(works.map((work) => [work, []])) as unknown as Schema["seconds"];
  return { objects: sharedObjects + modules * moduleObjects, database, seconds };
}

/** Each kind of work once, pg_dump before and after the others. */
async function measureRound({ objects, database, seconds }: Schema, counts: boolean) {
  const measure = async (work: Work, run: () => void | Promise<void>) => {
    const begun = performance.now();
    await run();
    if (counts) seconds[work].push((performance.now() - begun) / 1000);
  };
  await measure("pg_dump", () => dump(database));
  const [backup] = await runJob(database, "backup", measure);
  if (backup!.objects !== objects) throw new Error(`It has ${backup!.objects} objects, not ${objects}.`);
  const [diff] = await runJob(database, "diff", measure);
  if (!diff!.is_clean) throw new Error("The diff of what nobody changed is not clean.");
  await measure("plan", () => planRollback(database, 0));
  await rename(database, "", "_renamed");
  await measure("plan after renames", () => planRollback(database, 5));
  await rename(database, "_renamed", "");
  await measure("pg_dump", () => dump(database));
  await inSession(database, (sql) => sql`drop schema migration_backup_v1 cascade`);
}

/** Over TCP and with a password, as every session here. */
function dump(database: string) {
  const { status, stderr } = spawnSync(
    "pg_dump",
    ["--schema-only", "--schema=app", `--dbname=${databaseUrl({ port: server!.port, database })}`],
    { encoding: "utf8", stdio: ["ignore", "ignore", "pipe"], env: { PATH: process.env.PATH } },
  );
  if (status !== 0) throw new Error(`pg_dump failed:\n${stderr}`);
}

/** Queues a job, and measures the worker that finds it, in a session of its own. */
async function runJob(
  database: string,
  type: "backup" | "diff",
  measure: (work: Work, run: () => Promise<void>) => Promise<void>,
) {
  await inSession(
    database,
    (sql) =>
      type === "backup"
        ? sql`select migration_guard.enqueue_backup('v1.0', 'bench')`
        : sql`select migration_guard.enqueue_diff('v1.0', 'bench')`,
  );
  await measure(type, async () => {
    await inSession(database, (sql) => sql`call migration_guard.work()`.simple());
  });
  return await inSession(database, async (sql) => {
    const [job] = await sql<{ error: unknown; objects: number; is_clean: boolean }[]>`
      select error, (result ->> 'objects_backed_up')::int as objects, (result ->> 'is_clean')::boolean as is_clean
      from migration_guard.jobs order by number desc limit 1`;
    if (job!.error) throw new Error(`${type}: ${JSON.stringify(job!.error)}`);
    return [job!];
  });
}

async function planRollback(database: string, statements: number) {
  await inSession(database, async (sql) => {
    const [plan] = await sql<{ possible: boolean; statements: number }[]>`
      select possible, jsonb_array_length(statements) as statements from migration_guard.plan_rollback('v1.0')`;
    if (!plan!.possible || (statements === 0) !== (plan!.statements === 0) || plan!.statements < statements) {
      throw new Error(`The rollback plan is another than expected: ${JSON.stringify(plan)}`);
    }
  });
}

async function rename(database: string, from: string, to: string) {
  await inSession(database, (sql) =>
    sql.unsafe(`
      alter table app.customer_1${from} rename to customer_1${to};
      alter table app.item_1 rename quantity${from} to quantity${to};
      alter index app.order_1_open_idx${from} rename to order_1_open_idx${to};
      alter view app.revenue_1${from} rename to revenue_1${to};
      alter function app.order_total_1${from}(bigint, boolean) rename to order_total_1${to}`));
}

async function inSession<T>(database: string, run: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const sql = connect({ port: server!.port, database });
  try {
    return await run(sql);
  } finally {
    await sql.end();
  }
}

async function asSuperuser(database: string, run: (sql: postgres.Sql) => Promise<unknown>) {
  const sql = connect({ port: server!.port, database, user: superuser });
  try {
    await run(sql);
  } finally {
    await sql.end();
  }
}

async function summarize(schemas: Schema[]): Promise<Figures> {
  const ratios = ({ seconds }: Schema, work: Work) =>
    // In each round beside what pg_dump has taken before and after.
    seconds[work].map((each, round) => each / ((seconds.pg_dump[2 * round]! + seconds.pg_dump[2 * round + 1]!) / 2));
  const exponents = mapWorks(
    works,
    (work) => fittedExponent(schemas.map(({ objects, seconds }) => [objects, median(seconds[work])])),
  );
  const largest = schemas.at(-1)!;
  const judged = works.slice(1).flatMap((work) => {
    const each = ratios(largest, work);
    const name = `${work} of ${largest.objects} objects / pg_dump -s ≤ ${ratioTargets[work]}`;
    return [
      ...options.tables === undefined ? [judgeAtMost(name, ratioTargets[work]!, median(each), each)] : [],
      ...schemas.length > 1
        ? [judgeAtMost(`${work}: exponent of objects ≤ ${exponentTarget}`, exponentTarget, exponents[work])]
        : [],
    ];
  });
  const [{ version }] = await inSession(
    schemas[0]!.database,
    (sql) => sql<[{ version: string }]>`select current_setting('server_version') as version`,
  );
  return {
    server: version,
    pg_dump: spawnSync("pg_dump", ["--version"], { encoding: "utf8" }).stdout.trim(),
    rounds: options.rounds,
    schemas: schemas.map((schema) => ({
      objects: schema.objects,
      seconds: mapWorks(works, (work) => spread(schema.seconds[work])),
      ratios: mapWorks(works.slice(1), (work) => spread(ratios(schema, work))),
    })),
    exponents,
    judged,
  };
}

function mapWorks<T>(of: readonly Work[], map: (work: Work) => T) {
  return Object.fromEntries(of.map((work) => [work, map(work)])) as Record<Work, T>;
}

function spread(values: number[]): Spread {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

/** Prints the table; tells whether every target is met. */
function print(figures: Figures): boolean {
  console.log(`Postgres ${figures.server}, ${figures.pg_dump}, ${figures.rounds} rounds: median (least to most)\n`);
  const range = ({ median, min, max }: Spread, digits: number) =>
    `${median.toFixed(digits)} (${min.toFixed(digits)} to ${max.toFixed(digits)})`;
  const largest = figures.schemas.at(-1)!;
  const rows = [["what", "objects", "seconds", "times pg_dump", "target", ""]];
  let isMet = true;
  const judge = (isWithin: boolean) => {
    isMet &&= isWithin;
    return isWithin ? "met" : "MISSED";
  };
  for (const work of works) {
    for (const schema of figures.schemas) {
      const ratio = schema.ratios[work];
      const target = schema === largest && options.tables === undefined ? ratioTargets[work] : undefined;
      rows.push([
        work,
        String(schema.objects),
        range(schema.seconds[work], 2),
        ratio ? range(ratio, 2) : "",
        target ? `at most ${target}` : "",
        target ? judge(ratio!.median <= target) : "",
      ]);
    }
    if (figures.schemas.length > 1) {
      const fitted = figures.exponents[work];
      const isJudged = work !== "pg_dump";
      rows.push([
        `${work}: fitted exponent`,
        "",
        fitted.toFixed(2),
        "",
        isJudged ? `at most ${exponentTarget}` : "",
        isJudged ? judge(fitted <= exponentTarget) : "",
      ]);
    }
  }
  console.log(markdownTable(rows));
  return isMet;
}

function cleanUp(): Promise<void> {
  cleaning ??= (async () => {
    await server?.stop().catch(() => undefined);
    removeData(join(folder, "postgres"));
    rmSync(folder, { recursive: true, force: true });
  })();
  return cleaning;
}

/** What the command line says. Ends the process when that is not understood, or not to be measured here. */
function readOptions(): { sizes: number[]; rounds: number; tables?: "*"; json?: string; major?: string } {
  try {
    const { values } = parseArgs({
      options: {
        sizes: { type: "string", default: "100,500,2500,20000" },
        rounds: { type: "string", default: "5" },
        tables: { type: "string" },
        json: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    });
    if (values.help) {
      console.log(help);
      process.exit(0);
    }
    const sizes = values.sizes.split(",").map((size) => wholeNumber("sizes", size, { most: 1_000_000 })).toSorted((
      a,
      b,
    ) => a - b);
    if (values.tables !== undefined && values.tables !== "all") throw new Error("--tables takes all, or is left out.");
    return {
      sizes,
      rounds: wholeNumber("rounds", values.rounds),
      tables: values.tables && "*",
      json: values.json,
      major: readableMajor(),
    };
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${help}`);
    process.exit(1);
  }
}

/** The newest major of Postgres that the installed pg_dump reads; undefined where that is the usual one. */
function readableMajor(): string | undefined {
  const wanted = process.env.POSTGRES_MAJOR;
  const majors = wanted === undefined ? [17, 16, 15] : [Number(wanted)];
  const readable = majors.find((major) => whyNoPgDump(major) === undefined);
  if (readable === undefined) throw new Error(whyNoPgDump(majors.at(-1)!));
  return readable === 17 ? undefined : String(readable);
}
