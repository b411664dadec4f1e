/**
 * Each of some blocks, whose memory is given back when the next one is asked for: left to the garbage collector, it would lie about
 * until there is much more. Nobody else may look at their buffers any more.
 */
export function* giveBack(blocks: Iterable<Uint8Array<ArrayBuffer>>): Iterable<Uint8Array<ArrayBuffer>> {
  for (const block of blocks) {
    yield block;
    // Short ones may have one together.
    if (!block.buffer.detached) block.buffer.transfer(0);
  }
}
