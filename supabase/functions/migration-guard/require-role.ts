import { createMiddleware } from "hono/factory";
import { routePath } from "hono/route";
import type { App, AppEnv } from "./app.ts";
import { Problem } from "./problems.ts";
import { includesRole, Role } from "./roles.ts";
import { rpc } from "./rpc.ts";

/**
 * Lets a request pass whose key has the role that `x-required-role` of its operation says. What every key may do costs no
 * look at the database; the functions there look once more.
 *
 * @throws {Problem} `role_required`.
 */
export function requireRole(app: App) {
  const roles = new Map<string, Role>();
  return createMiddleware<AppEnv>(async (c, next) => {
    // The routes are there when the first request is.
    if (roles.size === 0) collectRoles(app, roles);
    // A HEAD is answered by what answers a GET.
    const method = c.req.method === "HEAD" ? "GET" : c.req.method;
    const required = roles.get(`${method} ${routePath(c, -1)}`);
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

/** An operation without a role is an admin's. */
function collectRoles(app: App, roles: Map<string, Role>) {
  for (const definition of app.openAPIRegistry.definitions) {
    if (definition.type !== "route" || definition.route.security?.length === 0) continue;
    const { method, path, "x-required-role": role = "admin" } = definition.route;
    roles.set(`${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ":$1")}`, Role.parse(role));
  }
}
