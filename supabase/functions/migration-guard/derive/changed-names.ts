import type { Touch } from "./touch.ts";

const isRoutine = (kind: string) => ["function", "procedure", "aggregate", "routine"].includes(kind);

/**
 * What a migration takes from those who name it, in the form that the RPC `preflight_plan` takes: the names that it
 * renames or drops, and the functions that it makes or drops itself, whose old bodies are no matter.
 */
export function changedNames(touches: Touch[]) {
  const gone = touches.filter(({ action, is_new }) => (action === "rename" || action === "drop") && !is_new);
  const replaced = touches.filter(({ action, kind, statement }) =>
    isRoutine(kind) && (statement.startsWith("CREATE ") || action === "drop")
  );
  return {
    renames: gone.map(({ kind, schema, name, parent, new_name, line }) => ({
      kind,
      name,
      line,
      schema: schema ?? null,
      parent: parent ?? null,
      new_name: new_name ?? null,
    })),
    replaced: [...new Set(replaced.map(({ name }) => name))],
  };
}
