import type { TypeName } from "./touch.ts";

/** A name as the file writes it. */
export type Name = { schema?: string; name: string };

/** The object behind a name: as it was called before the migration, or that the migration has made it. */
export type Reference = {
  schema?: string;
  search_path?: string[];
  name: string;
  signature?: TypeName[];
  is_new?: true;
  optional?: true;
};

export type Space = "relation" | "type" | "schema" | "publication" | "extension" | "statistics" | "member";

/** A routine that the file has created, renamed or moved; one name may stand for several, told apart by their types. */
type Routine = { schemas: string[]; signature?: TypeName[]; reference: Reference };

/** Where the platform looks for names without a schema, after the schema that was asked for. */
const platformPath = ["public", "extensions"];

/** What names mean at a point of the file: its own search_path, and what it has renamed, moved and created so far. */
export class Scope {
  path: string[];
  readonly #defaultPath: string[];
  /** The path that a `set local` has put aside. */
  #pathAfter: string[] | undefined;
  readonly #known = new Map<string, Reference | "gone">();
  readonly #routines = new Map<string, Routine[]>();

  constructor(schema: string) {
    this.#defaultPath = [...new Set([schema, ...platformPath])];
    this.path = this.#defaultPath;
  }

  /** What `set search_path` says; `local` until the transaction ends. Without a path, the platform's. */
  setPath(path: string[] = this.#defaultPath, local = false): void {
    this.#pathAfter = local ? this.#pathAfter ?? this.path : undefined;
    this.path = path;
  }

  endTransaction(): void {
    this.setPath(this.#pathAfter ?? this.path);
  }

  resolve(space: Space, { schema, name }: Name, path = this.path): Reference {
    // Each session has its temporary tables to itself, and looks there first.
    const temporary = this.#known.get(key(space, "pg_temp", name));
    if (schema === "pg_temp") return { schema, name, is_new: true };
    if (schema === undefined && temporary && temporary !== "gone") return temporary;

    const open: string[] = [];
    for (const candidate of schema === undefined ? path : [schema]) {
      const where = this.schema(candidate);
      const known = this.#known.get(key(space, where.name, name)) ??
        (where.is_new ? { schema: candidate, name, is_new: true as const } : undefined);
      if (!known) open.push(where.name);
      else if (known !== "gone") {
        if (open.length === 0 || !(known.is_new || known.optional)) return known;
        return { search_path: known.is_new ? open : [...open, where.name], name, optional: true };
      }
    }
    if (schema !== undefined) return { schema: this.schema(schema).name, name };
    return { search_path: open.length > 0 ? open : path.map((candidate) => this.schema(candidate).name), name };
  }

  /** Notes a new object; `optional` where one of the name may have been there already. */
  create(space: Space, { schema, name }: Name, { optional = false, path = this.path } = {}): Reference {
    const where = this.schema(schema ?? path[0] ?? "");
    const made: Reference = {
      schema: where.is_new ? schema ?? path[0] : where.name,
      name,
      ...(optional && !where.is_new && where.name !== "pg_temp" ? { optional } : { is_new: true }),
    };
    this.#known.set(key(space, where.name, name), made);
    return made;
  }

  /** Notes that an object has a new name or schema from here on. */
  move(space: Space, from: Name, to: Partial<Name>, path = this.path): void {
    const reference = this.resolve(space, from, path);
    // A name without a schema stands for one of several: the new name does as well.
    for (const candidate of from.schema === undefined ? path : [from.schema]) {
      const old = this.schema(candidate).name;
      this.#known.set(key(space, old, from.name), "gone");
      this.#known.set(
        key(space, to.schema === undefined ? old : this.schema(to.schema).name, to.name ?? from.name),
        reference,
      );
    }
  }

  resolveRoutine({ schema, name }: Name, signature: TypeName[] | undefined): Reference {
    const schemas = this.#schemas(schema);
    const known = this.#routines.get(name)?.findLast((routine) =>
      routine.schemas.some((candidate) => schemas.includes(candidate)) && agree(signature, routine.signature)
    );
    const given = { ...(schema === undefined ? { search_path: schemas } : { schema: schemas[0]! }), name, signature };
    if (schema !== undefined && this.schema(schema).is_new && !known) return { ...given, schema, is_new: true };
    if (!known) return given;
    if (known.reference.optional && schema === undefined) return { ...given, optional: true };
    return { ...known.reference, signature: known.reference.signature ?? signature };
  }

  createRoutine({ schema, name }: Name, signature: TypeName[] | undefined): void {
    const where = schema ?? this.path[0] ?? "";
    const { name: original, is_new } = this.schema(where);
    const reference = { ...(is_new ? { schema: where, is_new } : { schema: original, optional: true as const }), name };
    this.#note(name, { schemas: [original], signature, reference });
  }

  moveRoutine(from: Name, signature: TypeName[] | undefined, to: Partial<Name>): void {
    const reference = this.resolveRoutine(from, signature);
    this.#note(to.name ?? from.name, { schemas: this.#schemas(to.schema ?? from.schema), signature, reference });
  }

  #schemas(schema: string | undefined): string[] {
    return (schema === undefined ? this.path : [schema]).map((candidate) => this.schema(candidate).name);
  }

  #note(name: string, routine: Routine): void {
    const routines = this.#routines.get(name);
    if (routines) routines.push(routine);
    else this.#routines.set(name, [routine]);
  }

  /** A schema by the name that it had before the migration. One that the file has made is told from an old one of that name. */
  schema(name: string): { name: string; is_new?: true } {
    const known = this.#known.get(key("schema", "", name));
    if (!known || known === "gone") return { name };
    return known.is_new ? { name: `new ${name}`, is_new: true } : { name: known.name };
  }
}

const key = (space: Space, schema: string, name: string) => `${space}\0${schema}\0${name}`;

/** Whether two signatures may be one; a missing one is any. */
const agree = (a: TypeName[] | undefined, b: TypeName[] | undefined) =>
  !a || !b ||
  (a.length === b.length && a.every((type, index) => type.name === b[index]!.name && type.array === b[index]!.array));
