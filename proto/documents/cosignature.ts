// Countersignatures of checkpoints as C2SP tlog-cosignature, version 1: Ed25519 over a time and the text of the note. What
// they say: at that time this cosigner had seen the log up to the checkpoint, and nothing that contradicts it.
import { createPublicKey, hash, type KeyObject, verify } from 'node:crypto';
import { DocumentError } from './canonical.ts';
import { parseSignedNote } from './checkpoint.ts';

const COSIGNATURE_V1 = 0x04;
const KEY_BYTES = 32;
const TIME_BYTES = 8;
const SIGNATURE_BYTES = 64;
const NAME_PATTERN = /^[^\s+]{1,512}$/u;
/** SubjectPublicKeyInfo of an Ed25519 key (RFC 8410 section 4), up to the key itself. */
const SPKI_HEADER = Buffer.from('302a300506032b6570032100', 'hex');

export interface Cosigner {
  readonly name: string;
  readonly keyId: Buffer;
  readonly key: KeyObject;
}

const keyIdOf = (name: string, raw: Buffer): Buffer =>
  hash('sha256', Buffer.concat([Buffer.from(`${name}\n`), Uint8Array.of(COSIGNATURE_V1), raw]), 'buffer').subarray(
    0,
    4,
  );

const rawOf = (publicKey: KeyObject): Buffer => {
  if (publicKey.asymmetricKeyType !== 'ed25519') throw new DocumentError('cosigners sign by Ed25519');
  return publicKey.export({ type: 'spki', format: 'der' }).subarray(SPKI_HEADER.length);
};

/** The verifier key of signed-note: "<name>+<key id>+<base64 of type and key>". */
export const cosignerText = (name: string, publicKey: KeyObject): string => {
  if (!NAME_PATTERN.test(name)) throw new DocumentError('the name is empty, too long, or has a space or plus');
  const raw = rawOf(publicKey);
  const encoded = Buffer.concat([Uint8Array.of(COSIGNATURE_V1), raw]).toString('base64');
  return `${name}+${keyIdOf(name, raw).toString('hex')}+${encoded}`;
};

export const parseCosigner = (text: string): Cosigner => {
  const [name, id, base64] = splitVerifier(text);
  if (name === undefined || id === undefined || base64 === undefined) throw new DocumentError('not a verifier key');
  const bytes = Buffer.from(base64, 'base64');
  if (bytes.toString('base64') !== base64 || bytes.length !== 1 + KEY_BYTES || bytes[0] !== COSIGNATURE_V1) {
    throw new DocumentError('not a verifier key of cosignature/v1');
  }
  const raw = bytes.subarray(1);
  const keyId = keyIdOf(name, raw);
  if (!NAME_PATTERN.test(name) || keyId.toString('hex') !== id)
    throw new DocumentError('the key id is not that of the key');
  return { name, keyId, key: createPublicKey({ key: Buffer.concat([SPKI_HEADER, raw]), format: 'der', type: 'spki' }) };
};

/** Base64 may hold a plus; name and key id hold none. */
const splitVerifier = (text: string): string[] => {
  const first = text.indexOf('+');
  const second = text.indexOf('+', first + 1);
  return second < 0 ? [] : [text.slice(0, first), text.slice(first + 1, second), text.slice(second + 1)];
};

const message = (seconds: bigint, noteText: string): Buffer =>
  Buffer.from(`cosignature/v1\ntime ${seconds}\n${noteText}`);

/** The note with one more signature line. `sign` gives Ed25519 over the bytes. */
export const cosign = (
  note: string,
  by: { readonly name: string; readonly publicKey: KeyObject; readonly seconds: number; sign(data: Buffer): Buffer },
): string => {
  const { text } = parseSignedNote(note);
  const time = Buffer.alloc(TIME_BYTES);
  time.writeBigUInt64BE(BigInt(by.seconds));
  const signature = by.sign(message(BigInt(by.seconds), text));
  const blob = Buffer.concat([keyIdOf(by.name, rawOf(by.publicKey)), time, signature]).toString('base64');
  return `${note}\u2014 ${by.name} ${blob}\n`;
};

/** When the cosigner signed, in seconds since 1970; the newest where it did more than once. Throws DocumentError. */
export const verifyCosignature = (note: string, { name, keyId, key }: Cosigner): number => {
  const { text, signatures } = parseSignedNote(note);
  const ours = signatures.filter((row) => row.name === name && row.keyId.equals(keyId));
  if (ours.length === 0) throw new DocumentError('no signature by the cosigner');
  const times = ours.map(({ signature }) => {
    if (signature.length !== TIME_BYTES + SIGNATURE_BYTES) throw new DocumentError('not a cosignature');
    const seconds = signature.readBigUInt64BE(0);
    if (!verify(null, message(seconds, text), key, signature.subarray(TIME_BYTES))) {
      throw new DocumentError('the cosignature does not verify');
    }
    return Number(seconds);
  });
  return Math.max(...times);
};
