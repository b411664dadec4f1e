import type { Migration } from "./parse-migration.ts";

/** How many characters of bodies are searched: the database has a time limit, and a file may be nothing but bodies. */
const searchedCharacters = 256 * 1024;

/** A migration without the bodies that are too much to be searched, and with a warning for each of these. */
export function boundBodies({ touches, warnings }: Migration): Migration {
  const bounded: Migration = { touches: [], warnings: [...warnings] };
  let searched = 0;
  for (const touch of touches) {
    const { body, ...bodiless } = touch;
    const length = body?.length ?? 0;
    if (searched + length <= searchedCharacters) {
      searched += length;
      bounded.touches.push(touch);
    } else {
      const { line, statement, name } = touch;
      const detail = `The bodies of the file's functions are too long to be searched all: that of ${name} is not.`;
      bounded.touches.push(bodiless);
      bounded.warnings.push({ line, code: "effect_unknown", statement, detail });
    }
  }
  return bounded;
}
