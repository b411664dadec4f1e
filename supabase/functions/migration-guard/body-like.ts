/** Tells what a body reads like, for whoever has sent none or another thing. */
export const bodyLike = (example: unknown) => `Send a body like ${JSON.stringify(example)}.`;
