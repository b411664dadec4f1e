import { z } from "zod";
import { type Client, rpc } from "./rpc.ts";

const Answer = z.tuple([z.object({
  product_version: z.string(),
  server_version: z.string(),
  queued_jobs: z.int(),
  running_jobs: z.int(),
  /** Whether pg_cron calls the worker. */
  pg_cron: z.boolean(),
})]);

/** What the database says of itself and of its jobs. */
export async function readiness(client: Client): Promise<z.output<typeof Answer>[0]> {
  const [answer] = await rpc(client, "get_readiness", {}, Answer);
  return answer;
}
