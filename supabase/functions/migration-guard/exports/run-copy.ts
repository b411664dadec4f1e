import type { Readable, Writable } from "node:stream";
import type postgres from "postgres";

/** A connection, a pool, or a transaction. */
export type CopySession = Pick<postgres.Sql, "unsafe">;

export type RunningCopy = {
  /** Rows, as the server counts them. Rejects with what the server refuses, or the connection fails with. */
  finished: Promise<number>;
  /** Asks the server to stop; settled when it has been told, so that nothing that comes afterwards is stopped instead. */
  cancel: () => Promise<void>;
};

/** What the driver calls on its own queries. */
type Query = {
  resolve: (value: Readable | Writable | { count: number }[]) => void;
  reject: (error: unknown) => void;
  canceller: (query: Query) => Promise<void>;
  active: boolean;
  simple: () => Query;
  execute: () => Query;
  catch: (handle: () => void) => void;
};

/**
 * Runs a `copy`, and lends its stream before the first of its data comes.
 *
 * The driver (3.4.9) resolves such a query with the stream as soon as the server is ready. How the copy ends it tells the query, too,
 * which by then is settled: a row that is refused would never be heard of. Hence both are listened to where they are told.
 *
 * @throws {TypeError} By `finished`, where the statement is no `copy` from or to the client.
 */
export function runCopy<Stream extends Readable | Writable>(
  session: CopySession,
  statement: string,
  take: (stream: Stream) => void,
): RunningCopy {
  const query = session.unsafe(statement) as unknown as Query;
  const { promise: finished, resolve, reject } = Promise.withResolvers<number>();
  const own = { resolve: query.resolve, reject: query.reject };
  let isCopy = false;
  query.resolve = (value) => {
    own.resolve(value);
    if (!Array.isArray(value)) {
      isCopy = true;
      // An error of the server destroys the stream as well.
      value.on("error", () => {});
      take(value as Stream);
    } else if (isCopy) resolve((value as unknown as { count: number }).count);
    else reject(new TypeError("The statement is no copy from or to the client."));
  };
  query.reject = (error) => {
    own.reject(error);
    reject(error);
  };
  // Whoever waits for `finished` is told.
  finished.catch(() => {});
  query.simple().execute().catch(() => {});
  return {
    finished,
    cancel: () => {
      // Settled with a stream it counts as done, and as such would not be cancelled.
      query.active = true;
      return query.canceller(query);
    },
  };
}
