/** Milliseconds after which a request that goes on looks for a lost worker, and for webhooks that are due. */
const pause = 30_000;

/** Does what it is given not at once, and not more often than every 30 s, however often it is called. */
export function throttled(act: () => unknown): () => void {
  let since = performance.now();
  return () => {
    if (performance.now() - since < pause) return;
    since = performance.now();
    act();
  };
}
