/** What is wrong with the recipients of a request: never with the text that was given, which may be a secret. */
export class RecipientsError extends Error {
  constructor(
    readonly code:
      | "recipients_missing"
      | "recipients_too_many"
      | "recipient_invalid"
      | "recipient_is_identity"
      | "recipients_mixed",
    message: string,
    /** Place of the one that is meant, from 0. */
    readonly index?: number,
  ) {
    super(message);
  }
}
