/** A type in the signature of a routine. */
export type TypeName = {
  /** Missing where the file names none: then the type is one of `pg_catalog` or of the first schema of `search_path` that has it. */
  schema?: string;
  search_path?: string[];
  name: string;
  array?: true;
};

/** What one statement of a migration does to one object. A field that says nothing is left out. */
export type Touch = {
  /** Line of the file on which the statement begins, from 1. */
  line: number;
  /** The statement in a few words: `ALTER TABLE … RENAME COLUMN`. */
  statement: string;
  action: "create" | "alter" | "rename" | "drop" | "data" | "comment" | "grant" | "call";
  kind: string;
  /** Schema of the object, or of its parent; missing where the file names none. */
  schema?: string;
  /** Where to look for an object without a schema, in order. */
  search_path?: string[];
  /** Name before the migration, also where the file has renamed the object already. */
  name: string;
  /** The relation that a column, constraint, trigger, policy or rule belongs to, or the type of an attribute or a value. */
  parent?: string;
  /** Types of a routine's arguments; missing where the file leaves them out. */
  signature?: TypeName[];
  /** `cascade` was said. */
  cascade?: true;
  new_name?: string;
  /** Text of a routine that the file makes, where Postgres keeps it as a text. */
  body?: string;
  /** All objects of this kind in a schema are meant, and not the schema itself. */
  contents?: string;
  /** The file has made the object itself: there is nothing to look up. */
  is_new?: true;
  /** The object may be missing: `if exists` was said, or the file may have made it itself. */
  optional?: true;
};

/** What the file does that no plan can answer for. */
export type Warning = { line: number | null; code: string; statement: string; detail: string };
