import { createMiddleware } from "hono/factory";
import { z } from "zod";
import type { AppEnv } from "./app.ts";
import type { FindOperation } from "./operations.ts";
import { Problem } from "./problems.ts";
import { includesRole, Role } from "./roles.ts";
import { rpc } from "./rpc.ts";

const Admissions = z.tuple([z.object({ role: Role, admission: z.uuid() })]);

/**
 * Lets a request pass whose key has the role that its operation wants and, where it changes something, has not done so too often.
 * What every key may do costs no look at the database; the functions there look once more.
 *
 * @throws {Problem} `rate_limited` or `role_required`.
 */
export function requireRole(findOperation: FindOperation) {
  return createMiddleware<AppEnv>(async (c, next) => {
    const { requiredRole: required, changes } = findOperation(c) ?? {};
    if (required && (changes || required !== "viewer")) {
      const role = changes ? await admit() : await rpc(c.var.client, "get_role", { actor: c.var.actor }, Role);
      if (!includesRole(role, required)) {
        throw new Problem("role_required", {
          detail:
            `The key ${c.var.actor} is ${role}, and this wants ${required}: send such a key, or have an admin give it that role.`,
          role,
          required,
        });
      }
    }
    await next();

    /** Counts the request, whatever becomes of it, in a transaction of its own. */
    async function admit(): Promise<Role> {
      const [{ role, admission }] = await rpc(c.var.client, "admit_change", { actor: c.var.actor }, Admissions);
      c.set("admission", admission);
      return role;
    }
  });
}
