/**
 * Writes what the database tells of a job into the function's log: the line that `migration_guard.log_job_transition`
 * raises, as it is. Whatever else a server has to say is not for this log.
 */
export function logJobLine({ message }: { message?: string }): void {
  if (message && isJobLine(message)) console.log(message);
}

function isJobLine(message: string): boolean {
  try {
    return JSON.parse(message)?.event === "job";
  } catch {
    return false;
  }
}
