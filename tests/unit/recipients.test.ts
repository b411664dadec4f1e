import { generateHybridIdentity, generateIdentity, identityToRecipient } from "age-encryption";
import { beforeAll, expect, test } from "vitest";
import { parseRecipients } from "../../supabase/functions/migration-guard/exports/parse-recipients.ts";

let recipient: string;
let hybrid: string;
beforeAll(async () => {
  recipient = await identityToRecipient(await generateIdentity());
  hybrid = await identityToRecipient(await generateHybridIdentity());
});

const many = (count: number) =>
  Promise.all(Array.from({ length: count }, async () => identityToRecipient(await generateIdentity())));

test("up to twenty recipients are taken, each once", async () => {
  const recipients = await many(20);
  expect(await parseRecipients([...recipients, recipients[0]!])).toEqual(recipients);
  await expect(parseRecipients([...recipients, recipient])).rejects.toMatchObject({ code: "recipients_too_many" });
  expect(await parseRecipients([hybrid])).toEqual([hybrid]);
});

test("an export is never encrypted for nobody", async () => {
  await expect(parseRecipients([])).rejects.toMatchObject({ code: "recipients_missing" });
});

test("post-quantum recipients go with their like alone", async () => {
  await expect(parseRecipients([hybrid, recipient])).rejects.toMatchObject({ code: "recipients_mixed" });
});

test("an identity is refused, and never shown", async () => {
  const identities = [await generateIdentity(), await generateHybridIdentity()];
  for (
    const identity of [...identities, identities[0]!.toLowerCase(), ` ${identities[0]}\n`, "AGE-PLUGIN-YUBIKEY-1QQQQ"]
  ) {
    const refused = parseRecipients([recipient, identity]);
    await expect(refused).rejects.toMatchObject({ code: "recipient_is_identity", index: 1 });
    await expect(refused).rejects.not.toThrow(identity.trim().slice(-20));
  }
});

test.for([
  ["an SSH key", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBrWGZUZrY0LLs6wPVS2Qz0YeZ0XuRk0Gk7gyEXqkzU5 me"],
  ["a plugin's", "age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t"],
  ["a hardware key's", "age1tag1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t"],
  ["a passphrase", "correct horse battery staple"],
  ["nothing", ""],
  // Points of low order: what is encrypted for them is encrypted for everybody.
  ["the point 0", "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5cu47z"],
])("%s is no recipient, and is not shown", async ([, text]) => {
  const refused = parseRecipients([recipient, text!]);
  await expect(refused).rejects.toMatchObject({ code: "recipient_invalid", index: 1 });
  if (text !== "") await expect(refused).rejects.not.toThrow(text!.slice(-12));
});

test("a recipient with a wrong letter, in capitals, or with blanks around it is refused", async () => {
  const wrong = recipient.slice(0, -1) + (recipient.endsWith("q") ? "p" : "q");
  for (
    const text of [wrong, recipient.toUpperCase(), `${recipient} `, recipient.slice(0, -1), `${hybrid.slice(0, -1)}`]
  ) {
    await expect(parseRecipients([text])).rejects.toMatchObject({ code: "recipient_invalid", index: 0 });
  }
});
