import { Encrypter } from "age-encryption";
import { RecipientsError } from "./recipients-error.ts";

const mostRecipients = 20;
/** Bech32, whose data has no `1`: hence neither a plugin's recipient, nor a hardware key's. */
const x25519 = /^age1[02-9ac-hj-np-z]{58}$/;
const postQuantum = /^age1pq1[02-9ac-hj-np-z]{1952}$/;

/**
 * The recipients that a request gives, each once. Each has been encrypted for, once, since there are keys that only then turn out to
 * be none.
 *
 * @throws {RecipientsError}
 */
export async function parseRecipients(given: readonly string[]): Promise<string[]> {
  const recipients = [...new Set(given)];
  if (recipients.length === 0) {
    throw new RecipientsError("recipients_missing", "There is no recipient.");
  }
  if (recipients.length > mostRecipients) {
    throw new RecipientsError("recipients_too_many", `There are more than ${mostRecipients} recipients.`);
  }
  for (const recipient of recipients) {
    await assertRecipient(recipient, given.indexOf(recipient));
  }
  // Whoever breaks the weaker key reads the file: the format does not allow it, and the package does.
  if (new Set(recipients.map((recipient) => postQuantum.test(recipient))).size > 1) {
    throw new RecipientsError("recipients_mixed", "Post-quantum recipients (age1pq1…) go with their like alone.");
  }
  return recipients;
}

async function assertRecipient(recipient: string, index: number): Promise<void> {
  if (/AGE-SECRET-KEY|AGE-PLUGIN|PRIVATE KEY/i.test(recipient)) {
    throw new RecipientsError(
      "recipient_is_identity",
      `Recipient ${index} is an identity, which is a secret and should be replaced now; \`age-keygen -y\` shows its recipient.`,
      index,
    );
  }
  const encrypter = new Encrypter();
  try {
    if (!x25519.test(recipient) && !postQuantum.test(recipient)) {
      throw new Error("of another form");
    }
    encrypter.addRecipient(recipient);
    await encrypter.encrypt(new Uint8Array(0));
  } catch {
    throw new RecipientsError(
      "recipient_invalid",
      `Recipient ${index} is not of the form age1… (X25519) or age1pq1… (ML-KEM-768 and X25519), as \`age-keygen\` shows it.`,
      index,
    );
  }
}
