import { z } from "@hono/zod-openapi";
import { Text } from "./schemas.ts";

/** A guard that an admin lets pass, and why. */
export const Override = z.strictObject({
  guard: z.enum(["retention_passed", "export_verified"]).openapi({
    description: "The guard that need not pass. No other has a way around it.",
  }),
  reason: Text.trim().max(2000).refine(
    // Neither controls and format characters, nor separators, nor what looks like nothing.
    (text) => [...text.replace(/[\p{C}\p{Z}\p{Default_Ignorable_Code_Point}\u2800]/gu, "")].length >= 10,
    "has 10 characters or more that can be seen",
  ).openapi({ description: "Kept in the audit trail, and with the job." }),
}).openapi("Override");
