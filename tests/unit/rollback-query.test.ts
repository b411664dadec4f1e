import { expect, test } from "vitest";
import { RollbackQuery } from "../../supabase/functions/migration-guard/rollback-query.ts";

test.for<[query: Record<string, string>, options: object]>([
  [{}, {}],
  [{ pretty: "" }, {}],
  [{ data: "keep" }, { data: "keep" }],
  [{ data: "restore" }, { data: "restore" }],
  [{ data: "profiles:restore" }, { data: { profiles: "restore" } }],
  [{ data: "profiles:restore, app.codes:keep" }, { data: { profiles: "restore", "app.codes": "keep" } }],
  [{ data: "a:b:keep" }, { data: { "a:b": "keep" } }],
  [{ data: '{"a,b": "restore"}' }, { data: { "a,b": "restore" } }],
  [{ drop_new: "all" }, { drop_new: "all" }],
  [{ drop_new: "blocking" }, { drop_new: "blocking" }],
  [{ drop_new: "tags, app.tags" }, { drop_new: ["tags", "app.tags"] }],
  [{ drop_new: '["all", "a,b"]' }, { drop_new: ["all", "a,b"] }],
  [{ leave_deleted: "true" }, { leave_deleted: true }],
  [{ leave_deleted: "false" }, { leave_deleted: false }],
])("the query %j asks for %j", ([query, options]) => {
  expect(RollbackQuery.parse(query)).toEqual(options);
});

test.for<[query: Record<string, unknown>]>([
  [{ data: "" }],
  [{ data: "profiles" }],
  [{ data: "profiles:" }],
  [{ data: ":keep" }],
  [{ data: "profiles:keep," }],
  [{ data: "profiles:keep,profiles:keep" }],
  [{ data: '{"profiles": "drop"}' }],
  [{ data: '{"profiles"' }],
  [{ data: ["keep", "restore"] }],
  [{ drop_new: "" }],
  [{ drop_new: "a,,b" }],
  [{ drop_new: "[1]" }],
  [{ leave_deleted: "1" }],
  [{ leave_deleted: "" }],
  [{ dataa: "keep" }],
])("the query %j is refused, by the name of its parameter", ([query]) => {
  const [name] = Object.keys(query);
  const { error } = RollbackQuery.safeParse(query);
  expect(error?.issues).toHaveLength(1);
  expect(JSON.stringify(error?.issues[0])).toContain(name);
});
