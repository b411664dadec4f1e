import type postgres from "postgres";
import { Draw, Impossible } from "./draw.ts";
import { readState } from "./read-state.ts";
import type { Choice } from "./scenario.ts";
import { vocabulary } from "./vocabulary.ts";

export type Tried = { kind: string; statement: string | undefined; refusal: string | undefined };

/**
 * Makes and runs statements, each in a transaction of its own and out of what is there after those before it.
 *
 * @returns Every statement that was tried. What Postgres refuses is left out, and its refusal told.
 */
export async function runChoices(sql: postgres.Sql, choices: Choice[]): Promise<Tried[]> {
  const tried: Tried[] = [];
  for (const { kind, numbers } of choices) {
    let statement: string | undefined;
    let refusal: string | undefined;
    try {
      statement = vocabulary[kind]!(await readState(sql), new Draw(numbers)).replaceAll(/\s+/g, " ").trim();
      await sql.unsafe(statement).simple();
    } catch (error) {
      if (!(error instanceof Impossible) && !("severity" in (error as object))) throw error;
      refusal = error instanceof Impossible ? "nothing to make it of" : (error as Error).message;
    }
    tried.push({ kind, statement, refusal });
  }
  return tried;
}
