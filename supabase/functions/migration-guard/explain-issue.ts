import { z } from "@hono/zod-openapi";
import { nearestNames } from "./nearest-names.ts";

/** What a request is told of a part that is not there. */
export const missing = "is missing";

/** How many unknown fields are named: nobody reads more, and a body may have a hundred thousand. */
const mostNamed = 20;

/** Says what is wrong with a part of a request where zod's own words do not help; undefined leaves it to zod. */
export const explainIssue: z.core.$ZodErrorMap = (issue) => {
  if (issue.code === "unrecognized_keys") return unknownFields(issue.keys, issue.inst);
  return issue.code !== "custom" && issue.input === undefined ? missing : undefined;
};

function unknownFields(keys: string[], schema: unknown): string {
  const fields = schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
  const named = nearestNames(keys.slice(0, mostNamed).map((name) => ({ kind: "field", name })), { fields })
    .map(({ name, nearest: [nearest] }) => `${JSON.stringify(name)}${nearest ? ` (did you mean ${nearest}?)` : ""}`);
  const left = keys.length - named.length;
  return `There is no ${named.join(", ")}${left > 0 ? ` and ${left} more` : ""}`;
}
