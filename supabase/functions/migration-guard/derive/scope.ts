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

/** A routine that the file has created, renamed or moved; the one of the highest order is the last. */
type Routine = { order: number; reference: Reference };

/** A point of the file that a rollback may go back to. */
type Mark = { name: string; steps: number; path: string[]; pathAfter?: string[] };

/** Where the platform looks for names without a schema, after the schema that was asked for. */
const platformPath = ["public", "extensions"];

/** What names mean at a point of the file: its own search_path, and what it has renamed, moved and created so far. */
export class Scope {
  path: string[];
  readonly #defaultPath: string[];
  /** The path that a `set local` has put aside. */
  #pathAfter: string[] | undefined;
  readonly #known = new Map<string, Reference | "gone">();
  readonly #routines = new Map<string, Routine>();
  #order = 0;
  /** Keys of what is temporary, and of that which goes with the transaction. */
  readonly #temporary = new Set<string>();
  readonly #dropsOnCommit = new Set<string>();
  /** The transaction that is open, and its savepoints. */
  readonly #marks: Mark[] = [];
  /** Where the savepoints of each name are among them. */
  readonly #places = new Map<string, number[]>();
  /** How to take back what has been noted since the transaction began, step by step. */
  readonly #undo: (() => void)[] = [];

  constructor(schema: string) {
    this.#defaultPath = [...new Set([schema, ...platformPath])];
    this.path = this.#defaultPath;
  }

  /** What `set search_path` says; `local` until the transaction ends. Without a path, the platform's. */
  setPath(path: string[] = this.#defaultPath, local = false): void {
    this.#pathAfter = local ? this.#pathAfter ?? this.path : undefined;
    this.path = path;
  }

  begin(): void {
    // A second one is a warning of Postgres's, and nothing else.
    if (this.#marks.length === 0) this.#mark();
  }

  savepoint(name: string): void {
    if (this.#marks.length > 0) this.#mark(name);
  }

  release(name: string): void {
    const index = this.#findMark(name);
    if (index > 0) this.#cutMarks(index);
  }

  rollbackTo(name: string): void {
    const index = this.#findMark(name);
    if (index <= 0) return;
    this.#takeBack(this.#marks[index]!);
    this.#cutMarks(index + 1);
  }

  commit(): void {
    for (const key of this.#dropsOnCommit) this.#known.delete(key);
    this.#endTransaction();
  }

  /** Without a `begin` there is nothing that the file is known to take back. */
  rollback(): void {
    if (this.#marks.length > 0) this.#takeBack(this.#marks[0]!);
    this.#endTransaction();
  }

  #endTransaction(): void {
    this.#dropsOnCommit.clear();
    this.#cutMarks(0);
    this.#undo.length = 0;
    this.setPath(this.#pathAfter ?? this.path);
  }

  #mark(name = ""): void {
    const places = this.#places.get(name);
    if (places) places.push(this.#marks.length);
    else this.#places.set(name, [this.#marks.length]);
    this.#marks.push({ name, steps: this.#undo.length, path: this.path, pathAfter: this.#pathAfter });
  }

  #findMark(name: string): number {
    return this.#places.get(name)?.at(-1) ?? -1;
  }

  #cutMarks(length: number): void {
    for (const { name } of this.#marks.splice(length)) this.#places.get(name)!.pop();
  }

  #takeBack({ steps, path, pathAfter }: Mark): void {
    while (this.#undo.length > steps) this.#undo.pop()!();
    [this.path, this.#pathAfter] = [path, pathAfter];
  }

  resolve(space: Space, { schema, name }: Name, path = this.path): Reference {
    // Each session has its temporary tables to itself, and looks there first.
    if (schema === "pg_temp") return this.#temporaryOf(space, name) ?? { schema, name, is_new: true };
    const temporary = schema === undefined ? this.#temporaryOf(space, name) : undefined;
    if (temporary?.optional) return { ...this.#resolveIn(space, { name }, path), optional: true };
    return temporary ?? this.#resolveIn(space, schema === undefined ? { name } : { schema, name }, path);
  }

  #resolveIn(space: Space, { schema, name }: Name, path: string[]): Reference {
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
    this.#note(space, where.name, name, made);
    return made;
  }

  /** Says that a temporary table goes when its transaction ends, which may be at once. */
  dropOnCommit(name: string): void {
    for (const space of ["relation", "type"] as const) {
      const own = key(space, "pg_temp", name);
      // Without a `begin` it depends on who runs the file.
      if (this.#marks.length === 0) this.doubtTemporary(space, name);
      else {
        this.#dropsOnCommit.add(own);
        this.#undo.push(() => this.#dropsOnCommit.delete(own));
      }
    }
  }

  /** Says that something temporary may be there or not: its name may stand for another one as well. */
  doubtTemporary(space: Space, name: string): void {
    this.#note(space, "pg_temp", name, { schema: "pg_temp", name, optional: true });
  }

  /** Forgets an object, so that its name stands for another one from here on. */
  drop(space: Space, { schema, name }: Name, path = this.path): void {
    if (this.#isTemporary(space, { schema, name })) {
      return this.#note(space, "pg_temp", name, "gone");
    }
    const schemas = (schema === undefined ? path : [schema]).map((candidate) => this.schema(candidate).name);
    const known = schemas.map((candidate) => this.#known.get(key(space, candidate, name)));
    const first = known.findIndex((reference) => reference !== "gone");
    const dropped = known.find((reference) => reference !== undefined && reference !== "gone");
    // The catalog may have one of the name in each schema that nothing is known of: which of them is gone is not known.
    const isCertain = schemas.length === 1 || (dropped && (known[first] || !(dropped.is_new || dropped.optional)));
    if (!isCertain) return;
    schemas.forEach((candidate, index) => {
      if (known[index] === dropped) this.#note(space, candidate, name, "gone");
    });
  }

  #isTemporary(space: Space, { schema, name }: Partial<Name> & { name: string }): boolean {
    return schema === "pg_temp" || (schema === undefined && this.#temporaryOf(space, name) !== undefined);
  }

  /** A member goes where its table is, and has no place of its own. */
  #temporaryOf(space: Space, name: string): Reference | undefined {
    const known = space === "member" ? undefined : this.#known.get(key(space, "pg_temp", name));
    return known === "gone" ? undefined : known;
  }

  #note(space: Space, schema: string, name: string, what: Reference | "gone"): void {
    const own = key(space, schema, name);
    if (schema === "pg_temp") this.#temporary.add(own);
    this.#put(this.#known, own, what);
  }

  /** Puts a value into a map, until a rollback. */
  #put<Value>(map: Map<string, Value>, own: string, value: Value): void {
    const before = map.get(own);
    map.set(own, value);
    if (this.#marks.length === 0) return;
    this.#undo.push(() => before === undefined ? map.delete(own) : map.set(own, before));
  }

  dropTemporary(): void {
    const dropped = [...this.#temporary];
    for (const own of dropped) this.#put(this.#known, own, "gone");
    this.#temporary.clear();
    if (this.#marks.length > 0) this.#undo.push(() => dropped.forEach((own) => this.#temporary.add(own)));
  }

  /** Notes that an object has a new name or schema from here on. */
  move(space: Space, from: Name, to: Partial<Name>, path = this.path): void {
    if (this.#isTemporary(space, from)) {
      const temporary = this.#temporaryOf(space, from.name);
      this.#note(space, "pg_temp", from.name, "gone");
      if (to.name !== undefined && this.#dropsOnCommit.has(key(space, "pg_temp", from.name))) {
        this.dropOnCommit(to.name);
      }
      if (temporary) this.#note(space, "pg_temp", to.name ?? from.name, temporary);
      return;
    }
    const reference = this.resolve(space, from, path);
    // A name without a schema stands for one of several: the new name does as well.
    for (const candidate of from.schema === undefined ? path : [from.schema]) {
      const old = this.schema(candidate).name;
      this.#note(space, old, from.name, "gone");
      this.#note(space, to.schema === undefined ? old : this.schema(to.schema).name, to.name ?? from.name, reference);
    }
  }

  resolveRoutine({ schema, name }: Name, signature: TypeName[] | undefined): Reference {
    const schemas = this.#schemas(schema);
    const known = this.#lastRoutine(schemas, name, signature);
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
    this.#noteRoutine([original], name, signature, reference);
  }

  moveRoutine(from: Name, signature: TypeName[] | undefined, to: Partial<Name>): void {
    const reference = this.resolveRoutine(from, signature);
    this.#noteRoutine(this.#schemas(to.schema ?? from.schema), to.name ?? from.name, signature, reference);
  }

  #schemas(schema: string | undefined): string[] {
    return (schema === undefined ? this.path : [schema]).map((candidate) => this.schema(candidate).name);
  }

  #lastRoutine(schemas: string[], name: string, signature: TypeName[] | undefined): Routine | undefined {
    const types = signature ? [typesOf(signature), unknownTypes] : [anyTypes];
    return schemas
      .flatMap((schema) => types.map((own) => this.#routines.get(routineKey(schema, name, own))))
      .reduce((last, routine) => routine && (!last || routine.order > last.order) ? routine : last, undefined);
  }

  #noteRoutine(schemas: string[], name: string, signature: TypeName[] | undefined, reference: Reference): void {
    const routine = { order: this.#order++, reference };
    const types = [signature ? typesOf(signature) : unknownTypes, anyTypes];
    for (const own of schemas.flatMap((schema) => types.map((type) => routineKey(schema, name, type)))) {
      this.#put(this.#routines, own, routine);
    }
  }

  /** A schema by the name that it had before the migration. One that the file has made is told from an old one of that name. */
  schema(name: string): { name: string; is_new?: true } {
    const known = this.#known.get(key("schema", "", name));
    if (!known || known === "gone") return { name };
    return known.is_new ? { name: `new ${name}`, is_new: true } : { name: known.name };
  }
}

const key = (space: Space, schema: string, name: string) => `${space}\0${schema}\0${name}`;

/** What stands for the types of a routine that gives none, and for those of any. */
const [unknownTypes, anyTypes] = ["?", "*"];

const typesOf = (signature: TypeName[]) => JSON.stringify(signature.map(({ name, array }) => [name, array]));

const routineKey = (schema: string, name: string, types: string) => [schema, name, types].join("\0");
