import { z } from "@hono/zod-openapi";

/** How much has moved since a backup, in numbers. */
export const DiffSummary = z.object({
  objects: z.object({
    renamed: z.int(),
    redefined: z.int(),
    missing: z.int(),
    new: z.int(),
  }).openapi({ description: "Objects of the schema. One that was renamed and redefined counts in both." }),
  rows: z.object({
    inserted: z.int(),
    updated: z.int(),
    deleted: z.int(),
  }).openapi({ description: "Rows of the tables that were copied." }),
}).openapi("DiffSummary");
