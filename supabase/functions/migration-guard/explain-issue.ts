import type { z } from "@hono/zod-openapi";

/** What a request is told of a part that is not there. */
export const missing = "is missing";

/** Says what is wrong with a part of a request where zod's own words speak of types alone; undefined leaves it to zod. */
export const explainIssue: z.core.$ZodErrorMap = ({ code, input }) =>
  code !== "custom" && input === undefined ? missing : undefined;
