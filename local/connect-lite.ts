import { createPostgresConnection, type PostgresConnection } from "@supabase/lite/postgres";
import { databaseUrl } from "./database-url.ts";

/**
 * A connection for `@supabase/lite`, which always switches to the caller's role. By itself lite switches only when some table has
 * row level security, and first grants all on every table of such a table's schema to everybody; marking that step as done
 * leaves the database's own grants in force.
 */
export function connectLite(database: { user: string; port: number; database: string }): PostgresConnection {
  const connection = createPostgresConnection({
    url: databaseUrl(database),
    postgresOptions: {
      max: 10,
      connect_timeout: 2,
      idle_timeout: 60,
      onnotice: () => {},
      // lite hands a JSON argument over as text, which its own serializer would make a JSON string of.
      types: { json: jsonType(114), jsonb: jsonType(3802) },
    },
  });
  return Object.assign(connection, { rlsState: "active" });
}

function jsonType(oid: number) {
  return {
    to: oid,
    from: [oid],
    serialize: (value: unknown) => typeof value === "string" ? value : JSON.stringify(value),
    parse: (text: string): unknown => JSON.parse(text),
  };
}
