import type { Readable } from "node:stream";
import { CopyTooLarge } from "./copy-too-large.ts";
import { type CopySession, runCopy } from "./run-copy.ts";

/** The text of a `copy`, in the order in which it came. */
export type CopiedOut = {
  /** Each of 64 KiB, but the last, with a buffer of its own. */
  blocks: Uint8Array<ArrayBuffer>[];
  bytes: number;
  /** Rows, as the server counts them: the line ends of the text are as many. */
  rows: number;
};

const blockSize = 65_536;

/**
 * Runs a `copy … to stdout` and gathers its text in memory, `maxBytes` at most. In any case the connection can be used afterwards;
 * a transaction in which it has failed is aborted, as by any error.
 *
 * @throws {CopyTooLarge} When more than that comes: the server is asked to stop, and what still comes is thrown away.
 * @throws {postgres.PostgresError} What the server raises.
 */
export async function copyOut(
  session: CopySession,
  statement: string,
  { maxBytes }: { maxBytes: number },
): Promise<CopiedOut> {
  let blocks: Uint8Array<ArrayBuffer>[] = [];
  let bytes = 0;
  let block = new Uint8Array(blockSize);
  let used = 0;
  let cancelled: Promise<void> | undefined;

  function endBlock() {
    if (used > 0) blocks.push(block.subarray(0, used));
    block = new Uint8Array(blockSize);
    used = 0;
  }

  function gather(row: Uint8Array) {
    if (cancelled) return;
    bytes += row.length;
    if (bytes > maxBytes) {
      blocks = [];
      // Where the server cannot be asked, the rest of the copy is waited for.
      cancelled = copy.cancel().catch(() => {});
      return;
    }
    for (let at = 0; at < row.length;) {
      const part = row.subarray(at, at + blockSize - used);
      block.set(part, used);
      used += part.length;
      at += part.length;
      if (used === blockSize) endBlock();
    }
  }

  const copy = runCopy<Readable>(session, statement, (stream) => {
    // The driver stops reading from its socket when a stream is full, and sometimes does not begin again. This one never is;
    // it gives away a part of the buffer that it reads into, so that this is copied at once.
    stream.push = (row: Uint8Array | null) => {
      if (row !== null) gather(row);
      return true;
    };
  });
  try {
    const rows = await copy.finished;
    if (cancelled) throw new CopyTooLarge(maxBytes);
    endBlock();
    return { blocks, bytes, rows };
  } catch (error) {
    if (!cancelled) throw error;
    await cancelled;
    throw new CopyTooLarge(maxBytes);
  }
}
