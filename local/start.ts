// `npm start`: the whole local stack, with the example app in it, until Ctrl-C.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { databaseUrl } from "./database-url.ts";
import {
  createPlatformRoles,
  createPlatformSchemas,
  isExampleMigrated,
  loadExample,
  pushMigrations,
} from "./database.ts";
import { anonKey, publishableKeys, secretKeys, serviceRoleKey } from "./keys.ts";
import { isRunning, isTaken, type Postgres, removeData, startPostgres, stopLeftover, stopProcess } from "./postgres.ts";
import { config, type Stack, startStack } from "./stack.ts";

const root = join(import.meta.dirname, "..");
const folder = resolve(process.env.DATA_DIRECTORY ?? join(root, ".local"));
const dataDirectory = join(folder, "postgres");
/** What is in the buckets of Storage; the database says which objects there are. */
const storageFolder = join(folder, "storage");
/** Says of which SQL the database was made; absent until that is done. */
const readyFile = join(folder, "ready");
/** Process id of Deno, for the next start to stop it should this one be killed. */
const edgeRuntimeFile = join(folder, "edge-runtime.pid");
/** Process id of the start that uses the data now. */
const startFile = join(folder, "start.pid");
const database = "postgres";

const help = `Starts Postgres, REST, Storage, the Edge Function and a gateway before them, with the example app loaded.

  npm start               start, and go on with the data that is there
  npm start -- --reset    throw the data away and begin afresh
  npm start -- --verbose  also print what Postgres logs

  API_PORT         port of the gateway, now ${port("API_PORT", config().api.port)}
  DB_PORT          port of Postgres, now ${port("DB_PORT", config().db.port)}
  DATA_DIRECTORY   folder of the data, now ${folder}`;

const options = readOptions();
if (options.help) {
  console.log(help);
  process.exit(0);
}

const apiPort = port("API_PORT", config().api.port);
const databasePort = port("DB_PORT", config().db.port);

let postgres: Postgres | undefined;
let stack: Stack | undefined;
let stopping: Promise<void> | undefined;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => stop(0));
// Whoever started this is gone, and took no leave: nobody could stop it any more.
const parent = process.ppid;
setInterval(() => process.ppid === parent || stop(0), 1000).unref();

try {
  await start();
} catch (error) {
  if (!stopping) console.error((error as Error).message);
  await stop(1);
}

async function start() {
  if (apiPort === databasePort) throw new Error(`API_PORT and DB_PORT are both ${apiPort}: they must differ.`);
  if (await isTaken(apiPort)) throw taken("API_PORT", apiPort, "another stack is running, perhaps this one");
  refuseSecondStart();
  await stopLeftover(dataDirectory);
  await stopProcess(edgeRuntimeFile, "migration-guard/index.ts");
  if (await isTaken(databasePort)) throw taken("DB_PORT", databasePort, "another Postgres is running");

  // A first start that was interrupted has left a database that is not complete.
  if (options.reset || !existsSync(readyFile)) {
    rmSync(readyFile, { force: true });
    removeData(dataDirectory);
    rmSync(storageFolder, { recursive: true, force: true });
  }
  mkdirSync(folder, { recursive: true });
  step("Starting Postgres");
  const onLog = options.verbose ? (text: string) => process.stderr.write(text) : undefined;
  postgres = await startPostgres({ dataDirectory, port: databasePort, onLog });
  await prepare(postgres.isNew);
  step("Starting REST, Storage and the Edge Function");
  stack = await startStack({
    port: apiPort,
    databasePort,
    database,
    storageFolder,
    environment: Object.fromEntries(
      ["ALLOWED_ORIGINS", "EXPORT_AGE_IDENTITIES", "EXPORT_TARGETS"].flatMap((name) => {
        const value = process.env[name];
        return value === undefined ? [] : [[name, value]];
      }),
    ),
    // A webhook's receiver may be anywhere.
    allowNet: "all",
    onLog: (text) => process.stderr.write(text),
  });
  writeFileSync(edgeRuntimeFile, String(stack.edgeRuntime.pid));
  printUsage(stack, await isExampleMigrated({ port: databasePort, database }));
}

/** Makes a new database what it should be; says so when an old one was made of other SQL. */
async function prepare(isNew: boolean) {
  if (isNew) {
    step("Creating the database");
    await createPlatformRoles(databasePort);
    await createPlatformSchemas({ port: databasePort, database });
  }
  const fingerprint = fingerprintOfSql();
  const isUpToDate = !isNew && readFileSync(readyFile, "utf8") === fingerprint;
  if (isUpToDate) return;
  step("Applying migrations");
  await pushMigrations({ port: databasePort, database });
  if (isNew) {
    step("Loading the example app");
    await loadExample({ port: databasePort, database });
    writeFileSync(readyFile, fingerprint);
  } else {
    console.error("The project's SQL has changed since this database was made: `npm start -- --reset` begins afresh.");
  }
}

function fingerprintOfSql(): string {
  const files = [
    join(root, "local", "platform.sql"),
    join(root, "local", "platform-database.sql"),
    ...readdirSync(join(root, "supabase", "migrations")).sort().map((name) =>
      join(root, "supabase", "migrations", name)
    ),
    join(root, "examples", "coordinator-to-curator", "schema.sql"),
    join(root, "examples", "coordinator-to-curator", "seed.sql"),
  ];
  const hash = createHash("sha256");
  for (const file of files) hash.update(readFileSync(file));
  return hash.digest("hex");
}

function printUsage({ url, functionUrl }: Stack, isMigrated: boolean) {
  const key = `-H 'apikey: ${secretKeys.default}'`;
  const json = `-H 'content-type: application/json'`;
  const wait = `-H 'prefer: wait=60'`;
  const plan = join(root, "examples", "coordinator-to-curator", "plan.json");
  const hint = "The example's migration was run in this database already: `npm start -- --reset` begins afresh.\n\n";
  console.log(`
Migration Guard is ready.

  API               ${functionUrl}
  REST              ${url}/rest/v1
  Storage           ${url}/storage/v1
  Database          ${databaseUrl({ port: databasePort })}
  secret key        ${secretKeys.default}
  publishable key   ${publishableKeys.default}
  service_role key  ${serviceRoleKey}
  anon key          ${anonKey}

${isMigrated ? hint : ""}Back up the example app's data and verify it, line by line in another terminal:

curl '${functionUrl}/ready?pretty' ${key}
curl -X PUT '${functionUrl}/v1/plans/v10.0?pretty' ${key} ${json} -d '@${plan}'
curl -X POST '${functionUrl}/v1/backups?pretty' ${key} ${json} ${wait} -d '{"version": "v10.0"}'
curl -X POST '${functionUrl}/v1/backups/v10.0/verify?pretty' ${key} ${wait}
curl '${functionUrl}/v1/backups/v10.0/checklist?pretty' ${key}

docs/runbooks/v10.0.md goes on from there, in a terminal that begins with

export API='${functionUrl}' KEY='${secretKeys.default}' DATABASE_URL='${databaseUrl({ port: databasePort })}'

Ctrl-C stops everything; \`npm start -- --help\` lists the options.`);
}

function stop(code: number): Promise<void> {
  stopping ??= (async () => {
    await stack?.stop().catch(() => undefined);
    await postgres?.stop().catch(() => undefined);
    process.exit(code);
  })();
  return stopping;
}

function readOptions() {
  try {
    return parseArgs({
      options: { reset: { type: "boolean" }, verbose: { type: "boolean" }, help: { type: "boolean", short: "h" } },
    }).values;
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${help}`);
    process.exit(1);
  }
}

/** Refuses a second start with the same data, which would take the first one's database away from it. */
function refuseSecondStart() {
  const [pid] = existsSync(startFile) ? [Number(readFileSync(startFile, "utf8"))] : [];
  if (pid && pid !== process.pid && isRunning(pid, "local/start.ts")) {
    throw new Error(
      `A stack with this data is running already (process ${pid}). Stop it, or give the second one its own: DATA_DIRECTORY=… API_PORT=… DB_PORT=… npm start`,
    );
  }
  mkdirSync(folder, { recursive: true });
  writeFileSync(startFile, String(process.pid));
}

function step(text: string) {
  console.error(`${text} …`);
}

function port(variable: string, usual: number): number {
  const text = process.env[variable] ?? String(usual);
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1 || number > 65535) {
    console.error(`${variable}=${text} is no port: it takes a number from 1 to 65535.`);
    process.exit(1);
  }
  return number;
}

function taken(variable: string, number: number, why: string): Error {
  return new Error(
    `Port ${number} is taken (${why}). Free it, or choose another: ${variable}=${number + 1000} npm start`,
  );
}
