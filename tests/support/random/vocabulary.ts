import { Impossible } from "./draw.ts";
import type { Make } from "./make.ts";
import { columns } from "./statements/columns.ts";
import { constraints } from "./statements/constraints.ts";
import { functions } from "./statements/functions.ts";
import { indexes } from "./statements/indexes.ts";
import { policies } from "./statements/policies.ts";
import { privileges } from "./statements/privileges.ts";
import { rows } from "./statements/rows.ts";
import { sequences } from "./statements/sequences.ts";
import { tables } from "./statements/tables.ts";
import { triggers } from "./statements/triggers.ts";
import { types } from "./statements/types.ts";
import { views } from "./statements/views.ts";

/** Every kind of statement, and none. */
export const vocabulary: Record<string, Make> = {
  nothing: () => {
    throw new Impossible();
  },
  ...tables,
  ...columns,
  ...constraints,
  ...indexes,
  ...views,
  ...functions,
  ...triggers,
  ...policies,
  ...types,
  ...sequences,
  ...privileges,
  ...rows,
};
