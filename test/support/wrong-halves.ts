// A JWE to a composite key with one half or both put wrong, in every way that an attacker without the key can.
import { randomInt } from 'node:crypto';
import type { PqKem } from '../../proto/documents/pq-kems.ts';

export const HALF_FAULTS = [
  'wrong classical half',
  'wrong post-quantum half',
  'classical half of another message',
  'post-quantum half of another message',
  "classical half of another key's message",
  "post-quantum half of another key's message",
  'swapped',
] as const;
export type HalfFault = (typeof HALF_FAULTS)[number];

/** Messages under one key, one more under it, and one under another. */
export interface Texts {
  readonly jwe: string;
  readonly again: string;
  readonly foreign: string;
}

type Header = Record<string, unknown> & { readonly ek: string };

const headerOf = (jwe: string): Header =>
  JSON.parse(Buffer.from(jwe.split('.')[0] as string, 'base64url').toString()) as Header;

const halvesOf = (kem: PqKem, jwe: string): readonly [pqc: Buffer, classical: Buffer] => {
  const ek = Buffer.from(headerOf(jwe).ek, 'base64url');
  return [ek.subarray(0, kem.pqc.ciphertextBytes), ek.subarray(kem.pqc.ciphertextBytes)];
};

const flipped = (bytes: Buffer, at: number): Buffer => {
  const copy = Buffer.from(bytes);
  copy.writeUInt8(copy.readUInt8(at) ^ (1 << randomInt(8)), at);
  return copy;
};

const withEk = (jwe: string, ...parts: readonly Buffer[]): string => {
  const [, ...rest] = jwe.split('.');
  const header = { ...headerOf(jwe), ek: Buffer.concat(parts).toString('base64url') };
  return [Buffer.from(JSON.stringify(header)).toString('base64url'), ...rest].join('.');
};

/** Of EC the classical half stays a point: that of a message which nobody holds. */
const wrongClassical = (kem: PqKem, classical: Buffer, other: Buffer): Buffer =>
  kem.classical?.kind === 'rsa' ? flipped(classical, classical.length - 1 - randomInt(32)) : other;

export const joinWrongly = (kem: PqKem, { jwe, again, foreign }: Texts, fault: HalfFault): string => {
  const [pqc, classical] = halvesOf(kem, jwe);
  const [pqcAgain, classicalAgain] = halvesOf(kem, again);
  const [pqcForeign, classicalForeign] = halvesOf(kem, foreign);
  switch (fault) {
    case 'wrong classical half':
      return withEk(jwe, pqc, wrongClassical(kem, classical, classicalForeign));
    case 'wrong post-quantum half':
      return withEk(jwe, flipped(pqc, randomInt(pqc.length)), classical);
    case 'classical half of another message':
      return withEk(jwe, pqc, classicalAgain);
    case 'post-quantum half of another message':
      return withEk(jwe, pqcAgain, classical);
    case "classical half of another key's message":
      return withEk(jwe, pqc, classicalForeign);
    case "post-quantum half of another key's message":
      return withEk(jwe, pqcForeign, classical);
    case 'swapped':
      return withEk(jwe, classical, pqc);
  }
};
