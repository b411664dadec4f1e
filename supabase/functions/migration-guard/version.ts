/** Version of the function; `/ready` compares it with the SQL half's, `migration_guard.product_version()`. */
export const productVersion = "0.1.0";
