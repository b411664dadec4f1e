const newline = 10;
const carriageReturn = 13;
const whitespace = new Set([9, 10, 11, 12, 13, 32]);
const [dash, slash, star, semicolon] = [45, 47, 42, 59];

/** Tells lines from offsets. The parser counts statements in bytes of UTF-8, and errors in characters. */
export class LineFinder {
  readonly #bytes: Uint8Array;
  /** Offset at which each line begins. */
  readonly #starts: number[] = [0];

  constructor(readonly text: string) {
    this.#bytes = new TextEncoder().encode(text);
    this.#bytes.forEach((byte, offset) => {
      if (byte === newline || (byte === carriageReturn && this.#bytes[offset + 1] !== newline)) {
        this.#starts.push(offset + 1);
      }
    });
  }

  /** Line of the statement that begins at a byte or behind it, after whitespace and comments. */
  ofStatement(offset: number): number {
    return this.#lineAt(this.#skipComments(offset));
  }

  /** Line of a character, counted as Postgres does: one for each code point. */
  ofCharacter(position: number): number {
    let offset = 0;
    for (let seen = 0; offset < this.#bytes.length; offset++) {
      const startsCharacter = (this.#bytes[offset]! & 0xc0) !== 0x80;
      if (startsCharacter && seen++ === position) break;
    }
    return this.#lineAt(offset);
  }

  #lineAt(offset: number): number {
    let [low, high] = [0, this.#starts.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#starts[middle]! <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #skipComments(offset: number): number {
    const bytes = this.#bytes;
    while (offset < bytes.length) {
      if (whitespace.has(bytes[offset]!) || bytes[offset] === semicolon) offset++;
      else if (bytes[offset] === dash && bytes[offset + 1] === dash) {
        while (offset < bytes.length && bytes[offset] !== newline && bytes[offset] !== carriageReturn) offset++;
      } else if (bytes[offset] === slash && bytes[offset + 1] === star) offset = this.#endOfComment(offset);
      else break;
    }
    return offset;
  }

  /** Comments nest. */
  #endOfComment(offset: number): number {
    const bytes = this.#bytes;
    let depth = 0;
    do {
      if (bytes[offset] === slash && bytes[offset + 1] === star) [depth, offset] = [depth + 1, offset + 2];
      else if (bytes[offset] === star && bytes[offset + 1] === slash) [depth, offset] = [depth - 1, offset + 2];
      else offset++;
    } while (depth > 0 && offset < bytes.length);
    return offset;
  }
}
