import { OpenAPIHono, z } from "@hono/zod-openapi";
import type { Context } from "hono";
import { bodyLimit } from "hono/body-limit";
import { except } from "hono/combine";
import { contextStorage } from "hono/context-storage";
import { methodNotAllowed } from "hono/method-not-allowed";
import type { RequestIdVariables } from "hono/request-id";
import { authenticate, type Authenticated, keyNames } from "./authenticate.ts";
import { bodyLike } from "./body-like.ts";
import { callAgain } from "./call-again.ts";
import { createClients } from "./clients.ts";
import { corsHeaders } from "./cors-headers.ts";
import { deliverWebhooks } from "./deliver-webhooks.ts";
import { documentLimits } from "./document-limits.ts";
import type { Environment } from "./environment.ts";
import { essentials } from "./essentials.ts";
import { explainIssue, missing } from "./explain-issue.ts";
import { findOperation } from "./operations.ts";
import { pathOf } from "./path-of.ts";
import { problemOf } from "./problem-of.ts";
import { Problem } from "./problems.ts";
import { recordRefusals } from "./record-refusals.ts";
import { pathPattern } from "./request-facts.ts";
import { requireMediaType } from "./require-media-type.ts";
import { requireRole } from "./require-role.ts";
import { audit } from "./routes/audit.ts";
import { backups } from "./routes/backups.ts";
import { diff } from "./routes/diff.ts";
import { docs } from "./routes/docs.ts";
import { exports } from "./routes/exports.ts";
import { health } from "./routes/health.ts";
import { imports } from "./routes/imports.ts";
import { jobEvents } from "./routes/job-events.ts";
import { jobs } from "./routes/jobs.ts";
import { keys } from "./routes/keys.ts";
import { metrics } from "./routes/metrics.ts";
import { plans } from "./routes/plans.ts";
import { plansDerive } from "./routes/plans-derive.ts";
import { preflight } from "./routes/preflight.ts";
import { ready } from "./routes/ready.ts";
import { rollback } from "./routes/rollback.ts";
import { NoQuery } from "./schemas.ts";
import { throwErrors } from "./throw-errors.ts";
import { productVersion } from "./version.ts";
import { createWorker, type NewJob, type Worker } from "./worker.ts";

export type AppEnv = {
  Variables: Authenticated & RequestIdVariables & {
    /** When the request came, by `performance.now()`. */
    start: number;
    worker: Worker;
    pokeWorker: (job?: NewJob) => Promise<void> | undefined;
    webhooks: Environment["webhooks"];
    /** What the audit trail calls a request that is more than its operation usually is. */
    auditAction?: string;
    /** By what the database knows that it has counted a request that changes something. */
    admission?: string;
  };
};
export type App = OpenAPIHono<AppEnv>;

/** What the platform offers a function besides its environment. */
export type Platform = {
  /** Keeps the isolate alive until a promise is settled. */
  waitUntil: (promise: Promise<unknown>) => void;
};

const name = "migration-guard";
const regionParameter = "forceFunctionRegion";
const maxBodyBytes = 1024 * 1024;
/** Milliseconds that an isolate lets pass between two looks for webhooks that are due, unless it has just run a job. */
const webhookPause = 10_000;

z.config({ customError: explainIssue });

/** Puts the function together: what every request goes through, then one file of routes for each resource. */
export function createApp(environment: Environment, { waitUntil }: Platform): App {
  const url = `${environment.url}/functions/v1/${name}`;
  const worker = createWorker(environment.databaseUrl, {
    environment,
    callAgain: (jobId) => callAgain(`${url}/v1/jobs/${jobId}`, environment),
  });
  const clients = createClients(environment);
  const app: App = new OpenAPIHono<AppEnv>({
    getPath: pathOf,
    defaultHook: (result, c) => {
      if (result.success) return;
      throw invalidRequest(result.error.issues, result.target === "json" ? operationOf(c)?.exampleBody : undefined);
    },
  });

  const operationOf = findOperation(app);
  app.use(...essentials);
  app.use(contextStorage());
  app.use((c, next) => {
    // The platform's own, which its client adds where a region is chosen.
    const url = new URL(c.req.url);
    if (url.searchParams.has(regionParameter)) {
      url.searchParams.delete(regionParameter);
      c.req.raw = new Request(url, c.req.raw);
    }
    return next();
  });
  app.use(recordRefusals(operationOf, clients.get, waitUntil));
  let webhooksSentAt = -Infinity;
  app.use(async (c, next) => {
    const sendWebhooks = () => {
      webhooksSentAt = Date.now();
      return deliverWebhooks(c.var.client, environment.webhooks);
    };
    const sendWebhooksAgain = () => {
      if (Date.now() - webhooksSentAt > webhookPause) waitUntil(sendWebhooks());
    };
    c.set("worker", worker);
    c.set("webhooks", environment.webhooks);
    c.set("pokeWorker", (job?: NewJob) => {
      const work = worker.poke(job);
      if (work) waitUntil(work.then(sendWebhooks));
      else sendWebhooksAgain();
      return work;
    });
    await next();
    // What failed before is tried again by whoever looks, and what another isolate's worker left behind is sent.
    if (c.var.client && /^\/(ready|v1\/jobs)(\/|$)/.test(c.req.path)) sendWebhooksAgain();
  });
  app.use(throwErrors);
  if (environment.allowedOrigins.length > 0) app.use(corsHeaders(environment.allowedOrigins));
  app.use(methodNotAllowed({
    app,
    onMethodNotAllowed: (c, methods) =>
      new Problem("method_not_allowed", { detail: `The path takes ${methods.join(", ")}.` })
        .toResponse(c.var.requestId, { allow: methods.join(", ") }),
  }));
  app.use(except(["/health", "/openapi.json"], authenticate(environment, clients)));
  app.use(requireRole(operationOf));
  // What takes no body does not read one, whatever it is.
  const takesNoBody = (c: Context) => !operationOf(c)?.takesBody;
  const limitBody = bodyLimit({
    maxSize: maxBodyBytes,
    onError: () => {
      throw new Problem("body_too_large", { detail: `A body has at most ${maxBodyBytes} bytes.` });
    },
  });
  app.use(except(takesNoBody, limitBody, requireMediaType));
  app.use((c, next) => {
    // One that was mistyped would go unnoticed.
    const query = operationOf(c)?.takesQuery === false ? NoQuery.safeParse(c.req.query()) : undefined;
    if (query?.error) throw invalidRequest(query.error.issues, undefined);
    return next();
  });

  health(app);
  ready(app);
  metrics(app);
  plans(app);
  plansDerive(app);
  preflight(app);
  backups(app);
  exports(app, environment);
  diff(app);
  rollback(app);
  imports(app, environment);
  jobs(app);
  jobEvents(app, url);
  keys(app, keyNames(environment));
  audit(app);
  docs(app, () => app.getOpenAPI31Document(document));

  documentLimits(app);
  app.openAPIRegistry.registerComponent("securitySchemes", "secretKey", {
    type: "apiKey",
    in: "header",
    name: "apikey",
  });
  app.openAPIRegistry.registerComponent("securitySchemes", "serviceRoleToken", {
    type: "http",
    scheme: "bearer",
    bearerFormat: "JWT",
  });
  const document: Parameters<App["getOpenAPI31Document"]>[0] = {
    openapi: "3.1.0",
    info: {
      title: "Migration Guard",
      version: productVersion,
      description:
        "Backs up what a schema migration can touch, proves the copy whole, leads the way back, and removes it behind guards.",
    },
    servers: [{ url }],
    security: [{ secretKey: [] }, { serviceRoleToken: [] }],
  };
  app.doc31("/openapi.json", document);

  app.notFound((c) => {
    // A path is not repeated: somebody may have put a key into it.
    const problem = new Problem("not_found", { detail: "There is no such path: /openapi.json lists what there is." });
    return problem.toResponse(c.var.requestId);
  });
  app.onError((error, c) =>
    problemOf(error, `${c.req.method} ${pathPattern(c)}`, c.var.requestId, operationOf(c)?.exampleBody)
      .toResponse(c.var.requestId)
  );
  return app;
}

/** @param exampleBody Shown where something is missing, or where the body as a whole is not what it should be. */
function invalidRequest(issues: z.core.$ZodIssue[], exampleBody: unknown): Problem {
  const errors = issues.map(({ path, message }) => ({ path: path.join("."), message }));
  const said = errors.map(({ path, message }) => path ? `${path}: ${message}` : message).join("; ");
  const isLacking = issues.some(({ code, path, message }) =>
    message === missing || path.length === 0 && code !== "unrecognized_keys"
  );
  const detail = isLacking && exampleBody ? `${said}. ${bodyLike(exampleBody)}` : said;
  return new Problem("invalid_request", { detail, errors });
}
