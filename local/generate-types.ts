import { spawnSync } from "node:child_process";
import { databaseUrl } from "./database-url.ts";
import { supabase } from "./database.ts";
import { deno } from "./edge-runtime.ts";

/**
 * The TypeScript types of the RPC surface, as the Supabase CLI makes them from a database, formatted like the rest:
 * the text of `supabase/functions/migration-guard/database.types.ts`.
 */
export async function generateTypes(options: { port: number; database: string }): Promise<string> {
  const output = await supabase(["gen", "types", "--schema", "migration_guard_api", "--remote", databaseUrl(options)]);
  // The CLI's remarks on the connection come before the types.
  const types = output.slice(output.indexOf("export type Json"));
  const { stdout, stderr, status } = spawnSync(deno, ["fmt", "--no-config", "--line-width=120", "--ext=ts", "-"], {
    input: `// Written by \`npm run types\` from the SQL in supabase/migrations. Do not edit.\n${types}`,
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`deno fmt failed: ${stderr}`);
  return stdout;
}
