import { expect, test } from "vitest";
import { nearestNames } from "../../supabase/functions/migration-guard/nearest-names.ts";

const existing = {
  fields: ["tables", "retention_days", "two_keys"],
  schemas: ["public", "private"],
  tables: ["profiles", "profile_tags", "orders", "order_items", "a", "Ärzte"],
  enums: ["user_role"],
  functions: ["area", "area", "area", "is_member"],
  signatures: ["area(box)", "area(circle)", "area(path, integer)", "is_member(uuid)"],
};
const nearest = (kind: string, name: string) => nearestNames([{ kind, name }], existing)[0]!.nearest;

test.for<[string, string, string[]]>([
  ["table", "profile", ["profiles", "profile_tags"]],
  ["table", "PROFILES", ["profiles", "profile_tags"]],
  ["table", "public.orders", ["orders"]],
  ["table", "public.a", ["a"]],
  ["table", "public.profils", ["profiles"]],
  ["table", "other.a", []],
  ["table", "publicorders", ["orders"]],
  ["table", "items", ["order_items"]],
  ["table", "b", ["a"]],
  ["table", "ärzte", ["Ärzte"]],
  ["table", "user_role", []],
  ["table", "something_else", []],
  ["enum", "userrole", ["user_role"]],
  ["schema", "publik", ["public"]],
  ["function", "is_membr", ["is_member"]],
  ["function", "areas", ["area"]],
  ["function", "area(circles)", ["area(circle)", "area(box)", "area(path, integer)"]],
  ["function", "is_membre(text)", ["is_member(uuid)"]],
  ["function", "public.areas", ["area"]],
  ["function", "public.area(circles)", ["area(circle)", "area(box)", "area(path, integer)"]],
  ["function", "nothing(text)", []],
  ["field", "retention_day", ["retention_days"]],
  ["field", "retention", ["retention_days"]],
  ["field", "profiles", []],
  ["match", "user_role", []],
])("for the %s %s it offers %j", ([kind, name, offered]) => {
  expect(nearest(kind, name)).toEqual(offered);
});

test("it offers three names at most, the nearest first", () => {
  const tables = ["name_1234", "name_123", "name_12", "name_1", "name_"];
  expect(nearestNames([{ kind: "table", name: "name" }], { ...existing, tables })[0]!.nearest)
    .toEqual(["name_", "name_1", "name_12"]);
});

test("of more names than can be compared the first ones are told", () => {
  const tables = Array.from({ length: 5000 }, (_, i) => `table_number_${i}`);
  const missing = Array.from({ length: 1000 }, (_, i) => ({ kind: "table", name: `table_numbr_${i}` }));
  const told = nearestNames(missing, { ...existing, tables });
  expect(told[0]).toEqual({
    kind: "table",
    name: "table_numbr_0",
    nearest: expect.arrayContaining(["table_number_0"]),
  });
  expect(told.at(-1)).toEqual({ kind: "table", name: "table_numbr_999", nearest: [] });
});
