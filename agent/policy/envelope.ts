// The HMAC envelope around everything the policy store keeps, under a key that stays in the token. The MAC covers the
// record's key, so a record moved to another place does not verify. docs/spec/policy.md, "Stored policies".
import { createHash, timingSafeEqual } from 'node:crypto';
import { PolicyError } from '../../proto/documents/policy-error.ts';

/** HMAC-SHA256 under the agent's policy-mac key. */
export type Mac = (data: Buffer) => Promise<Buffer>;

const VERSION = 1;
const MAC_BYTES = 32;
const LABEL = Buffer.from('mortise.policy-store/v1\n');

const frame = (bytes: Uint8Array): Buffer => {
  const framed = Buffer.alloc(4 + bytes.length);
  framed.writeUInt32BE(bytes.length);
  framed.set(bytes, 4);
  return framed;
};

/** label || len(key) || key || SHA-256(body): short, whatever the body's size, so that any token takes it whole. */
const macInput = (key: string, body: Buffer): Buffer =>
  Buffer.concat([LABEL, frame(Buffer.from(key)), createHash('sha256').update(body).digest()]);

/** version (1 byte) || mac (32 bytes) || fields, each with its length as 4 bytes, big-endian. */
export const sealRecord = async (mac: Mac, key: string, fields: readonly (string | Buffer)[]): Promise<Buffer> => {
  const body = Buffer.concat(fields.map((field) => frame(Buffer.from(field as Buffer))));
  return Buffer.concat([Buffer.from([VERSION]), await mac(macInput(key, body)), body]);
};

const splitFields = (body: Buffer): Buffer[] | undefined => {
  const fields: Buffer[] = [];
  let at = 0;
  while (at < body.length) {
    if (at + 4 > body.length) return undefined;
    const end = at + 4 + body.readUInt32BE(at);
    if (end > body.length) return undefined;
    fields.push(Buffer.from(body.subarray(at + 4, end)));
    at = end;
  }
  return fields;
};

/** The fields of a sealed record; STORE_TAMPERED where any byte of it or its place is not as it was sealed. */
export const openRecord = async (mac: Mac, key: string, sealed: Buffer, count: number): Promise<readonly Buffer[]> => {
  const tampered = new PolicyError(
    'STORE_TAMPERED',
    key,
    'the stored record does not verify under the key of the token',
  );
  if (sealed.length < 1 + MAC_BYTES || sealed[0] !== VERSION) throw tampered;
  const body = sealed.subarray(1 + MAC_BYTES);
  const expected = await mac(macInput(key, body));
  if (expected.length !== MAC_BYTES || !timingSafeEqual(expected, sealed.subarray(1, 1 + MAC_BYTES))) throw tampered;
  const fields = splitFields(body);
  if (fields?.length !== count) throw tampered;
  return fields;
};
