import type postgres from "postgres";

/** Waits for what has nothing to do with the database, while the transaction is open. */
type Meanwhile = <T>(work: Promise<T>) => Promise<T>;

/** Codes of the driver and of the system. */
const isLostConnection = (error: unknown): boolean =>
  /^(CONNECTION_CLOSED|E[A-Z]+)$/.test(String((error as { code?: unknown } | null)?.code));

/**
 * A transaction whose connection may be lost without harm. The driver (3.4.9) tells that `begin` has failed, and lets its function go
 * on: what that then asks, were it the end of the transaction, it would write to a socket that is gone, which throws where
 * nobody can catch it. Here it goes on no more.
 *
 * @throws What `use` throws, or the connection was lost with.
 */
export async function transact<T>(
  sql: postgres.Sql,
  use: (transaction: postgres.TransactionSql, meanwhile: Meanwhile) => Promise<T>,
): Promise<T> {
  const never = new Promise<never>(() => {});
  let isLost = false;
  const meanwhile: Meanwhile = async (work) => {
    try {
      return await work;
    } finally {
      if (isLost) await never;
    }
  };
  try {
    return await sql.begin("isolation level read committed", async (transaction) => {
      try {
        return await use(transaction, meanwhile);
      } catch (error) {
        if (isLost || isLostConnection(error)) await never;
        throw error;
      }
    }) as T;
  } catch (error) {
    isLost = true;
    throw error;
  }
}
