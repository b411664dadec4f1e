import type { Writable } from "node:stream";
import { type CopySession, runCopy } from "./run-copy.ts";

/**
 * Runs a `copy … from stdin` with the text of `blocks`, and gives the number of rows as the server counts them. In any case the
 * connection can be used afterwards, and where it has failed no row is kept; a transaction is aborted then, as by any error.
 *
 * @throws {postgres.PostgresError} When the server refuses a row, or the whole.
 * @throws What `blocks` throws: the copy is called off.
 */
export async function copyIn(
  session: CopySession,
  statement: string,
  blocks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<number> {
  const ready = Promise.withResolvers<Writable>();
  const { finished } = runCopy<Writable>(session, statement, ready.resolve);
  const stream = await Promise.race([ready.promise, finished]);
  if (typeof stream === "number") return stream;
  // Nothing is written to a server that has refused: the stream would tell of it to nobody.
  const failed = finished.then(() => {});
  try {
    for await (const block of blocks) {
      await Promise.race([
        new Promise<void>((resolve) => stream.write(block, () => resolve())),
        failed,
      ]);
    }
  } catch (error) {
    // The message is what the server's log shows.
    stream.destroy(new Error("called off"));
    // An error of the server came first, or follows from this one.
    await finished.catch(() => {});
    throw error;
  }
  stream.end();
  return await finished;
}
