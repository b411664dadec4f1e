import type { Node, ObjectType, ObjectWithArgs, RangeVar } from "libpg-query";
import { CappedList } from "./capped-list.ts";
import { argumentsOf, nameOf, nameOfRelation, strings, typeOf } from "./names.ts";
import { objectKinds } from "./object-kinds.ts";
import { type Name, type Reference, Scope, type Space } from "./scope.ts";
import type { Touch, TypeName, Warning } from "./touch.ts";

export type Action = Touch["action"];

/** What a statement says of an object besides its name. */
export type Detail = {
  /** `cascade` was said. */
  cascade?: boolean;
  /** The object may be missing. */
  optional?: boolean;
  new_name?: string;
  new_schema?: string;
  /** Kind of all the objects of a schema that are meant, and not the schema. */
  contents?: string;
  /** Text of a routine. */
  body?: string;
};

/** What a new object may be besides new: there already, or of another search_path. */
type Creation = { optional?: boolean; path?: string[] };

/** The separator of the parts of a name that the scope knows one thing by. */
const part = "\0";

/** Gathers what the statements of a file touch, one by one and in order, and what names mean on the way. */
export class MigrationReader {
  readonly #touches = new CappedList<Touch>();
  readonly #warnings = new CappedList<Warning>();
  readonly scope: Scope;
  line = 1;
  readonly #seen = new Set<string>();
  /** Names of relations that the file has given a trigger or a rule. */
  readonly #firing = new Set<string>();

  constructor(schema: string) {
    this.scope = new Scope(schema);
  }

  warn(code: string, statement: string, detail: string): void {
    this.#warnings.push({ line: this.line, code, statement, detail });
  }

  /** What has been read so far. A list that was cut says so: what is left out must not be taken for nothing. */
  get migration(): { touches: Touch[]; warnings: Warning[] } {
    const [touches, warnings] = [this.#touches, this.#warnings];
    return {
      touches: touches.items,
      warnings: [
        ...warnings.items,
        ...tooMany(touches, "objects are touched from here on, which are looked for nowhere: split the file"),
        ...tooMany(warnings, "warnings would follow from here on: split the file, or read the rest of it by yourself"),
      ],
    };
  }

  /** Something that is no part of a schema, or that a backup cannot hold. */
  outside(statement: string, what: string): void {
    this.warn("outside_the_backup", statement, `A backup holds no ${what}: note by yourself what it was before.`);
  }

  relation(statement: string, action: Action, kind: string, name: Name | RangeVar, detail: Detail = {}): Reference {
    const relation = "relname" in name ? nameOfRelation(name) : name as Name;
    const reference = this.scope.resolve("relation", relation);
    this.#touch(statement, action, kind, reference, detail);
    if (action === "drop") {
      this.scope.drop("relation", relation);
      if (hasType(kind)) this.scope.drop("type", relation);
    }
    if (action === "data" && this.#firing.has(reference.name)) {
      const fires =
        `It fires a trigger or a rule of ${reference.name} that the file makes: look for yourself what that changes.`;
      this.warn("triggers_fire", statement, fires);
    }
    if (detail.new_name !== undefined || detail.new_schema !== undefined) {
      const to = { name: detail.new_name, schema: detail.new_schema };
      this.scope.move("relation", relation, to);
      this.scope.move("type", relation, to);
    }
    return reference;
  }

  type(statement: string, action: Action, kind: string, name: Name, detail: Detail = {}): Reference {
    const reference = this.scope.resolve("type", name);
    this.#touch(statement, action, kind, reference, detail);
    if (action === "drop") {
      this.scope.drop("type", name);
      this.scope.drop("relation", name);
    }
    if (detail.new_name !== undefined || detail.new_schema !== undefined) {
      const to = { name: detail.new_name, schema: detail.new_schema };
      this.scope.move("type", name, to);
      this.scope.move("relation", name, to);
    }
    return reference;
  }

  /** A column, constraint, trigger, policy or rule. */
  member(
    statement: string,
    action: Action,
    kind: string,
    relation: Name | RangeVar,
    name: string,
    detail: Detail = {},
  ) {
    const parent = this.scope.resolve("relation", "relname" in relation ? nameOfRelation(relation) : relation as Name);
    if ((kind === "trigger" || kind === "rule") && (action === "create" || action === "alter")) {
      this.#firing.add(parent.name);
    }
    this.#memberOf(parent, "table", statement, action, kind, name, detail);
  }

  /** An attribute or a value of a type, or a constraint of a domain. */
  memberOfType(statement: string, action: Action, kind: string, type: Name, name: string, detail: Detail = {}): void {
    this.#memberOf(this.scope.resolve("type", type), "type", statement, action, kind, name, detail);
  }

  routine(statement: string, action: Action, kind: string, object: ObjectWithArgs, detail: Detail = {}): void {
    const name = nameOf(strings(object.objname));
    const signature = argumentsOf(object, this.scope);
    this.#touch(statement, action, kind, this.scope.resolveRoutine(name, signature), detail);
    if (detail.new_name !== undefined || detail.new_schema !== undefined) {
      this.scope.moveRoutine(name, signature, { name: detail.new_name, schema: detail.new_schema });
    }
  }

  /** A new routine, or one that replaces another in the schema that it is created in. */
  createRoutine(
    statement: string,
    kind: string,
    name: Name,
    signature: TypeName[] | undefined,
    replace: boolean,
    detail: Detail = {},
  ) {
    const place = { schema: name.schema ?? this.scope.path[0] ?? "", name: name.name };
    const reference = this.scope.resolveRoutine(place, signature);
    if (replace) this.#touch(statement, "alter", kind, { ...reference, optional: true }, detail);
    else this.#touch(statement, "create", kind, { ...place, signature, is_new: true }, detail);
    this.scope.createRoutine(place, signature);
  }

  global(statement: string, action: Action, kind: string, name: string, detail: Detail = {}): void {
    const space = kind as Space;
    this.#touch(statement, action, kind, this.scope.resolve(space, { schema: "", name }), detail);
    if (action === "drop") this.scope.drop(space, { schema: "", name });
    if (detail.new_name !== undefined) this.scope.move(space, { schema: "", name }, { name: detail.new_name });
  }

  statistics(statement: string, action: Action, name: Name, detail: Detail = {}): void {
    this.#touch(statement, action, "statistics", this.scope.resolve("statistics", name), detail);
    if (action === "drop") this.scope.drop("statistics", name);
    if (detail.new_name !== undefined || detail.new_schema !== undefined) {
      this.scope.move("statistics", name, { name: detail.new_name, schema: detail.new_schema });
    }
  }

  /** An object that the file makes. */
  create(statement: string, space: Space, kind: string, name: Name, creation: Creation = {}): void {
    const reference = this.scope.create(space, name, creation);
    if (hasType(kind)) {
      if (space === "relation") this.scope.create("type", name, creation);
      if (space === "type") this.scope.create("relation", name, creation);
    }
    this.#touch(statement, "create", kind, reference, {});
  }

  /** A function that a statement calls. */
  call(statement: string, name: Name): void {
    this.#touch(statement, "call", "function", this.scope.resolveRoutine(name, undefined), {});
  }

  /** An object of any kind, as `drop`, `comment`, `alter … owner` and others name it. */
  object(statement: string, action: Action, type: ObjectType, node: Node, detail: Detail = {}): void {
    const { kind, form } = objectKinds[type];
    const parts = partsOf(node);
    switch (form) {
      case "relation":
        this.relation(statement, action, kind, "RangeVar" in node ? node.RangeVar : nameOf(parts), detail);
        break;
      case "type":
        this.type(statement, action, kind, nameOf(parts), detail);
        break;
      case "routine":
        if ("ObjectWithArgs" in node) this.routine(statement, action, kind, node.ObjectWithArgs, detail);
        break;
      case "member":
        this.member(statement, action, kind, nameOf(parts.slice(0, -1)), parts.at(-1) ?? "", detail);
        break;
      case "type_member":
        this.memberOfType(statement, action, kind, nameOf(parts.slice(0, -1)), parts.at(-1) ?? "", detail);
        break;
      case "global":
        this.global(statement, action, kind, parts[0] ?? "", detail);
        break;
      case "statistics":
        this.statistics(statement, action, nameOf(parts), detail);
        break;
      case "outside":
        this.outside(statement, kind.replaceAll("_", " "));
        if (detail.cascade) this.#dependedOn(statement, action, kind, node, detail);
    }
  }

  /** An object that no backup holds, and that takes along what depends on it. */
  #dependedOn(statement: string, action: Action, kind: string, node: Node, detail: Detail): void {
    const types = "List" in node
      ? (node.List.items ?? []).flatMap((item) => "TypeName" in item ? [item.TypeName] : [])
      : [];
    const given = "ObjectWithArgs" in node
      ? { parts: strings(node.ObjectWithArgs.objname), signature: argumentsOf(node.ObjectWithArgs, this.scope) }
      : kind === "cast"
      ? { parts: [""], signature: types.map((type) => typeOf(type, this.scope)) }
      // A class and a family of operators are named after their access method.
      : { parts: partsOf(node).slice(kind.startsWith("operator_") ? 1 : 0), signature: undefined };
    const { schema, name } = nameOf(given.parts);
    const place = schema === undefined
      ? { search_path: this.scope.path.map((candidate) => this.scope.schema(candidate).name) }
      : { schema: this.scope.schema(schema).name };
    this.#touch(statement, action, kind, { ...place, name, signature: given.signature }, detail);
  }

  #memberOf(
    parent: Reference,
    parentKind: string,
    statement: string,
    action: Action,
    kind: string,
    name: string,
    detail: Detail,
  ): void {
    const path = parent.search_path ?? [];
    const inScope = {
      ...(parent.schema === undefined ? {} : { schema: parent.schema }),
      name: memberName(kind, parent.name, name),
    };
    const known = action === "create"
      ? this.scope.create("member", inScope, { optional: detail.optional, path })
      : this.scope.resolve("member", inScope, path);
    const own = known.name.split(part).at(-1)!;
    const { is_new: _new, optional: _optional, ...place } = parent;
    if (!known.is_new) {
      const marks = {
        ...(parent.is_new ? { is_new: true as const } : {}),
        ...(parent.optional || known.optional ? { optional: true as const } : {}),
      };
      this.#touch(statement, action, kind, { ...place, ...marks, name: own }, detail, parent.name);
    } else {
      // The member is the file's own, what it belongs to may not be.
      this.#touch(statement, "alter", parentKind, parent, {});
      this.#touch(statement, action, kind, { ...place, name: own, is_new: true }, detail, parent.name);
    }
    if (action === "drop") this.scope.drop("member", inScope, path);
    if (detail.new_name !== undefined) {
      this.scope.move("member", inScope, { name: memberName(kind, parent.name, detail.new_name) }, path);
    }
  }

  #touch(statement: string, action: Action, kind: string, reference: Reference, detail: Detail, parent?: string): void {
    const { schema, search_path, name, signature, is_new, optional } = reference;
    const what: Omit<Touch, "line"> = {
      statement,
      action,
      kind,
      ...(schema ? { schema } : {}),
      ...(schema === undefined && search_path ? { search_path } : {}),
      name,
      ...(parent === undefined ? {} : { parent }),
      ...(signature ? { signature } : {}),
      ...(detail.cascade ? { cascade: true } : {}),
      ...(detail.new_name === undefined ? {} : { new_name: detail.new_name }),
      ...(detail.body === undefined ? {} : { body: detail.body }),
      ...(detail.contents === undefined ? {} : { contents: detail.contents }),
      ...(is_new ? { is_new } : {}),
      ...(optional || detail.optional ? { optional: true } : {}),
    };
    const identity = JSON.stringify(what);
    if (this.#seen.has(identity)) return;
    this.#seen.add(identity);
    this.#touches.push({ line: this.line, ...what });
  }
}

function tooMany({ left, firstLeft }: CappedList<Touch | Warning>, what: string): Warning[] {
  if (!firstLeft) return [];
  const { line, statement } = firstLeft;
  return [{ line, code: "too_many", statement, detail: `${left} more ${what}.` }];
}

/** Whether a relation, or a type, has a name in both spaces. */
const hasType = (kind: string) => kind !== "index" && kind !== "sequence";

const memberName = (kind: string, parent: string, name: string) => [kind, parent, name].join(part);

/** The parts of a name, whichever way a statement gives it. */
function partsOf(node: Node): string[] {
  if ("String" in node) return strings([node]);
  if ("List" in node) return (node.List.items ?? []).flatMap(partsOf);
  if ("TypeName" in node) return strings(node.TypeName.names);
  if ("RangeVar" in node) return [node.RangeVar.schemaname, node.RangeVar.relname].filter((item) => item !== undefined);
  return [];
}
