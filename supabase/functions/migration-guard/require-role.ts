import { createMiddleware } from "hono/factory";
import type { AppEnv } from "./app.ts";
import type { FindOperation } from "./operations.ts";
import { Problem } from "./problems.ts";
import { includesRole, Role } from "./roles.ts";
import { rpc } from "./rpc.ts";

/**
 * Lets a request pass whose key has the role that its operation wants. What every key may do costs no look at the database;
 * the functions there look once more.
 *
 * @throws {Problem} `role_required`.
 */
export function requireRole(findOperation: FindOperation) {
  return createMiddleware<AppEnv>(async (c, next) => {
    const required = findOperation(c)?.requiredRole;
    if (required && required !== "viewer") {
      const role = await rpc(c.var.client, "get_role", { actor: c.var.actor }, Role);
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
  });
}
