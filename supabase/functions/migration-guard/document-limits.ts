import type { App } from "./app.ts";
import { isChange } from "./operations.ts";
import { problemResponses } from "./schemas.ts";

/** Adds to the OpenAPI document that an operation which changes something may be refused for coming too often. */
export function documentLimits(app: App): void {
  const headers = {
    "Retry-After": { description: "Seconds until it is worth coming again.", schema: { type: "integer" as const } },
  };
  for (const definition of app.openAPIRegistry.definitions) {
    if (definition.type !== "route" || !isChange(definition.route)) continue;
    definition.route.responses[429] = { ...problemResponses(429)[429]!, headers };
  }
}
