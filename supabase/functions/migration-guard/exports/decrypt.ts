import { Decrypter } from "age-encryption";
import { ChunkError } from "./chunk-error.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/**
 * What an age file holds.
 *
 * @param identities As `parseIdentities` gives them.
 * @throws {ChunkError}
 */
export async function decrypt(stored: Bytes, identities: readonly string[]): Promise<Bytes> {
  if (!isAgeFile(stored)) throw ChunkError.altered("stored", "no age file");
  if (identities.length === 0) throw ChunkError.identityMissing();
  const decrypter = new Decrypter();
  for (const identity of identities) decrypter.addIdentity(identity);
  try {
    return await decrypter.decrypt(stored) as Bytes;
  } catch (error) {
    // The package (0.3.1) has no codes.
    if ((error as Error).message.startsWith("no identity matched")) {
      throw ChunkError.identityWrong();
    }
    throw ChunkError.altered("stored", "a broken age file");
  }
}

const isAgeFile = (bytes: Bytes) => new TextDecoder().decode(bytes.subarray(0, 22)) === "age-encryption.org/v1\n";
