import { z } from "@hono/zod-openapi";
import { nearestNames } from "./nearest-names.ts";
import { Problem } from "./problems.ts";
import { type Client, rpc } from "./rpc.ts";

const MissingNames = z.array(z.object({ kind: z.string(), name: z.string() }));

const ExistingNames = z.array(z.object({
  schemas: z.array(z.string()),
  tables: z.array(z.string()),
  enums: z.array(z.string()),
  functions: z.array(z.string()),
  signatures: z.array(z.string()),
})).length(1);

/** Adds to an `objects_not_found` which existing names each missing one may have meant; gives any other error back as it is. */
export async function withNearestNames(client: Client, schema: string, problem: unknown): Promise<unknown> {
  if (!(problem instanceof Problem) || problem.code !== "objects_not_found") return problem;
  const [existing] = await rpc(client, "list_names", { schema }, ExistingNames);
  const errors = nearestNames(MissingNames.parse(problem.details.errors), existing!);
  const list = errors.map(({ kind, name, nearest }) =>
    `${kind} ${name}${nearest.length > 0 ? ` (did you mean ${nearest.join(" or ")}?)` : ""}`
  );
  const detail = `The plan names what does not exist in schema ${schema}: ${list.join(", ")}.`;
  return new Problem("objects_not_found", { detail, errors });
}
