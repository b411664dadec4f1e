import fc from "fast-check";

/** Texts that have broken something somewhere. */
const texts = [
  ...[
    "",
    " ",
    "\0",
    "a\0b",
    "\ud800",
    "x\udfff",
    "\u202e",
    "\ufeff",
    "é".normalize("NFD"),
    "👩‍👩‍👧‍👦".repeat(50),
    "İ",
    "\r\n",
    "\x1b[31m",
  ],
  ...[
    "'",
    "''",
    '"',
    "\\",
    "$$",
    "$1",
    "%s",
    "%I",
    "%00",
    "{}",
    "--",
    "/*",
    ";",
    "' or 1=1 --",
    "'; drop schema public cascade; --",
  ],
  ...[
    "v10'; select pg_sleep(9); --",
    '"; drop table public.profiles; --',
    "$$; do $$ begin end $$",
    "pg_catalog.set_config('role','postgres',false)",
  ],
  ...[
    "../../../etc/passwd",
    "..",
    ".",
    "%2e%2e%2f",
    "%2F",
    "%252F",
    "/",
    "//",
    "\\..\\",
    "file:///etc/passwd",
    "http://169.254.169.254/",
  ],
  ...["null", "undefined", "NaN", "true", "0", "-1", "1e999", "9223372036854775808", "0x10", "[]", "[object Object]"],
  ...[
    "__proto__",
    "constructor",
    "toString",
    "hasOwnProperty",
    "x".repeat(10_000),
    "v10".repeat(100),
    "v999999999999",
    "v10.0.0",
    "V10",
    "v٣",
  ],
  ...[
    "00000000-0000-0000-0000-000000000000",
    "2026-02-30T00:00:00Z",
    "+275760-09-13T00:00:00Z",
    "0000-00-00T00:00:00Z",
    "-infinity",
  ],
  ...["sb_secret_", "eyJhbGciOiJub25lIn0.e30.", "*", "null\u0000", "<script>", "{{7*7}}", "${7*7}", "select 1"],
];

export const hostileText = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...texts) },
  { weight: 2, arbitrary: fc.string({ unit: "binary", maxLength: 60 }) },
  // Halves of surrogate pairs among others.
  { weight: 1, arbitrary: fc.array(fc.nat(0xffff), { maxLength: 20 }).map((units) => String.fromCharCode(...units)) },
);

const number = fc.constantFrom(-1, 0, 0.5, 1e21, 1e308, -1e308, 2 ** 31, 2 ** 53, 2 ** 63, -(2 ** 63), 1e-7, 3651, 101);

const nested = (depth: number, open: string, close: string, inner: string) =>
  JSON.parse(open.repeat(depth) + inner + close.repeat(depth)) as unknown;

export const hostileValue: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 4, arbitrary: hostileText },
  { weight: 3, arbitrary: number },
  { weight: 3, arbitrary: fc.constantFrom<unknown>(null, true, false, [], {}, [[]], [null], [{}], { length: 1 }) },
  { weight: 1, arbitrary: fc.array(hostileText, { maxLength: 5 }) },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 3 }) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 2000 }).map((depth) => nested(depth, "[", "]", "1")) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 1000 }).map((depth) => nested(depth, '{"a":', "}", "1")) },
);

/** Texts that are no JSON, or only nearly. */
export const brokenJson = fc.constantFrom(
  ...[
    "{",
    "[",
    '{"a":}',
    "{'a': 1}",
    '{"a": 1,}',
    "\ufeff{}",
    '"',
    "nul",
    "01",
    "NaN",
    "{}{}",
    '{"a": "\t"}',
    "\0",
    "[".repeat(50_000),
  ],
  ...['{"version": "v10"', "<xml/>", "a=1&b=2", "{".repeat(1000)],
);

/** Files that no migration is. */
export const hostileSql = fc.oneof(
  hostileText,
  fc.constantFrom(
    ...[
      "select",
      "'",
      "$$",
      "/*",
      "select '\\",
      ";;;;",
      "drop",
      `select ${"(".repeat(2000)}1${")".repeat(2000)}`,
      `select ${"a.".repeat(500)}b`,
    ],
    ...[
      `drop table "${"x".repeat(5000)}"`,
      "create function f() returns int language sql as 'select 1",
      "copy t from stdin;\n1\n\\.\n",
      "\\i /etc/passwd",
    ],
    ...[
      "alter table public.profiles add column a int; drop schema public cascade",
      `drop table ${Array(500).fill("t").join(",")}`,
      "do $$ begin end $$",
    ],
    ...[
      `select ${"1+".repeat(5000)}1`,
      `select ${"not ".repeat(3000)}true`,
      `select ${"[".repeat(1000)}`,
      "select U&'\\D800'",
      "select E'\\x00'",
    ],
  ),
);

export const oddHeaders: fc.Arbitrary<Record<string, string>> = fc.record({
  prefer: fc.constantFrom(
    "wait=0",
    "wait=-1",
    "wait=99999999999999999999",
    "wait=a",
    "wait=",
    "wait=1e9,",
    "respond-async",
    ";;;=",
    'wait="',
    "x".repeat(4000),
  ),
  "idempotency-key": fc.constantFrom("", " ", "é", "\t", "x".repeat(256), "k", "'; --", "x".repeat(5000)),
  accept: fc.constantFrom(
    "*/*",
    "text/plain",
    "application/sql",
    "text/event-stream",
    "",
    ";q=",
    "a/b;q=9",
    ",,,",
    "application/json;q=0",
    "x".repeat(4000),
  ),
  "last-event-id": fc.constantFrom("0", "x".repeat(3000), "é", "../.."),
  "x-request-id": fc.constantFrom("", "a b", "x".repeat(300), "'; --", "é", "../..", "{}"),
  "x-forwarded-for": fc.constantFrom(
    "",
    "1.2.3.4",
    "::1",
    "::::::",
    "1.2.3.4'; --",
    "unknown, 1.1.1.1",
    "x".repeat(3000),
    "999.999.999.999",
  ),
  "x-http-method-override": fc.constantFrom("DELETE", "PUT"),
  "content-encoding": fc.constantFrom("gzip", "br", "nonsense"),
  origin: fc.constantFrom("null", "https://evil.example", "*"),
  range: fc.constantFrom("bytes=0-0", "rows=5-1"),
  "accept-profile": fc.constantFrom("migration_guard", "public"),
  "content-profile": fc.constantFrom("migration_guard", "public"),
  cookie: fc.constant("a=b; sb=1"),
  "x-migration-guard-source": fc.constant("1.2.3.4"),
  "x-migration-guard-call": fc.constant("forged"),
}, { requiredKeys: [] });

export const contentTypes = fc.constantFrom(
  ...[
    "application/json",
    "application/json; charset=utf-16",
    "application/problem+json",
    "APPLICATION/JSON",
    "text/plain",
    "application/sql",
  ],
  ...[
    "multipart/form-data",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
    "application/jsonx",
    "json",
    "",
    "text/html",
    ";",
  ],
);
