import type { SSEStreamingApi } from "hono/streaming";
import type { JobMessage } from "./follow-job.ts";

/** Milliseconds after which a client whose stream has ended comes back. */
const retry = 1000;

/**
 * Writes what is to be told of a job as server-sent events.
 *
 * @param problemText Gives the problem, in JSON, that an error means to a client.
 */
export async function writeJobEvents(
  stream: SSEStreamingApi,
  messages: AsyncIterable<JobMessage>,
  problemText: (error: unknown) => Promise<string>,
): Promise<void> {
  await stream.write(`retry: ${retry}\n\n`);
  for await (const message of messages) {
    switch (message.event) {
      case "heartbeat":
        await stream.write(message.isAway ? ": the database is away\n\n" : ": nothing new\n\n");
        break;
      case "reconnect": {
        const detail = "The job goes on. Come back with the header Last-Event-ID, as an EventSource does by itself.";
        await stream.writeSSE({ event: message.event, id: message.id, data: JSON.stringify({ detail }) });
        break;
      }
      case "error":
        await stream.writeSSE({ event: message.event, data: await problemText(message.error) });
        break;
      default:
        await stream.writeSSE({ event: message.event, id: message.id, data: JSON.stringify(message.job) });
    }
  }
}
