import { createPostgresConnection, type PostgresConnection } from "@supabase/lite/postgres";
import type postgres from "postgres";
import { knowArrayTypes } from "./array-types.ts";
import { databaseUrl } from "./database-url.ts";

/** A client of the driver's, of one connection. */
type Client = { sql: postgres.Sql; isGone: boolean };

/** How many connections are lent at most at a time. */
const most = 10;

/**
 * A connection for `@supabase/lite`, which always switches to the caller's role. By itself lite switches only when some table has
 * row level security, and first grants all on every table of such a table's schema to everybody; marking that step as done
 * leaves the database's own grants in force.
 */
export function connectLite(database: { user: string; port: number; database: string }): PostgresConnection {
  const create = (onclose?: () => void) =>
    createPostgresConnection({
      url: databaseUrl(database),
      postgresOptions: {
        max: 1,
        connect_timeout: 2,
        // A client must not change its connection while it is lent.
        max_lifetime: null,
        // The driver would read the array types when it has connected, and where the server goes at that moment the failure is
        // told to nobody, which ends the process.
        fetch_types: false,
        onnotice: () => {},
        onclose,
        // lite hands a JSON argument over as text, which its own serializer would make a JSON string of.
        types: { json: jsonType(114), jsonb: jsonType(3802) },
      },
    });
  const { reserve, end } = lendClients(() => {
    const client: Client = { sql: create(() => client.isGone = true).driver, isGone: false };
    knowArrayTypes(client.sql);
    return client;
  });
  const connection = create();
  // All that lite uses of its driver.
  Object.assign(connection.driver, { reserve, end });
  return Object.assign(connection, { rlsState: "active" });
}

/**
 * The driver's `reserve`, with a client for each connection. Its own never lends a connection that it has to open and does not
 * read the array types of, and takes one that was closed meanwhile back as if it were open.
 */
function lendClients(create: () => Client) {
  const clients = new Set<Client>();
  const idle: Client[] = [];
  const waiting: (() => void)[] = [];
  let lent = 0;
  let isEnded = false;

  function take(): Client {
    for (let client = idle.pop(); client; client = idle.pop()) {
      if (!client.isGone) return client;
      clients.delete(client);
    }
    if (isEnded) throw closedError();
    const client = create();
    clients.add(client);
    return client;
  }

  async function reserve(): Promise<Pick<postgres.ReservedSql, "unsafe" | "release">> {
    if (lent < most) lent++;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    const client = take();
    // On another connection the caller's role would not be switched to.
    const unsafe =
      ((...query: Parameters<postgres.Sql["unsafe"]>) =>
        client.isGone ? Promise.reject(closedError()) : client.sql.unsafe(...query)) as postgres.Sql["unsafe"];
    const release = () => {
      idle.push(client);
      const next = waiting.shift();
      if (next) next();
      else lent--;
    };
    return { unsafe, release };
  }

  const end = async () => {
    isEnded = true;
    await Promise.all([...clients].map(({ sql }) => sql.end({ timeout: 1 })));
  };
  return { reserve, end };
}

const closedError = () => Object.assign(new Error("The connection is closed."), { code: "CONNECTION_CLOSED" });

function jsonType(oid: number) {
  return {
    to: oid,
    from: [oid],
    serialize: (value: unknown) => typeof value === "string" ? value : JSON.stringify(value),
    parse: (text: string): unknown => JSON.parse(text),
  };
}
