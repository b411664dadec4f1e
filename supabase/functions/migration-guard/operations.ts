import type { RouteConfig } from "@hono/zod-openapi";
import type { Context } from "hono";
import { routePath } from "hono/route";
import type { App, AppEnv } from "./app.ts";
import { Role } from "./roles.ts";

/** What an operation of the OpenAPI document says for the function itself. */
export type Operation = {
  /** Null where no credential is asked for. */
  requiredRole: Role | null;
  /** Whether it counts against the limit of changes. */
  changes: boolean;
  /** What the audit trail calls it. */
  auditAction: string;
  takesBody: boolean;
  /** Whether it has parameters in its query, which it then looks at itself. */
  takesQuery: boolean;
  /** What a JSON body reads like that must be there. */
  exampleBody: unknown;
};

/** Which operation a request is for, if there is one. */
export type FindOperation = (c: Context<AppEnv>) => Operation | undefined;

/** Whether an operation changes something: what is no GET does, unless it says otherwise. */
export const isChange = ({ method, "x-changes": changes = method !== "get" }: RouteConfig): boolean => changes;

/** Looks operations up in the document that the routes make: an operation without a role is an admin's. */
export function findOperation(app: App): FindOperation {
  const operations = new Map<string, Operation>();
  return (c) => {
    // The routes are there when the first request is.
    if (operations.size === 0) {
      for (const definition of app.openAPIRegistry.definitions) {
        if (definition.type !== "route") continue;
        const { method, path, security, "x-required-role": role = "admin", "x-audit-action": action = "request" } =
          definition.route;
        const body = definition.route.request?.body;
        const json = body?.content["application/json"];
        operations.set(`${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ":$1")}`, {
          changes: isChange(definition.route),
          requiredRole: security?.length === 0 ? null : Role.parse(role),
          auditAction: action,
          takesBody: body !== undefined,
          takesQuery: definition.route.request?.query !== undefined,
          exampleBody: json && "example" in json ? json.example : undefined,
        });
      }
    }
    // A HEAD is answered by what answers a GET.
    return operations.get(`${c.req.method === "HEAD" ? "GET" : c.req.method} ${routePath(c, -1)}`);
  };
}
