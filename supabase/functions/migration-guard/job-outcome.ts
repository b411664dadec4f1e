import { oneLine } from "./one-line.ts";
import { readableDuration } from "./readable-duration.ts";
import type { Job } from "./schemas.ts";

/** How a finished job has ended, in one line: after what time, and why, and whom to call where it has not succeeded. */
export function jobOutcome({ kind, version, status, result, error, created_at, started_at, finished_at }: Job): string {
  const seconds = (Date.parse(finished_at!) - Date.parse(started_at ?? created_at)) / 1000;
  const outcome = `${kind} ${version} ${status} after ${readableDuration(seconds)}`;
  if (!error) return `${outcome}${result?.rehearsed ? ", as a rehearsal: all of it was undone" : ""}.`;
  const contacts = error.contacts?.length ? ` Contacts: ${error.contacts.join(", ")}` : "";
  return oneLine(`${outcome}: ${error.code}: ${error.message}${contacts}`);
}
