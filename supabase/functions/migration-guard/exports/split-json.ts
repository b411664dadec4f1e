/** Where a value is in a text. */
export type Span = { start: number; end: number };

const [quote, backslash, comma, colon] = [0x22, 0x5c, 0x2c, 0x3a];
const [openBracket, closeBracket, openBrace, closeBrace] = [0x5b, 0x5d, 0x7b, 0x7d];

/**
 * Where the elements of an array are in JSON, which is not parsed: what it becomes in memory is many times as large, and some of it
 * nobody needs. What is between the brackets of an element need not be JSON.
 *
 * @throws {SyntaxError} Where it is no array.
 */
export function* elementsOf(json: Uint8Array, span: Span): Generator<Span> {
  let start = afterSpace(json, expectByte(json, span.start, openBracket));
  if (json[start] !== closeBracket) {
    for (;;) {
      const end = endOfValue(json, start);
      yield { start, end };
      if (json[end] !== comma) {
        start = end;
        break;
      }
      start = end + 1;
    }
  }
  expectEnd(json, expectByte(json, start, closeBracket), span.end);
}

/**
 * Where the members of an object are in JSON: see {@link elementsOf}.
 *
 * @throws {SyntaxError} Where it is no object.
 */
export function* membersOf(json: Uint8Array, span: Span): Generator<{ name: Span; value: Span }> {
  let start = afterSpace(json, expectByte(json, span.start, openBrace));
  if (json[start] !== closeBrace) {
    for (;;) {
      start = afterSpace(json, start);
      if (json[start] !== quote) throw new SyntaxError("a member has no name");
      const name = { start, end: endOfString(json, start) };
      start = expectByte(json, name.end, colon);
      const end = endOfValue(json, start);
      yield { name, value: { start, end } };
      start = end;
      if (json[end] !== comma) break;
      start = end + 1;
    }
  }
  expectEnd(json, expectByte(json, start, closeBrace), span.end);
}

function afterSpace(json: Uint8Array, at: number): number {
  while (json[at] === 0x20 || json[at] === 0x0a || json[at] === 0x0d || json[at] === 0x09) at++;
  return at;
}

/** Where what comes after a byte begins, which comes next but for space. */
function expectByte(json: Uint8Array, at: number, byte: number): number {
  at = afterSpace(json, at);
  if (json[at] !== byte) throw new SyntaxError(`there is no ${String.fromCharCode(byte)}`);
  return at + 1;
}

function expectEnd(json: Uint8Array, at: number, end: number): void {
  if (afterSpace(json, at) !== end) throw new SyntaxError("there is more after it");
}

function endOfString(json: Uint8Array, start: number): number {
  for (let at = start + 1; at < json.length; at++) {
    if (json[at] === backslash) at++;
    else if (json[at] === quote) return at + 1;
  }
  throw new SyntaxError("a string does not end");
}

/** Where the comma or the bracket is that comes after a value. */
function endOfValue(json: Uint8Array, start: number): number {
  let depth = 0;
  for (let at = start; at < json.length; at++) {
    const byte = json[at];
    if (byte === quote) at = endOfString(json, at) - 1;
    else if (byte === openBracket || byte === openBrace) depth++;
    else if (byte === closeBracket || byte === closeBrace) {
      if (depth-- === 0) return at;
    } else if (byte === comma && depth === 0) return at;
  }
  throw new SyntaxError("a value does not end");
}
