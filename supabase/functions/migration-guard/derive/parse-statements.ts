import type { RawStmt } from "libpg-query";
import { logError } from "../log-error.ts";
import { Problem } from "../problems.ts";
import { invalidMigration } from "./invalid-migration.ts";
import type { LineFinder } from "./line-finder.ts";

/** What the parser's WebAssembly offers, as Emscripten wraps it. */
type Parser = {
  readonly HEAPU8: Uint8Array;
  getValue(address: number, type: "i32"): number;
  lengthBytesUTF8(text: string): number;
  stringToUTF8(text: string, address: number, size: number): void;
  UTF8ToString(address: number): string;
  _malloc(size: number): number;
  _free(address: number): void;
  _wasm_parse_query_raw(text: number): number;
  _wasm_free_parse_result(result: number): void;
};

type Parsed = { tree: string } | { message: string; position: number };

type Loaded = { parser: Parser; heap: number };

/** The parser in use, for all requests: each has a memory of 128 MiB to begin with. */
let current: Promise<Loaded> | undefined;

/**
 * The statements of a file, by the grammar of Postgres. The parser is loaded when it is first wanted: it is a megabyte
 * and a half that no other route has a use for.
 *
 * @throws {Problem} `invalid_migration`, when the grammar refuses the file; `parser_failed`, when the parser itself fails.
 */
export async function parseStatements(text: string, lines: LineFinder): Promise<RawStmt[]> {
  let [awaited, loaded]: [typeof current, Loaded?] = [undefined];
  // Another request may have thrown the parser away while this one waited for it.
  while (!loaded || awaited !== current) {
    awaited = current ??= load();
    loaded = await awaited;
  }
  const { parser, heap } = loaded;
  let parsed: Parsed | undefined;
  try {
    parsed = parse(parser, text);
  } catch (error) {
    // The stack is used up, that of JavaScript or the parser's own; neither knows a line.
    const isStack = error instanceof RangeError ||
      (error instanceof WebAssembly.RuntimeError && !error.message.startsWith("Aborted"));
    throw isStack ? invalidMigration(null, "an expression is nested too deeply to be read") : parserFailed(error);
  } finally {
    // After a trap nothing holds of what is in the memory, and memory that has grown is never given back.
    if (!parsed || parser.HEAPU8.length > heap) current = undefined;
  }
  if ("tree" in parsed) return (JSON.parse(parsed.tree) as { stmts?: RawStmt[] }).stmts ?? [];
  const { message, position } = parsed;
  if (!message.startsWith("out of memory")) throw invalidMigration(lines.ofCharacter(position), message);
  current = undefined;
  throw parserFailed(message);
}

async function load(): Promise<Loaded> {
  try {
    // The package's own index makes one parser and keeps it, whatever happens to it.
    // @ts-ignore: the package has no types for this file
    const { default: create } = await import("libpg-query/wasm/libpg-query.js");
    const parser = await create() as Parser;
    return { parser, heap: parser.HEAPU8.length };
  } catch (error) {
    current = undefined;
    throw parserFailed(error);
  }
}

/** Frees nothing when it throws: the parser is of no more use then. */
function parse(parser: Parser, text: string): Parsed {
  const size = parser.lengthBytesUTF8(text) + 1;
  const query = parser._malloc(size);
  if (query === 0) throw new Error("out of memory");
  parser.stringToUTF8(text, query, size);
  const result = parser._wasm_parse_query_raw(query);
  if (result === 0) throw new Error("out of memory");
  const field = (address: number, index: number) => parser.getValue(address + 4 * index, "i32");
  // A result is {tree, output, error}; an error is {message, function, file, line of that, position from 1}.
  const [tree, error] = [field(result, 0), field(result, 2)];
  const parsed = error === 0
    ? { tree: parser.UTF8ToString(tree) }
    : { message: parser.UTF8ToString(field(error, 0)), position: Math.max(field(error, 4) - 1, 0) };
  parser._wasm_free_parse_result(result);
  parser._free(query);
  return parsed;
}

function parserFailed(cause: unknown): Problem {
  logError("parser_failed", { cause: String(cause) });
  return new Problem("parser_failed", {
    detail: "It is started anew: send the file once more, and split it if that does not help.",
  });
}
