// A certificate signing request (PKCS#10, RFC 2986) for an EC P-256 key, in DER. Node can sign it but not write it.
import { type KeyObject, sign } from 'node:crypto';

const SEQUENCE = 0x30;
const SET = 0x31;
const UTF8_STRING = 0x0c;
const BIT_STRING = 0x03;
const ATTRIBUTES = 0xa0; // [0] IMPLICIT SET OF Attribute: empty
const VERSION = Buffer.from([0x02, 0x01, 0x00]);
const COMMON_NAME = Buffer.from([0x06, 0x03, 0x55, 0x04, 0x03]); // 2.5.4.3
const ECDSA_WITH_SHA256 = Buffer.from([0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]);

const lengthOf = (length: number): Buffer => {
  if (length < 0x80) return Buffer.from([length]);
  if (length < 0x100) return Buffer.from([0x81, length]);
  return Buffer.from([0x82, length >> 8, length & 0xff]);
};

const der = (tag: number, ...parts: readonly Buffer[]): Buffer => {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from([tag]), lengthOf(body.length), body]);
};

const bitString = (bytes: Buffer): Buffer => der(BIT_STRING, Buffer.from([0]), bytes);

/** The subject is for people: who the host is, the registry's token or its present certificate says. */
export const certificateRequest = (keys: {
  readonly name: string;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}): Buffer => {
  const name = der(
    SEQUENCE,
    der(SET, der(SEQUENCE, COMMON_NAME, der(UTF8_STRING, Buffer.from(keys.name.slice(0, 64))))),
  );
  const publicKey = keys.publicKey.export({ type: 'spki', format: 'der' });
  const info = der(SEQUENCE, VERSION, name, publicKey, der(ATTRIBUTES));
  const signature = sign('sha256', info, { key: keys.privateKey, dsaEncoding: 'der' });
  return der(SEQUENCE, info, der(SEQUENCE, ECDSA_WITH_SHA256), bitString(signature));
};
