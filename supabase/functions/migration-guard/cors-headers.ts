import { cors } from "hono/cors";

/** Lets pages of other origins call the API from a browser, and answers a browser's question before it does. */
export const corsHeaders = (origins: string[] | "*") =>
  cors({
    origin: origins,
    allowMethods: ["GET", "HEAD", "POST", "PUT", "DELETE"],
    // supabase-js says in x-client-info which version it is.
    allowHeaders: [
      ...["apikey", "authorization", "content-type", "accept", "prefer", "idempotency-key", "last-event-id"],
      ...["x-request-id", "x-client-info"],
    ],
    exposeHeaders: ["location", "retry-after", "preference-applied", "x-request-id", "www-authenticate"],
  });
