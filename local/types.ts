// `npm run types`: writes the types of the RPC surface from the SQL in supabase/migrations, by way of a new database.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { createPlatformRoles, createPlatformSchemas, pushMigrations } from "./database.ts";
import { freePort, functionDirectory } from "./edge-runtime.ts";
import { generateTypes } from "./generate-types.ts";
import { removeData, startPostgres } from "./postgres.ts";

const help = `Writes the types of the RPC surface, supabase/functions/migration-guard/database.types.ts, from the SQL in
supabase/migrations. Starts a Postgres of its own in a temporary folder, and removes it.

  npm run types`;

try {
  if (parseArgs({ options: { help: { type: "boolean", short: "h" } } }).values.help) {
    console.log(help);
    process.exit(0);
  }
} catch (error) {
  console.error(`${(error as Error).message}\n\n${help}`);
  process.exit(1);
}

const folder = mkdtempSync(join(tmpdir(), "migration-guard-types-"));
const dataDirectory = join(folder, "postgres");
const port = await freePort();
const postgres = await startPostgres({ dataDirectory, port, settings: { fsync: "off" } });
try {
  await createPlatformRoles(port);
  await createPlatformSchemas({ port, database: "postgres" });
  await pushMigrations({ port, database: "postgres" });
  const file = join(functionDirectory, "database.types.ts");
  writeFileSync(file, await generateTypes({ port, database: "postgres" }));
  console.log(`Wrote ${file}`);
} finally {
  await postgres.stop();
  removeData(dataDirectory);
  rmSync(folder, { recursive: true, force: true });
}
