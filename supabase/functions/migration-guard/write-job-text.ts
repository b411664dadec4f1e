import type { StreamingApi } from "hono/utils/stream";
import type { JobMessage } from "./follow-job.ts";
import { jobOutcome } from "./job-outcome.ts";
import { oneLine } from "./one-line.ts";
import type { Problem } from "./problems.ts";
import { progressBar } from "./progress-bar.ts";
import type { Job } from "./schemas.ts";
import { textColumns } from "./text-columns.ts";

/**
 * Writes what is to be told of a job as one progress bar that redraws itself, and at the end one line that stays.
 *
 * @param toProblem Gives the problem that an error means to a client.
 * @param command What follows the job again.
 */
export async function writeJobText(
  stream: StreamingApi,
  messages: AsyncIterable<JobMessage>,
  toProblem: (error: unknown) => Problem,
  command: string,
): Promise<void> {
  let bar = "";
  const draw = async (job: Job, note?: string) => {
    bar = progressBar(job, note);
    await stream.write(`\r${bar}`);
  };
  const conclude = (line: string) => stream.write(`\r${" ".repeat(textColumns(bar))}\r${line}\n`);
  let latest: Job | undefined;
  for await (const message of messages) {
    switch (message.event) {
      case "progress":
        latest = message.job;
        await draw(latest);
        break;
      case "heartbeat":
        if (latest) await draw(latest, message.isAway ? "waiting for the database" : undefined);
        break;
      case "reconnect":
        await conclude(`The job goes on. Follow it again: ${command}`);
        break;
      case "error": {
        const { code, message: detail } = toProblem(message.error);
        await conclude(oneLine(`${code}: ${detail}`));
        break;
      }
      case "end":
        await conclude(jobOutcome(message.job));
    }
  }
}
