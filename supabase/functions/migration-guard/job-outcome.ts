import { jobName } from "./job-name.ts";
import { oneLine } from "./one-line.ts";
import { readableDuration } from "./readable-duration.ts";
import type { Job } from "./schemas.ts";

/** How a finished job has ended, in one line: after what time, and why, and whom to call where it has not succeeded. */
export function jobOutcome(job: Job): string {
  const { status, rehearse, result, error, created_at, started_at, finished_at } = job;
  const seconds = (Date.parse(finished_at!) - Date.parse(started_at ?? created_at)) / 1000;
  const outcome = `${jobName(job)} ${status} after ${readableDuration(seconds)}`;
  const note = rehearse ? ": all of it was undone" : result?.ok === false ? ": a check has FAILED, see its result" : "";
  if (!error) return `${outcome}${note}.`;
  const contacts = error.contacts?.length ? ` Contacts: ${error.contacts.join(", ")}` : "";
  return oneLine(`${outcome}: ${error.code}: ${error.message}${contacts}`);
}
