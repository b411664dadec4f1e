import { z } from "@hono/zod-openapi";

/** What a key may do: each role may do what the ones before it may. */
export const Role = z.enum(["viewer", "operator", "admin"]).openapi("Role", {
  description: "`viewer` reads, `operator` also plans, backs up, verifies, compares and signs off, `admin` may do all.",
});

export type Role = z.output<typeof Role>;

/** Whether a role may do all that another one may. */
export const includesRole = (role: Role, needed: Role) => Role.options.indexOf(role) >= Role.options.indexOf(needed);
