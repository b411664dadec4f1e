import { z } from "@hono/zod-openapi";
import { Text } from "./schemas.ts";

const Mode = z.enum(["keep", "restore"]);
const Table = Text.min(1).max(200);

/** How a rollback treats rows and what is new, in the form that the database takes. It fills in what is not said. */
export const RollbackOptions = z.strictObject({
  data: z.union([Mode, z.record(Table, Mode)], "is keep, restore, or an object that has one of them for each table")
    .optional().openapi({
      description:
        "`keep` (the default of a plan): the rows stay as they are now, in the old shape, and what was dropped is filled again from the backup. `restore`: the rows become the backup's, and what that discards is kept in its schema. An object says it for single tables, and `keep` holds for the others.",
      example: { profiles: "restore", invite_codes: "keep" },
    }),
  drop_new: z.union([z.enum(["all", "blocking"]), z.array(Table).max(1000)], "is all, blocking, or a list of tables")
    .optional().openapi({
      description:
        "What was created since the backup is dropped again, but for tables, unless they are named here or it says `all`. `blocking` drops only what bars the way.",
      example: ["archived_profiles"],
    }),
  leave_deleted: z.boolean().optional().openapi({
    description: "With `restore`: rows that were deleted since the backup stay deleted.",
  }),
});
