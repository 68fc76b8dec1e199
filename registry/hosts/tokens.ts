// One-time enrolment tokens: "mortise-enrol-v1.<id>.<secret>.<SHA-256 of the root>". Invariant: the secret is stored only
// as its hash, which suffices for 256 random bits, and compared in constant time.
import { hash, randomBytes, timingSafeEqual } from 'node:crypto';
import type { TokenRow } from './store.ts';

const PREFIX = 'mortise-enrol-v1';
const ID_BYTES = 12;
const SECRET_BYTES = 32;
export const MAX_TOKEN_BYTES = 256;
const PATTERN = /^mortise-enrol-v1\.([A-Za-z0-9_-]{16})\.([A-Za-z0-9_-]{43})\.[A-Za-z0-9_-]{43}$/;

export interface NewToken {
  readonly row: TokenRow;
  /** The text to hand out; it is nowhere else. */
  readonly text: string;
}

const hashOf = (secret: string): string => hash('sha256', secret, 'hex');

export const makeToken = (options: {
  readonly kind: TokenRow['kind'];
  readonly name: string;
  readonly tenants: readonly string[];
  readonly expiresAt: number;
  readonly rootHash: Buffer;
}): NewToken => {
  const { kind, name, tenants, expiresAt, rootHash } = options;
  const id = randomBytes(ID_BYTES).toString('base64url');
  const secret = randomBytes(SECRET_BYTES).toString('base64url');
  return {
    row: { id, kind, name, secretHash: hashOf(secret), tenants, expiresAt, revision: 1 },
    text: [PREFIX, id, secret, rootHash.toString('base64url')].join('.'),
  };
};

/** Undefined where the text is no token. */
export const parseToken = (text: string): { readonly id: string; readonly secret: string } | undefined => {
  const match = text.length <= MAX_TOKEN_BYTES ? PATTERN.exec(text) : null;
  return match === null ? undefined : { id: match[1] as string, secret: match[2] as string };
};

export const secretFits = ({ secretHash }: TokenRow, secret: string): boolean =>
  timingSafeEqual(Buffer.from(secretHash), Buffer.from(hashOf(secret)));
