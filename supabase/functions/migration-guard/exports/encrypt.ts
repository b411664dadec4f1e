import { Encrypter } from "age-encryption";

/**
 * Encrypts in the format of age, with other bytes each time. Without a recipient, nobody could read it: it is never called with none.
 *
 * @param recipients As `parseRecipients` gives them.
 */
export async function encrypt(
  plain: Uint8Array<ArrayBuffer>,
  recipients: readonly string[],
): Promise<Uint8Array<ArrayBuffer>> {
  const encrypter = new Encrypter();
  for (const recipient of recipients) encrypter.addRecipient(recipient);
  return await encrypter.encrypt(plain) as Uint8Array<ArrayBuffer>;
}
