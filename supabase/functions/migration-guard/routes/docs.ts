import { createRoute, z } from "@hono/zod-openapi";
import type { App } from "../app.ts";
import { renderDocs } from "../render-docs.ts";
import { problemResponses } from "../schemas.ts";

const getDocs = createRoute({
  method: "get",
  path: "/docs",
  "x-required-role": "viewer",
  tags: ["health"],
  summary: "`/openapi.json` as a page to be read: without scripts, and without anything from elsewhere.",
  responses: {
    200: {
      description: "The page.",
      content: { "text/html": { schema: z.string() } },
    },
    ...problemResponses(),
  },
});

/** @param document Gives the OpenAPI document. */
export function docs(
  app: App,
  document: () => ReturnType<App["getOpenAPI31Document"]>,
) {
  app.openapi(getDocs, (c) => {
    c.header(
      "content-security-policy",
      "default-src 'none'; style-src 'unsafe-inline'",
    );
    return c.html(renderDocs(document()), 200);
  });
}
