import type { Draw } from "../draw.ts";
import type { Make } from "../make.ts";
import type { State } from "../read-state.ts";

/** What ALTER, COMMENT ON and GRANT call an object, by kind. */
const objects = (state: State): { kind: string; id: string; grants: string[] | null }[] => [
  ...state.tables.map(({ id }) => ({
    kind: "table",
    id,
    grants: ["select", "insert, update", "all", "select, delete"],
  })),
  ...state.views.map(({ id, is_materialized }) => ({
    kind: is_materialized ? "materialized view" : "view",
    id,
    grants: is_materialized ? null : ["select"],
  })),
  ...state.sequences.map(({ id }) => ({ kind: "sequence", id, grants: ["usage", "all"] })),
  ...state.functions.map(({ id }) => ({ kind: "function", id, grants: ["execute"] })),
  ...state.enums.map(({ id }) => ({ kind: "type", id, grants: ["usage"] })),
  ...state.domains.map(({ id }) => ({ kind: "domain", id, grants: null })),
  ...state.composites.map(({ id }) => ({ kind: "type", id, grants: null })),
];

const commented = (state: State) => [
  ...objects(state).map(({ kind, id }) => `${kind} ${id}`),
  ...state.tables.flatMap(({ id, columns }) => columns.map((c) => `column ${id}.${c.id}`)),
  ...state.constraints.map(({ id, table }) => `constraint ${id} on ${table}`),
  ...state.indexes.map(({ id }) => `index ${id}`),
  ...state.policies.map(({ id, table }) => `policy ${id} on ${table}`),
  ...state.triggers.map(({ id, table }) => `trigger ${id} on ${table}`),
];

const role = (draw: Draw) => draw.of(["authenticated", "anon", "service_role"]);

/** Grants, owners, comments, publications. */
export const privileges: Record<string, Make> = {
  grant: (state, draw) => {
    const { kind, id, grants } = draw.of(objects(state).filter((o) => o.grants));
    return `grant ${draw.of(grants!)} on ${kind === "view" ? "table" : kind} ${id} to ${
      draw.of([role(draw), role(draw), "public"])
    } ${draw.of(["", "", "", "with grant option"])}`.replace(/to public +with grant option/, "to public");
  },
  revoke: (state, draw) => {
    const { kind, id } = draw.of(objects(state).filter((o) => o.grants));
    return `revoke all on ${kind === "view" ? "table" : kind} ${id} from ${
      draw.of([role(draw), "public", "postgres"])
    }`;
  },
  grant_columns: (state, draw) => {
    const table = draw.of(state.tables.filter((t) => t.columns.length > 0));
    return `grant ${draw.of(["select", "update", "insert"])} (${
      draw.some(table.columns, 2).map((c) => c.id).join(", ")
    }) on ${table.id} to ${role(draw)}`;
  },
  grant_schema: (_state, draw) =>
    `${
      draw.of([
        "grant usage on schema app to anon",
        "revoke usage on schema app from anon",
        "grant create on schema app to anon",
      ])
    }`,
  default_privileges: (_state, draw) =>
    `alter default privileges in schema app ${
      draw.of([
        "grant select on tables to anon",
        "revoke select on tables from anon",
        "grant execute on functions to service_role",
      ])
    }`,
  comment: (state, draw) =>
    `comment on ${draw.of(commented(state))} is ${draw.of(["'a comment'", "'it''s another'", "null"])}`,
  change_owner: (state, draw) => {
    const { kind, id } = draw.of(objects(state));
    return `alter ${kind} ${id} owner to ${draw.of(["service_role", "postgres", "authenticated"])}`;
  },
  publish: (state, draw) => {
    const { id, columns, key } = draw.of(state.tables);
    return `alter publication app_changes ${
      draw.of([
        `add table ${id}`,
        `drop table ${id}`,
        `add table ${id} (${[...new Set([...(key ?? []), ...draw.some(columns, 2).map((c) => c.id)])].join(", ")})`,
        `add table ${id} where (${draw.of(columns).id} is not null)`,
      ])
    }`;
  },
};
