import fc from "fast-check";

/** As much of a text as Postgres keeps of a name: 63 bytes, cut between characters. */
export function cut(text: string, bytes = 63): string {
  const characters = [...text];
  while (Buffer.byteLength(characters.join("")) > bytes) characters.pop();
  return characters.join("");
}

export const ident = (name: string) => `"${name.replaceAll('"', '""')}"`;
export const literal = (text: string) => `'${text.replaceAll("'", "''")}'`;

/** Names that look like something else to whoever does not quote them, reads them with a pattern, or splits at a sign. */
export const hostileNames = [
  ...new Set([
    ...[
      `"`,
      `""`,
      `"""`,
      `'`,
      `''`,
      `\\`,
      `\\\\`,
      `\\'`,
      `\\"`,
      `E'\\''`,
      "`",
      "$$",
      "$guard$",
      "$1",
      "$query$",
      "$_$",
    ],
    ...[
      "%",
      "%I",
      "%s %L %1$I",
      "%%s",
      "{0}",
      "&",
      "#",
      "~",
      "^",
      "?",
      "*",
      ".*",
      "[",
      "(",
      ")",
      "()",
      "(*)",
      "{",
      "}",
    ],
    ...[
      ";",
      ";;",
      "--",
      "-- ",
      "/*",
      "*/",
      "/* */",
      "@",
      "+",
      "/",
      "a@b",
      "statement@1+1",
      "a/b/c",
      ",",
      "a, b",
      "a,b",
    ],
    ...[
      " ",
      "  ",
      " leading",
      "trailing ",
      " both ",
      "\t",
      "\n",
      "\r\n",
      "a\nb",
      "\n\n;\n",
      "\v\f",
      "\u0001",
      "\u007f",
    ],
    ...[
      "select",
      "from",
      "table",
      "all",
      "null",
      "true",
      "default",
      "only",
      "group",
      "user",
      "public ",
      "current_user",
    ],
    ...["PUBLIC", "Public", "UPPER", "Mixed.Case", "a.b", ".", "..", "a b", "1", "1e3", "0x1", "-1", "=", "=r/", "a=b"],
    ...["pg_class", "migration_guard", "migration_guard_1", "objects_backup", "tables_backup", "profiles_backup"],
    ...[
      "discarded_at",
      "discarded_by",
      "x_discarded",
      "x_backup",
      "t",
      "b",
      "s",
      "c",
      "d",
      "l",
      "r",
      "u",
      "x",
      "key",
      "row",
      "whole",
      "k1",
      "s1",
    ],
    ...[" grant all on ", "x) grant select on ", " to public", "in schema", " with grant option", " on tables"],
    ...[" set default ", " add constraint x not null ", " alter column x type ", "x using (1/0)", " CHECK (false)"],
    ...[" FOREIGN KEY (a) REFERENCES b(c)", " UNIQUE (x)", "\n;alter table ", '";\nalter table "', "(sequence name x)"],
    ...["x (y) overriding system value select 1/0", "'); select 1/0; --", '"; select 1/0; --', "$$; select 1/0; --"],
    ...[
      "\u00e9",
      "e\u0301",
      "ß",
      "İ",
      "ı",
      "Ω",
      "漢字",
      "🐘",
      "👩‍👩‍👧‍👦",
      "\u200b",
      "\u202e",
      "\ufeff",
      "\u0301",
      "\uffff",
      "\u{10ffff}",
    ],
    ...[
      "x".repeat(63),
      `${"y".repeat(62)}"`,
      cut("ж".repeat(40)),
      cut("漢".repeat(40)),
      cut("🐘".repeat(40)),
      cut(`a${"é".repeat(40)}`),
    ],
    ...[`${"z".repeat(55)}_backup`, `${"w".repeat(56)}`, `${"w".repeat(57)}`, cut(`"${"🐘'".repeat(20)}`)],
  ]),
];

/** As many different names as are asked for, of characters from anywhere in Unicode; the same for the same seed. */
export function randomNames(count: number, seed: number): string[] {
  const anywhere = fc.string({ unit: "binary", minLength: 1, maxLength: 70 });
  const signs = fc.string({
    unit: fc.constantFrom(...`"'\\$%;-/*@+,.()[]{}=<>~!#^&|?: \n\tab`),
    minLength: 1,
    maxLength: 70,
  });
  const names = new Set<string>();
  for (let round = 0; names.size < count; round++) {
    for (const text of fc.sample(fc.oneof(anywhere, signs), { seed: seed + round, numRuns: count })) {
      const name = cut(text.replaceAll("\0", ""));
      if (name !== "" && names.size < count) names.add(name);
    }
  }
  return [...names];
}
