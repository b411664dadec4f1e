import { password } from "./postgres.ts";

/** Connection URL of the embedded Postgres. */
export function databaseUrl({ user = "postgres", port, database = "postgres" }: {
  user?: string;
  port: number;
  database?: string;
}): string {
  return `postgresql://${user}:${password}@127.0.0.1:${port}/${database}`;
}
