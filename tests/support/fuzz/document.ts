import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

type Schema = { type?: string | string[]; properties?: Record<string, Schema>; items?: Schema; $ref?: string };
type Content = Record<string, { schema: Schema }>;
type Parameter = { name: string; in: "path" | "query" | "header"; schema: Schema };

export type Operation = {
  method: string;
  /** As the document has it: with `{version}` and its like. */
  path: string;
  parameters: Parameter[];
  /** Media types of the body, where it takes one. */
  bodyTypes: string[];
  /** Names of the fields of a JSON body. */
  fields: string[];
  /** Whether a JSON body is of the documented form. */
  isBody: (body: unknown) => boolean;
  /** What is wrong with an answer; null where it is as documented. */
  fault: (status: number, contentType: string | undefined, text: string) => string | null;
};

type RawOperation = {
  parameters?: Parameter[];
  requestBody?: { content: Content };
  responses: Record<string, { content?: Content }>;
};

const pointer = (...parts: string[]) =>
  `document#/${parts.map((part) => encodeURIComponent(part.replaceAll("~", "~0").replaceAll("/", "~1"))).join("/")}`;

/** The operations of an OpenAPI document, each with what tells whether a body or an answer is as it says. */
// deno-lint-ignore no-explicit-any
export function readDocument(document: any): { operations: Operation[]; problemFault: Operation["fault"] } {
  const ajv = new Ajv2020({ strict: false, allErrors: false });
  addFormats.default(ajv);
  ajv.addSchema({ ...document, $id: "document" });
  const compile = (...parts: string[]) => ajv.compile({ $ref: pointer(...parts) });

  const isProblem = compile("components", "schemas", "Problem");
  const faultOf = (validate: ValidateFunction, text: string) => {
    let body: unknown;
    try {
      body = JSON.parse(text);
    } catch {
      return `no JSON: ${text.slice(0, 200)}`;
    }
    return validate(body) ? null : `${ajv.errorsText(validate.errors)} in ${text.slice(0, 300)}`;
  };
  const problemFault: Operation["fault"] = (status, contentType, text) => {
    if (contentType !== "application/problem+json") return `${status} as ${contentType}`;
    return faultOf(isProblem, text) ?? (JSON.parse(text).status === status ? null : "the body has another status");
  };

  const operations = Object.entries<Record<string, RawOperation>>(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, raw]): Operation => {
      const json = raw.requestBody?.content["application/json"]?.schema;
      const schema: Schema = json?.$ref ? document.components.schemas[json.$ref.split("/").at(-1)!] : json ?? {};
      const isBody = json
        ? compile("paths", path, method, "requestBody", "content", "application/json", "schema")
        : undefined;
      const answers = new Map<string, ValidateFunction | null>();
      for (const [status, { content = {} }] of Object.entries(raw.responses)) {
        if (Object.keys(content).length === 0) answers.set(`${status} `, null);
        for (const type of Object.keys(content)) {
          const isJson = /json$/.test(type);
          answers.set(
            `${status} ${type}`,
            isJson ? compile("paths", path, method, "responses", status, "content", type, "schema") : null,
          );
        }
      }
      return {
        method: method.toUpperCase(),
        path,
        parameters: raw.parameters ?? [],
        bodyTypes: Object.keys(raw.requestBody?.content ?? {}),
        fields: Object.keys(schema.properties ?? {}),
        isBody: (body) => isBody?.(body) === true,
        fault: (status, contentType, text) => {
          const found = answers.get(`${status} ${contentType?.split(";")[0] ?? ""}`);
          if (found === undefined) return `${status} as ${contentType} is not documented`;
          return found && (faultOf(found, text) ?? (status >= 400 ? problemFault(status, contentType, text) : null));
        },
      };
    })
  );
  return { operations, problemFault };
}
