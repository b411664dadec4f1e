import { html } from "hono/html";
import type { App } from "./app.ts";

type Content = Record<string, { schema?: unknown; example?: unknown }>;

/** What the page tells of an operation. */
type Operation = {
  summary?: string;
  description?: string;
  "x-required-role"?: string;
  parameters?: {
    in: string;
    name: string;
    required?: boolean;
    description?: string;
  }[];
  requestBody?: { required?: boolean; content: Content };
  responses: Record<string, { description: string; content?: Content }>;
};

const style =
  `body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1f2937; }
pre { white-space: pre-wrap; background: #f3f4f6; padding: .5rem; }`;

/** Writes an OpenAPI document as a page. */
export function renderDocs(
  { info, paths, components }: ReturnType<App["getOpenAPI31Document"]>,
) {
  const operations = Object.entries(paths ?? {}).flatMap(([path, methods]) =>
    Object.entries(methods as Record<string, Operation>).map(([method, operation]) =>
      section(`${method.toUpperCase()} ${path}`, operation)
    )
  );
  return html`
    <!doctype html>
    <html lang="en">
    <meta charset="utf-8">
    <title>${info.title} ${info.version}</title>
    <style>${style}</style>
    <h1>${info.title} ${info.version}</h1>
    <p>${info.description}</p>
    ${operations}
    <h2>Schemas</h2>
    ${Object.entries(components?.schemas ?? {}).map(([name, schema]) => block(name, schema))}
    </html>
  `;
}

function section(
  name: string,
  { summary, description, "x-required-role": role, ...operation }: Operation,
) {
  const { parameters = [], requestBody, responses } = operation;
  return html`
    <h2><code>${name}</code></h2>
    <p>${summary} ${role ? `For a key with the role ${role} or more.` : ""}</p>
    ${description ? html`<pre>${description}</pre>` : ""}
    <ul>
    ${parameters.map((parameter) =>
      html`<li><code>${parameter.name}</code> (${parameter.in}${
        parameter.required ? "" : ", may be left out"
      }) ${parameter.description}</li>`
    )}
    </ul>
    ${Object.entries(requestBody?.content ?? {}).map(([type, body]) => block(`Body, ${type}`, body))}
    ${Object.entries(responses).map(([status, { description, content = {} }]) =>
      html`<details><summary>${status}: ${description}</summary>${
        Object.entries(content).map(([type, { schema }]) => block(type, schema))
      }</details>`
    )}
  `;
}

const block = (title: string, value: unknown) =>
  html`
    <details>
      <summary>${title}</summary>
      <pre>${JSON.stringify(value, null, 2)}</pre>
    </details>
  `;
