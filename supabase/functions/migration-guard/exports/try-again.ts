import { retry, RetryError } from "deno-std/async/retry.js";
import { ObjectStoreError } from "./object-store.ts";

export type TryOptions = {
  /** Milliseconds that one try may take, answer and all. */
  timeLimit?: number;
  maxAttempts?: number;
  /** Milliseconds of the first pause at most; each may be twice as long as the one before, and all are random. */
  pause?: number;
};

/** What the requests of one operation have in common. */
export type Operation = TryOptions & {
  target: string;
  object?: string;
  /** Ends the operation. */
  signal?: AbortSignal;
};

/**
 * Does `attempt` until it succeeds, fails for good, or has failed often enough. It must pass on the signal that it is given, and
 * throw what is worth another try as a transient {@link ObjectStoreError}, or as it comes from `fetch`.
 *
 * @throws {ObjectStoreError} What the last try failed with.
 * @throws The reason of the operation's signal, when that ends it.
 */
export async function tryAgain<T>(operation: Operation, attempt: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const { target, object, signal, timeLimit = 30_000, maxAttempts = 5, pause = 500 } = operation;

  async function tryOnce(): Promise<T> {
    const ended = new AbortController();
    const end = () => ended.abort();
    signal?.addEventListener("abort", end);
    // Not AbortSignal.timeout, whose timer goes on when the answer is there.
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      end();
    }, timeLimit);
    try {
      return await attempt(ended.signal);
    } catch (error) {
      if (error instanceof ObjectStoreError) throw error;
      const detail = isLate ? `no answer within ${timeLimit / 1000} s` : systemCode(error);
      throw new ObjectStoreError("store_unreachable", { target, object, detail }, true);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
    }
  }

  try {
    return await retry(tryOnce, {
      maxAttempts,
      minTimeout: pause,
      maxTimeout: pause * 16,
      isRetriable: (error: unknown) => !signal?.aborted && error instanceof ObjectStoreError && error.isTransient,
      signal,
    });
  } catch (error) {
    signal?.throwIfAborted();
    throw error instanceof RetryError ? error.cause : error;
  }
}

/** Such as `ECONNREFUSED` or `UND_ERR_SOCKET`, where the runtime tells. */
function systemCode(error: unknown): string | undefined {
  const { code, cause } = error as { code?: unknown; cause?: { code?: unknown } };
  const isCode = (code: unknown) => typeof code === "string" && /^[A-Z][A-Z_]{1,40}$/.test(code);
  return [cause?.code, code].find(isCode) as string | undefined;
}
