import type { HonoRequest } from "hono";
import { invalidMigration } from "./derive/invalid-migration.ts";

/**
 * The text of a request whose body is a migration file; empty where there is no body.
 *
 * @throws {Problem} `invalid_migration`, when it is not UTF-8.
 */
export async function migrationText(request: HonoRequest): Promise<string> {
  const bytes = await request.arrayBuffer();
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw invalidMigration(null, "it is not in UTF-8");
  }
}
