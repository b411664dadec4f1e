import type {
  CreateStmt,
  IntoClause,
  Node,
  ObjectType,
  PublicationObjSpec,
  RangeVar,
  RenameStmt,
  TransactionStmt,
} from "libpg-query";
import type { Detail, MigrationReader } from "./migration-reader.ts";
import { nameOf, nameOfRelation, relationsIn, signatureOf, strings } from "./names.ts";
import { objectKinds } from "./object-kinds.ts";
import { readAlterTable } from "./read-alter-table.ts";
import { readQuery } from "./read-query.ts";
import type { Scope } from "./scope.ts";

type Tag = Node extends infer N ? N extends unknown ? keyof N : never : never;
type NodeOf<T extends Tag> = Extract<Node, Record<T, unknown>> extends Record<T, infer Body> ? Body : never;
type Readers = { [T in Tag]?: (node: NodeOf<T>, reader: MigrationReader) => void };

/**
 * Reads one statement. One that changes nothing in a schema leaves no trace; one whose effect is not known leaves a
 * warning, and so does every kind of statement that is not listed here.
 */
export function readStatement(node: Node, reader: MigrationReader): void {
  const [tag, body] = Object.entries(node)[0] as [Tag, never];
  const read = readers[tag];
  if (read) return read(body, reader);
  const statement = wordsOf(tag.replace(/Stmt$/, ""));
  const outside = outsideStatements[tag];
  if (outside) reader.outside(statement, outside);
  else if (!inertStatements.has(tag)) {
    reader.warn(
      "effect_unknown",
      statement,
      "What this kind of statement changes is not known here: look for yourself.",
    );
  }
}

const readers: Readers = {
  // Rows, and what is executed with them
  SelectStmt: (node, reader) => {
    if (node.intoClause) readInto("SELECT INTO", "table", node.intoClause, reader);
    readQuery("SELECT", { SelectStmt: node }, reader);
  },
  InsertStmt: (node, reader) => readQuery("INSERT", { InsertStmt: node }, reader),
  UpdateStmt: (node, reader) => readQuery("UPDATE", { UpdateStmt: node }, reader),
  DeleteStmt: (node, reader) => readQuery("DELETE", { DeleteStmt: node }, reader),
  MergeStmt: (node, reader) => readQuery("MERGE", { MergeStmt: node }, reader),
  TruncateStmt: ({ relations, behavior }, reader) =>
    eachRelation(
      relations,
      (table) => reader.relation("TRUNCATE", "data", "table", table, { cascade: behavior === "DROP_CASCADE" }),
    ),
  CopyStmt: ({ relation, query, is_from, is_program, whereClause }, reader) => {
    const statement = is_from ? "COPY … FROM" : "COPY … TO";
    if (relation && is_from) reader.relation(statement, "data", "table", relation);
    if (is_program) reader.warn("effect_unknown", statement, "It runs a program on the server, which can do anything.");
    readQuery(statement, [query, whereClause], reader);
  },
  CreateTableAsStmt: ({ query, into, objtype, if_not_exists }, reader) => {
    const { kind } = objectKinds[objtype!];
    const statement = `CREATE ${titleOf(objtype!)} … AS`;
    readInto(statement, kind, into!, reader, if_not_exists);
    if (query && "ExecuteStmt" in query) readStatement(query, reader);
    else readQuery(statement, query, reader);
  },
  RefreshMatViewStmt: ({ relation }, reader) => {
    reader.relation("REFRESH MATERIALIZED VIEW", "data", "materialized_view", relation!);
  },
  PrepareStmt: ({ query }, reader) => readQuery("PREPARE", query, reader),
  DeclareCursorStmt: ({ query }, reader) => readQuery("DECLARE CURSOR", query, reader),
  ExplainStmt: ({ query, options }, reader) => {
    const runs = options?.some((option) => "DefElem" in option && option.DefElem.defname === "analyze");
    if (runs && query) readStatement(query, reader);
  },
  DoStmt: (_node, reader) =>
    reader.warn(
      "effect_unknown",
      "DO",
      "What a block of code does is not known before it runs: name what it touches in the plan by yourself.",
    ),
  ExecuteStmt: ({ name }, reader) =>
    reader.warn(
      "effect_unknown",
      "EXECUTE",
      `What the prepared statement ${name} does depends on the session: name what it touches in the plan by yourself.`,
    ),
  CallStmt: ({ funccall }, reader) => {
    const name = nameOf(strings(funccall?.funcname));
    reader.warn(
      "effect_unknown",
      "CALL",
      `What the procedure ${name.name} does is not known before it runs: name what it touches in the plan by yourself.`,
    );
    readQuery("CALL", funccall?.args, reader);
  },

  // Names
  VariableSetStmt: ({ kind, name, args, is_local }, reader) => {
    if (kind === "VAR_RESET_ALL" || (name === "search_path" && kind !== "VAR_SET_VALUE")) {
      reader.scope.setPath(undefined, is_local);
    } else if (name === "search_path") {
      const schemas = (args ?? []).flatMap((arg) => "A_Const" in arg ? [arg.A_Const.sval?.sval ?? ""] : []);
      reader.scope.setPath(
        schemas.filter((schema) => schema !== "" && schema !== "$user" && schema !== "pg_temp"),
        is_local,
      );
    }
  },
  TransactionStmt: (node, reader) => readTransaction(node, reader.scope),
  DiscardStmt: ({ target }, reader) => {
    if (target === "DISCARD_ALL") reader.scope.setPath();
    if (target === "DISCARD_ALL" || target === "DISCARD_TEMP") reader.scope.dropTemporary();
  },
  RenameStmt: (node, reader) => readRename(node, reader),
  AlterObjectSchemaStmt: ({ objectType, relation, object, newschema, missing_ok }, reader) => {
    const statement = `ALTER ${titleOf(objectType!)} … SET SCHEMA`;
    const detail = { new_schema: newschema, optional: missing_ok };
    const target = relation ? { RangeVar: relation } : object!;
    if (objectType === "OBJECT_EXTENSION") reader.object(statement, "alter", objectType, target);
    else reader.object(statement, "rename", objectType!, target, detail);
  },

  // Tables and what belongs to them
  CreateStmt: (node, reader) => readCreateTable("CREATE TABLE", "table", node, reader),
  CreateForeignTableStmt: ({ base }, reader) => {
    readCreateTable("CREATE FOREIGN TABLE", "foreign_table", base!, reader);
  },
  AlterTableStmt: readAlterTable,
  AlterTableMoveAllStmt: ({ objtype }, reader) =>
    reader.warn(
      "effect_unknown",
      `ALTER ${titleOf(objtype!)} ALL IN TABLESPACE`,
      "It moves whatever is in the tablespace, of any schema.",
    ),
  IndexStmt: ({ idxname, relation, if_not_exists, indexParams, whereClause }, reader) => {
    const table = reader.relation("CREATE INDEX", "alter", "table", relation!);
    if (idxname !== undefined) {
      const schema = table.schema === "pg_temp" ? table.schema : nameOfRelation(relation!).schema;
      const name = schema === undefined ? { name: idxname } : { schema, name: idxname };
      reader.create("CREATE INDEX", "relation", "index", name, { optional: if_not_exists });
      // It goes with its table, which nothing here keeps in mind.
      if (schema === "pg_temp") reader.scope.doubtTemporary("relation", idxname);
    }
    // Each row's entry is computed.
    readQuery("CREATE INDEX", [indexParams, whereClause], reader);
  },
  CreatePolicyStmt: ({ policy_name, table }, reader) =>
    reader.member("CREATE POLICY", "create", "policy", table!, policy_name!),
  AlterPolicyStmt: ({ policy_name, table }, reader) =>
    reader.member("ALTER POLICY", "alter", "policy", table!, policy_name!),
  CreateTrigStmt: ({ trigname, relation, constrrel, replace }, reader) => {
    const statement = replace ? "CREATE OR REPLACE TRIGGER" : "CREATE TRIGGER";
    readMember(statement, "trigger", relation!, trigname!, replace, reader);
    if (constrrel) reader.relation(statement, "alter", "table", constrrel);
  },
  RuleStmt: ({ rulename, relation, replace }, reader) =>
    readMember(replace ? "CREATE OR REPLACE RULE" : "CREATE RULE", "rule", relation!, rulename!, replace, reader),
  CreateStatsStmt: ({ defnames, relations, if_not_exists }, reader) => {
    eachRelation(relations, (table) => reader.relation("CREATE STATISTICS", "alter", "table", table));
    if (defnames) {
      reader.create("CREATE STATISTICS", "statistics", "statistics", nameOf(strings(defnames)), {
        optional: if_not_exists,
      });
    }
  },
  AlterStatsStmt: ({ defnames, missing_ok }, reader) =>
    reader.statistics("ALTER STATISTICS", "alter", nameOf(strings(defnames)), { optional: missing_ok }),
  ClusterStmt: ({ relation }, reader) => {
    if (relation) reader.relation("CLUSTER", "alter", "table", relation);
    else {reader.warn(
        "effect_unknown",
        "CLUSTER",
        "It rewrites every table that has been clustered before, of any schema.",
      );}
  },
  ReindexStmt: ({ kind, relation, name }, reader) => {
    if (relation) reader.relation("REINDEX", "alter", kind === "REINDEX_OBJECT_INDEX" ? "index" : "table", relation);
    else if (kind === "REINDEX_OBJECT_SCHEMA") reader.global("REINDEX", "alter", "schema", name!);
    else reader.warn("effect_unknown", "REINDEX", "It builds the indexes of the whole database again.");
  },
  VacuumStmt: ({ rels, is_vacuumcmd }, reader) => {
    const statement = is_vacuumcmd ? "VACUUM" : "ANALYZE";
    for (const node of rels ?? []) {
      if ("VacuumRelation" in node) reader.relation(statement, "alter", "table", node.VacuumRelation.relation!);
    }
    if (!rels) reader.warn("effect_unknown", statement, "It goes over every table of the database.");
  },
  LockStmt: ({ relations }, reader) =>
    eachRelation(relations, (table) => reader.relation("LOCK", "alter", "table", table)),

  // Views and sequences
  ViewStmt: ({ view, replace }, reader) => {
    const name = nameOfRelation(view!);
    if (!replace) return reader.create("CREATE VIEW", "relation", "view", name);
    const place = { schema: reader.scope.path[0] ?? "", ...name };
    reader.relation("CREATE OR REPLACE VIEW", "alter", "view", place, { optional: true });
    reader.scope.create("relation", place, { optional: true });
    reader.scope.create("type", place, { optional: true });
  },
  CreateSeqStmt: ({ sequence, options, if_not_exists }, reader) => {
    reader.create("CREATE SEQUENCE", "relation", "sequence", nameOfRelation(sequence!), { optional: if_not_exists });
    readOwner("CREATE SEQUENCE", options, reader);
  },
  AlterSeqStmt: ({ sequence, options, missing_ok }, reader) => {
    reader.relation("ALTER SEQUENCE", "alter", "sequence", sequence!, { optional: missing_ok });
    readOwner("ALTER SEQUENCE", options, reader);
  },

  // Types
  CreateEnumStmt: ({ typeName }, reader) => reader.create("CREATE TYPE", "type", "type", nameOf(strings(typeName))),
  CreateRangeStmt: ({ typeName }, reader) => reader.create("CREATE TYPE", "type", "type", nameOf(strings(typeName))),
  CompositeTypeStmt: ({ typevar }, reader) => reader.create("CREATE TYPE", "type", "type", nameOfRelation(typevar!)),
  CreateDomainStmt: ({ domainname }, reader) =>
    reader.create("CREATE DOMAIN", "type", "domain", nameOf(strings(domainname))),
  AlterEnumStmt: ({ typeName, oldVal, newVal, skipIfNewValExists }, reader) => {
    const name = nameOf(strings(typeName));
    if (oldVal !== undefined) {
      reader.memberOfType("ALTER TYPE … RENAME VALUE", "rename", "enum_value", name, oldVal, { new_name: newVal });
    } else {
      reader.memberOfType("ALTER TYPE … ADD VALUE", "create", "enum_value", name, newVal!, {
        optional: skipIfNewValExists,
      });
      reader.type("ALTER TYPE … ADD VALUE", "alter", "type", name);
    }
  },
  AlterTypeStmt: ({ typeName }, reader) => reader.type("ALTER TYPE", "alter", "type", nameOf(strings(typeName))),
  AlterDomainStmt: ({ subtype, typeName, name, def, behavior, missing_ok }, reader) => {
    const domain = nameOf(strings(typeName));
    const detail = { cascade: behavior === "DROP_CASCADE", optional: missing_ok };
    if (subtype === "X" || subtype === "V") {
      const action = subtype === "X" ? "drop" : "alter";
      reader.memberOfType("ALTER DOMAIN … CONSTRAINT", action, "domain_constraint", domain, name!, detail);
    } else reader.type("ALTER DOMAIN", "alter", "domain", domain);
    readQuery("ALTER DOMAIN", def, reader);
  },

  // Routines
  CreateFunctionStmt: ({ funcname, parameters, replace, is_procedure, options }, reader) => {
    const kind = is_procedure ? "procedure" : "function";
    const statement = `CREATE ${replace ? "OR REPLACE " : ""}${kind.toUpperCase()}`;
    const signature = signatureOf(parameters, reader.scope);
    const body = bodyOf(options);
    reader.createRoutine(statement, kind, nameOf(strings(funcname)), signature, replace ?? false, { body });
  },
  DefineStmt: ({ kind, defnames, args, replace, if_not_exists }, reader) => {
    const name = nameOf(strings(defnames));
    if (kind === "OBJECT_AGGREGATE") {
      const parameters = (args ?? []).flatMap((node) => "List" in node ? node.List.items ?? [] : []);
      const statement = replace ? "CREATE OR REPLACE AGGREGATE" : "CREATE AGGREGATE";
      reader.createRoutine(statement, "aggregate", name, signatureOf(parameters, reader.scope), replace ?? false);
    } else if (kind === "OBJECT_TYPE") reader.create("CREATE TYPE", "type", "type", name, { optional: if_not_exists });
    else reader.outside(`CREATE ${titleOf(kind!)}`, objectKinds[kind!].kind.replaceAll("_", " "));
  },
  AlterFunctionStmt: ({ objtype, func }, reader) =>
    reader.routine(`ALTER ${titleOf(objtype!)}`, "alter", objectKinds[objtype!].kind, func!),

  // Schemas, extensions, publications
  CreateSchemaStmt: ({ schemaname, authrole, schemaElts, if_not_exists }, reader) => {
    const name = schemaname ?? authrole?.rolename ?? "";
    reader.create("CREATE SCHEMA", "schema", "schema", { schema: "", name }, { optional: if_not_exists });
    const { path } = reader.scope;
    reader.scope.path = [name, ...path];
    for (const element of schemaElts ?? []) readStatement(element, reader);
    reader.scope.path = path;
  },
  CreateExtensionStmt: ({ extname, if_not_exists }, reader) =>
    reader.create("CREATE EXTENSION", "extension", "extension", { schema: "", name: extname! }, {
      optional: if_not_exists,
    }),
  AlterExtensionStmt: ({ extname }, reader) => {
    reader.global("ALTER EXTENSION", "alter", "extension", extname!);
    reader.warn("effect_unknown", "ALTER EXTENSION", `What an update of ${extname} does is in its own scripts.`);
  },
  AlterExtensionContentsStmt: ({ extname, objtype, object }, reader) => {
    reader.global("ALTER EXTENSION", "alter", "extension", extname!);
    reader.object("ALTER EXTENSION", "alter", objtype!, object!);
  },
  CreatePublicationStmt: ({ pubname, pubobjects, for_all_tables }, reader) => {
    reader.create("CREATE PUBLICATION", "publication", "publication", { schema: "", name: pubname! });
    readPublished("CREATE PUBLICATION", pubobjects, reader);
    if (for_all_tables) {
      reader.warn(
        "effect_unknown",
        "CREATE PUBLICATION",
        "It publishes every table; one without a replica identity cannot be updated from then on.",
      );
    }
  },
  AlterPublicationStmt: ({ pubname, pubobjects }, reader) => {
    reader.global("ALTER PUBLICATION", "alter", "publication", pubname!);
    readPublished("ALTER PUBLICATION", pubobjects, reader);
  },
  ImportForeignSchemaStmt: ({ remote_schema, local_schema }, reader) =>
    reader.warn(
      "effect_unknown",
      "IMPORT FOREIGN SCHEMA",
      `Which tables of ${remote_schema} come into ${local_schema} is known to the other server alone.`,
    ),

  // Whatever there is
  DropStmt: ({ objects, removeType, behavior, missing_ok }, reader) => {
    const detail = { cascade: behavior === "DROP_CASCADE", optional: missing_ok };
    for (const object of objects ?? []) {
      reader.object(`DROP ${titleOf(removeType!)}`, "drop", removeType!, object, detail);
    }
  },
  CommentStmt: ({ objtype, object }, reader) =>
    reader.object(`COMMENT ON ${titleOf(objtype!)}`, "comment", objtype!, object!),
  SecLabelStmt: ({ objtype, object }, reader) =>
    reader.object(`SECURITY LABEL ON ${titleOf(objtype!)}`, "comment", objtype!, object!),
  AlterOwnerStmt: ({ objectType, relation, object }, reader) =>
    reader.object(
      `ALTER ${titleOf(objectType!)} … OWNER TO`,
      "alter",
      objectType!,
      relation ? { RangeVar: relation } : object!,
    ),
  AlterObjectDependsStmt: ({ objectType, relation, object }, reader) => {
    const statement = `ALTER ${titleOf(objectType!)} … DEPENDS ON EXTENSION`;
    // A trigger is named by its table and a list with its own name.
    if (relation && object) {
      reader.member(statement, "alter", objectKinds[objectType!].kind, relation, strings(listOf(object)).at(-1) ?? "");
    } else reader.object(statement, "alter", objectType!, relation ? { RangeVar: relation } : object!);
  },
  GrantStmt: ({ is_grant, targtype, objtype, objects }, reader) => {
    const statement = is_grant ? "GRANT" : "REVOKE";
    const ofSchema = targtype === "ACL_TARGET_ALL_IN_SCHEMA";
    const { kind } = objectKinds[objtype!];
    for (const object of objects ?? []) {
      if (ofSchema) reader.global(statement, "grant", "schema", strings([object])[0]!, { contents: kind });
      else reader.object(statement, "grant", objtype!, object);
    }
  },
  AlterDefaultPrivilegesStmt: ({ options }, reader) => {
    const schemas = (options ?? []).flatMap((node) =>
      "DefElem" in node && node.DefElem.defname === "schemas" ? strings(listOf(node.DefElem.arg)) : []
    );
    for (const schema of schemas) reader.global("ALTER DEFAULT PRIVILEGES", "grant", "schema", schema);
    if (schemas.length === 0) reader.outside("ALTER DEFAULT PRIVILEGES", "default privileges of the whole database");
  },
  DropOwnedStmt: (_node, reader) =>
    reader.warn(
      "effect_unknown",
      "DROP OWNED",
      "It drops whatever the role owns and takes away what was granted to it, in any schema.",
    ),
  ReassignOwnedStmt: (_node, reader) =>
    reader.warn("effect_unknown", "REASSIGN OWNED", "It changes the owner of whatever the role owns, in any schema."),
};

/** Statements that change nothing in a schema, and that say nothing of what others mean. */
const inertStatements = new Set<Tag>([
  "VariableShowStmt",
  "NotifyStmt",
  "ListenStmt",
  "UnlistenStmt",
  "ClosePortalStmt",
  "FetchStmt",
  "DeallocateStmt",
  "CheckPointStmt",
  "ConstraintsSetStmt",
]);

/** Statements about what is in no schema, or what a backup does not hold. */
const outsideStatements: Partial<Record<Tag, string>> = {
  CreateRoleStmt: "roles",
  AlterRoleStmt: "roles",
  AlterRoleSetStmt: "settings of roles",
  DropRoleStmt: "roles",
  GrantRoleStmt: "memberships of roles",
  CreatedbStmt: "databases",
  AlterDatabaseStmt: "databases",
  AlterDatabaseSetStmt: "settings of databases",
  AlterDatabaseRefreshCollStmt: "databases",
  DropdbStmt: "databases",
  AlterSystemStmt: "settings of the server",
  CreateTableSpaceStmt: "tablespaces",
  AlterTableSpaceOptionsStmt: "tablespaces",
  DropTableSpaceStmt: "tablespaces",
  CreateFdwStmt: "foreign data wrappers",
  AlterFdwStmt: "foreign data wrappers",
  CreateForeignServerStmt: "servers",
  AlterForeignServerStmt: "servers",
  CreateUserMappingStmt: "user mappings",
  AlterUserMappingStmt: "user mappings",
  DropUserMappingStmt: "user mappings",
  CreateSubscriptionStmt: "subscriptions",
  AlterSubscriptionStmt: "subscriptions",
  DropSubscriptionStmt: "subscriptions",
  CreateEventTrigStmt: "event triggers",
  AlterEventTrigStmt: "event triggers",
  CreatePLangStmt: "languages",
  CreateAmStmt: "access methods",
  CreateCastStmt: "casts",
  CreateConversionStmt: "conversions",
  CreateTransformStmt: "transforms",
  CreateOpClassStmt: "operator classes",
  CreateOpFamilyStmt: "operator families",
  AlterOpFamilyStmt: "operator families",
  AlterOperatorStmt: "operators",
  AlterCollationStmt: "collations",
  AlterTSDictionaryStmt: "text search dictionaries",
  AlterTSConfigurationStmt: "text search configurations",
};

/** What a rollback takes back is no longer so; what it was done to has been touched nevertheless. */
function readTransaction({ kind, savepoint_name = "", chain }: TransactionStmt, scope: Scope): void {
  if (kind === "TRANS_STMT_BEGIN" || kind === "TRANS_STMT_START") scope.begin();
  else if (kind === "TRANS_STMT_SAVEPOINT") scope.savepoint(savepoint_name);
  else if (kind === "TRANS_STMT_RELEASE") scope.release(savepoint_name);
  else if (kind === "TRANS_STMT_ROLLBACK_TO") scope.rollbackTo(savepoint_name);
  else if (kind === "TRANS_STMT_ROLLBACK") scope.rollback();
  else if (kind === "TRANS_STMT_COMMIT" || kind === "TRANS_STMT_PREPARE") scope.commit();
  if (chain) scope.begin();
}

/** CreateEventTrig reads CREATE EVENT TRIG. */
const wordsOf = (tag: string) => tag.replace(/(?<=[a-z])(?=[A-Z])/g, " ").toUpperCase();

const titleOf = (type: ObjectType) => objectKinds[type].kind.replaceAll("_", " ").toUpperCase();

const listOf = (node: Node | undefined): Node[] => node && "List" in node ? node.List.items ?? [] : [];

function eachRelation(nodes: Node[] | undefined, read: (relation: RangeVar) => void): void {
  for (const node of nodes ?? []) if ("RangeVar" in node) read(node.RangeVar);
}

function readMember(
  statement: string,
  kind: string,
  relation: RangeVar,
  name: string,
  replace: boolean | undefined,
  reader: MigrationReader,
): void {
  reader.member(statement, replace ? "alter" : "create", kind, relation, name, { optional: replace });
  // Whether it was there or not, its table gets or keeps one.
  reader.relation(statement, "alter", "table", relation);
}

function readInto(
  statement: string,
  kind: string,
  into: IntoClause,
  reader: MigrationReader,
  optional?: boolean,
): void {
  const name = nameOfRelation(into.rel!);
  reader.create(statement, "relation", kind, name, { optional });
  if (into.onCommit === "ONCOMMIT_DROP") reader.scope.dropOnCommit(name.name);
}

function readCreateTable(statement: string, kind: string, node: CreateStmt, reader: MigrationReader): void {
  const name = nameOfRelation(node.relation!);
  reader.create(statement, "relation", kind, name, { optional: node.if_not_exists });
  if (node.oncommit === "ONCOMMIT_DROP") reader.scope.dropOnCommit(name.name);
  const others = [...(node.tableElts ?? []), ...(node.inhRelations ?? []), ...(node.constraints ?? [])].flatMap(
    relationsIn,
  );
  for (const other of others) {
    // A table may refer to itself.
    const reference = nameOfRelation(other);
    if (reference.name !== name.name || reference.schema !== name.schema) {
      reader.relation(statement, "alter", "table", other);
    }
  }
  if (node.ofTypename) reader.type(`${statement} … OF`, "alter", "type", nameOf(strings(node.ofTypename.names)));
}

/** The text of a routine; undefined where it is parsed at once, or where `as` names a function in C. */
function bodyOf(options: Node[] = []): string | undefined {
  const option = (name: string) =>
    options.flatMap((node) => "DefElem" in node && node.DefElem.defname === name ? [node.DefElem.arg] : [])[0];
  const [language] = strings([option("language")].filter((node) => node !== undefined));
  return language === "c" || language === "internal" ? undefined : strings(listOf(option("as")))[0];
}

/** The table of a sequence's `owned by`. */
function readOwner(statement: string, options: Node[] | undefined, reader: MigrationReader): void {
  for (const option of options ?? []) {
    if (!("DefElem" in option) || option.DefElem.defname !== "owned_by") continue;
    const parts = strings(listOf(option.DefElem.arg));
    if (parts.length > 1) reader.relation(`${statement} … OWNED BY`, "alter", "table", nameOf(parts.slice(0, -1)));
  }
}

function readPublished(statement: string, objects: Node[] | undefined, reader: MigrationReader): void {
  for (const node of objects ?? []) {
    if (!("PublicationObjSpec" in node)) continue;
    const { pubtable, name, pubobjtype }: PublicationObjSpec = node.PublicationObjSpec;
    if (pubtable?.relation) reader.relation(statement, "alter", "table", pubtable.relation);
    else if (pubobjtype === "PUBLICATIONOBJ_TABLES_IN_CUR_SCHEMA") {
      reader.global(statement, "alter", "schema", reader.scope.path[0] ?? "");
    } else if (name !== undefined) reader.global(statement, "alter", "schema", name);
  }
}

function readRename(
  { renameType, relationType, relation, object, subname, newname, behavior, missing_ok }: RenameStmt,
  reader: MigrationReader,
) {
  const { kind, form } = objectKinds[renameType!];
  const detail: Detail = { new_name: newname, optional: missing_ok, cascade: behavior === "DROP_CASCADE" };
  if (form === "member" && relation) {
    const statement = `ALTER ${relationType === "OBJECT_ACCESS_METHOD" ? "TABLE" : titleOf(relationType!)} … RENAME ${
      titleOf(renameType!)
    }`;
    reader.member(
      kind === "trigger" || kind === "policy" || kind === "rule" ? `ALTER ${titleOf(renameType!)} … RENAME` : statement,
      "rename",
      kind,
      relation,
      subname!,
      detail,
    );
  } else if (form === "type_member") {
    const name = relation ? nameOfRelation(relation) : nameOf(strings(listOf(object)));
    reader.memberOfType(
      `ALTER ${relation ? "TYPE" : "DOMAIN"} … RENAME ${titleOf(renameType!)}`,
      "rename",
      kind,
      name,
      subname!,
      detail,
    );
  } else {
    const target: Node = relation ? { RangeVar: relation } : object ?? { String: { sval: subname } };
    reader.object(`ALTER ${titleOf(renameType!)} … RENAME`, "rename", renameType!, target, detail);
  }
}
