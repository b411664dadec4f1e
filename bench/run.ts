// `npm run bench`: the jobs of the product beside what does the same without it, at several numbers of rows.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { connect } from "../local/database.ts";
import { whyNoPgDump } from "../tests/support/pg-dump.ts";
import { growths, ratios } from "./figures.ts";
import { judgeAtMost, type Judged, readJudged } from "./judged.ts";
import { type Measure, measure, type Measured, measures } from "./measure.ts";
import { type OwnDatabase, startOwnDatabase } from "./own-database.ts";
import { drawPlot } from "./plot.ts";
import { atMost, locksAreMet, report } from "./report.ts";
import { serverSettings } from "./settings.ts";
import { step } from "./step.ts";
import { strongestOf } from "./watch-locks.ts";
import { wholeNumber } from "./whole-number.ts";

const root = join(import.meta.dirname, "..");

const help =
  `Measures backup, verification and diff beside what does the same without the product: in turns, in several rounds, on a
Postgres of its own in a temporary folder, which it removes. Prints a table, and draws it.

  npm run bench                                   with 200000, 2000000 and 8000000 rows: an hour, and 20 GB of disk
  npm run bench -- --rows=200000,2000000          with so many
  npm run bench -- --rounds=3                     so many times; the figures are medians
  npm run bench -- --only=verify,diff             some of ${measures.join(", ")}
  npm run bench -- --workers=1                    with one session that runs jobs, instead of two
  npm run bench -- --exact                        diffs that compare every value, too
  npm run bench -- --all                          and after that bench:catalog, bench:rollback with as many rows, and
                                                  bench:function-speed, each with its own tables, and draws all
                                                  that has a target: another hour
  npm run bench -- --json=FILE                    writes every figure there
  npm run bench -- --out=FOLDER                   draws bench.svg and bench.png there, instead of bench/results
  npm run bench -- --docs                         draws docs/performance.svg, too

Where the installed pg_dump is older than the usual Postgres, it is measured on a second one that it reads. Exits with 1 when a
target is missed.`;

const options = readOptions();
const folder = mkdtempSync(join(tmpdir(), "migration-guard-bench-"));
const ended = new AbortController();
let own: OwnDatabase | undefined;
let cleaning: Promise<void> | undefined;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => cleanUp().then(() => process.exit(1)));
}

try {
  const { postgres, measured } = await measureAll();
  const areMet = publish(postgres, measured);
  const others = options.all ? await runOthers() : { areMet: true, judged: [] };
  draw(postgres, measured, others.judged);
  process.exitCode = areMet && others.areMet ? 0 : 1;
} catch (error) {
  if (!cleaning) console.error(error);
  process.exitCode = 1;
} finally {
  await cleanUp();
}

async function measureAll(): Promise<{ postgres: string; measured: Measured }> {
  step("Starting Postgres");
  own = await startOwnDatabase({ folder, settings: serverSettings, onRemovable: (database) => own = database });
  const postgres = await serverMajor(own);
  const why = options.only.includes("pg_dump") ? whyNoPgDump(Number(postgres)) : undefined;
  const only = options.only.filter((measure) => why === undefined || measure !== "pg_dump");
  const { sizes, rounds, workers, exact } = options;
  const of = { own, postgres, folder, sizes, rounds, workers, exact, onStep: step, signal: ended.signal };
  const measured = only.length === 0
    ? { figures: [], locks: { samples: 0, strongest: undefined } }
    : await measure({ ...of, only });
  if (why === undefined) return { postgres, measured };

  const older = readablePostgres();
  console.error(`${why}: it is ${older ? `measured on Postgres ${older}` : "left out"}.`);
  if (older === undefined) return { postgres, measured };
  // One server at a time.
  await own.remove();
  const beside = await measurePgDumpOn(older);
  const locks = strongestOf(measured.locks, beside.locks);
  return { postgres, measured: { figures: [...measured.figures, ...beside.figures], locks } };
}

async function serverMajor(own: OwnDatabase): Promise<string> {
  const sql = connect(own);
  const [version] = await sql<{ major: string }[]>`
    select (current_setting('server_version_num')::int / 10000)::text as major`;
  await sql.end();
  return version!.major;
}

/** The newest major of those that can be installed which pg_dump reads. */
function readablePostgres(): string | undefined {
  const majors = readdirSync(join(root, "local", "postgres")).sort((a, b) => Number(b) - Number(a));
  return majors.find((major) => whyNoPgDump(Number(major)) === undefined);
}

/** Runs this program again, on another major. */
async function measurePgDumpOn(major: string): Promise<Measured> {
  const json = join(folder, "pg_dump.json");
  const child = spawn(process.execPath, [
    join(root, "local", "run.mjs"),
    `--postgres=${major}`,
    import.meta.filename,
    "--only=pg_dump",
    `--rows=${options.sizes.join(",")}`,
    `--rounds=${options.rounds}`,
    `--workers=${options.workers}`,
    `--json=${json}`,
    `--out=${join(folder, "pg_dump")}`,
  ], { stdio: ["ignore", "ignore", "inherit"], signal: ended.signal });
  await once(child, "close");
  // It exits with 1 for a missed target, too.
  if (!existsSync(json)) throw new Error(`The bench on Postgres ${major} has failed: see above.`);
  return JSON.parse(readFileSync(json, "utf8"));
}

/** Runs the benches that have a program of their own, one after the other. Gives what they have judged, and whether all targets are met. */
async function runOthers(): Promise<{ areMet: boolean; judged: Judged[] }> {
  // One server at a time.
  await own?.remove();
  const rows = options.sizes.join(",");
  const rounds = `--rounds=${options.rounds}`;
  const older = whyNoPgDump(Number(process.env.POSTGRES_MAJOR ?? 17)) === undefined
    ? []
    : [`--postgres=${readablePostgres()}`];
  let areMet = true;
  const judged: Judged[] = [];
  for (
    const args of [
      ["bench/catalog.ts", rounds],
      ["bench/rollback.ts", "--only=keep", `--rows=${rows}`, rounds],
      [...older, "bench/rollback.ts", "--only=restore", `--restore-rows=${rows}`, rounds],
      ["bench/function-speed.ts"],
    ]
  ) {
    console.log(`\n${args.join(" ")}\n`);
    const { signal } = ended;
    const json = join(folder, "other.json");
    rmSync(json, { force: true });
    const all = [join("local", "run.mjs"), ...args, `--json=${json}`];
    const child = spawn(process.execPath, all, { cwd: root, stdio: "inherit", signal });
    const [code] = await once(child, "close");
    areMet &&= code === 0;
    // One that has failed has said why, and the others are drawn.
    if (existsSync(json)) judged.push(...readJudged(json));
  }
  return { areMet, judged };
}

/** Prints and writes what was measured. Gives whether every target is met. */
function publish(postgres: string, { figures, locks }: Measured): boolean {
  const compared = { ratios: ratios(figures), growths: growths(figures, postgres), locks };
  const { rounds, workers } = options;
  console.log(
    `Postgres ${postgres}, ${availableParallelism()} cores, ${workers} worker${workers === 1 ? "" : "s"}, ` +
      `medians of ${rounds}: ${Object.entries(serverSettings).map(([name, value]) => `${name}=${value}`).join(", ")}\n`,
  );
  console.log(report(compared));
  if (options.json) {
    writeFileSync(options.json, JSON.stringify({ settings: serverSettings, workers, figures, ...compared }, null, 2));
  }
  return [...compared.ratios, ...compared.growths].every(({ isMet }) => isMet) && locksAreMet(locks);
}

/** Draws what was measured, and what other benches have judged. */
function draw(postgres: string, { figures }: Measured, others: Judged[]) {
  const own: Judged[] = [
    ...ratios(figures).flatMap(({ name, peer, target, rows, ratio, spread }) =>
      target === undefined
        ? []
        : [{ ...judgeAtMost(`${name} / ${peer} ${atMost(target)}`, target, ratio, spread), rows }]
    ),
    ...growths(figures, postgres).map(({ name, exponent, target }) =>
      judgeAtMost(`${name}: exponent of rows ${atMost(target)}`, target, exponent)
    ),
  ];
  const { svg, png } = drawPlot({ figures, judged: [...own, ...others], postgres, sizes: options.sizes });
  mkdirSync(options.out, { recursive: true });
  writeFileSync(join(options.out, "bench.svg"), svg);
  writeFileSync(join(options.out, "bench.png"), png);
  if (options.docs) writeFileSync(join(root, "docs", "performance.svg"), svg);
}

function cleanUp(): Promise<void> {
  cleaning ??= (async () => {
    ended.abort();
    await own?.remove();
    rmSync(folder, { recursive: true, force: true });
  })();
  return cleaning;
}

/** What the command line says. Ends the process when that is not understood. */
function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        rows: { type: "string", default: "200000,2000000,8000000" },
        rounds: { type: "string", default: "3" },
        only: { type: "string", default: measures.join(",") },
        workers: { type: "string", default: "2" },
        exact: { type: "boolean", default: false },
        all: { type: "boolean", default: false },
        json: { type: "string" },
        out: { type: "string", default: join(import.meta.dirname, "results") },
        docs: { type: "boolean", default: false },
        help: { type: "boolean", short: "h" },
      },
    });
    if (values.help) {
      console.log(help);
      process.exit(0);
    }
    const only = values.only.split(",") as Measure[];
    const unknown = only.find((name) => !measures.includes(name));
    if (unknown !== undefined) throw new Error(`--only=${unknown}: it takes some of ${measures.join(", ")}.`);
    return {
      ...values,
      only,
      sizes: values.rows.split(",").map((text) => wholeNumber("rows", text, { least: 4000, most: 100_000_000 })).sort((
        a,
        b,
      ) => a - b),
      rounds: wholeNumber("rounds", values.rounds, { least: 1, most: 100 }),
      workers: wholeNumber("workers", values.workers, { least: 1, most: 8 }),
    };
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${help}`);
    process.exit(1);
  }
}
