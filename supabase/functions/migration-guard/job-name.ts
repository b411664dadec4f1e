import type { Job } from "./schemas.ts";

/** What a job is called where it is followed: its kind, or that it is but a rehearsal, and its version. */
export const jobName = ({ kind, rehearse, version }: Job): string => `${rehearse ? "rehearsal" : kind} ${version}`;
