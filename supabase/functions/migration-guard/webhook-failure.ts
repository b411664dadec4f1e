/** Why an attempt to send a webhook came to nothing, in one word that the database keeps. */
export class WebhookFailure extends Error {
  constructor(
    readonly code:
      | "name_not_found"
      | "address_not_public"
      | "connection_failed"
      | "tls_failed"
      | "connection_lost"
      | "invalid_answer"
      | "timeout",
  ) {
    super(code);
  }
}
