/**
 * Each of some blocks, whose memory is given back when the next one is asked for: left to the garbage collector, it would lie about
 * until there is much more. Each must have a buffer of its own.
 */
export function* giveBack(blocks: Iterable<Uint8Array<ArrayBuffer>>): Iterable<Uint8Array<ArrayBuffer>> {
  for (const block of blocks) {
    yield block;
    block.buffer.transfer(0);
  }
}
