import type { StepOutcome, Transfer } from "./transfer.ts";
export const importStep = (_: Transfer): Promise<StepOutcome> => Promise.resolve("ended");
