import type { Draw } from "./draw.ts";
import type { State } from "./read-state.ts";

/** Makes a statement of one kind out of what is there and the numbers that were drawn. */
export type Make = (state: State, draw: Draw) => string;
