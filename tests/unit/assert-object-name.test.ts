import { expect, test } from "vitest";
import { assertObjectName } from "../../supabase/functions/migration-guard/exports/assert-object-name.ts";

test.for(["manifest.json", "v10/2026-11-29T08.00.00Z/profiles_backup.000.gz", "a", "...", ".a", "a".repeat(512)])(
  "an object may be called %s",
  (name) => assertObjectName("offsite", name),
);

test.for([
  ...["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", "a/./b", "a\\b", "a b", "a%2Fb", "a?b", "a#b"],
  ...["ä", "a\n", "\0", "a:b", "a".repeat(513)],
])("an object cannot be called %j, and the name is not repeated", (name) => {
  const check = () => assertObjectName("offsite", name);
  expect(check).toThrow(expect.objectContaining({ code: "invalid_object_name" }));
  expect(check).toThrow(/^Target offsite: an object cannot have that name\.$/);
});
