// Checkpoints of a Merkle log as C2SP tlog-checkpoint inside a C2SP signed-note, by Ed25519 (type 0x01), for a
// token without it ECDSA P-256 (type 0x02), or for one without either RSA-PSS (a type of our own). Invariant: a checkpoint is returned only with its signature verified.
import { constants, createPublicKey, hash, type KeyObject, verify } from 'node:crypto';
import { DocumentError } from './canonical.ts';
import type { PublicJwk } from './key-record.ts';
import { HASH_BYTES } from './merkle.ts';

export interface Checkpoint {
  readonly origin: string;
  readonly size: number;
  readonly root: Buffer;
}

/** A signed note taken apart; nothing in it is to be believed before `verifyCheckpoint`. */
export interface SignedNote {
  readonly text: string;
  readonly signatures: readonly { readonly name: string; readonly keyId: Buffer; readonly signature: Buffer }[];
}

export const MAX_NOTE_BYTES = 64 * 1024; // room for 16 post-quantum cosignatures
const MAX_SIGNATURES = 32; // signed-note asks for at least 16
const NAME_PATTERN = /^[^\s+]{1,512}$/u;
const ED25519 = Buffer.of(0x01);
const ECDSA = Buffer.of(0x02);
/** signed-note has no number for RSA: 0xff stands before a name that says what it is. */
const RSA_PSS = Buffer.from('\xffmortise/rsa-pss-sha256', 'latin1');
const MIN_RSA_BITS = 3072;

interface NoteKey {
  /** Of signed-note. */
  readonly type: Buffer;
  /** The 32 bytes of an Ed25519 key, the SubjectPublicKeyInfo of others. */
  readonly encoded: Buffer;
  readonly key: KeyObject;
  /** Of a signature as the token gives it. */
  readonly rawBytes: number;
}

const noteKey = (jwk: PublicJwk): NoteKey => {
  let key: KeyObject;
  try {
    key = createPublicKey({ key: jwk, format: 'jwk' });
  } catch {
    throw new DocumentError('not a public key');
  }
  if (jwk['kty'] === 'OKP' && jwk['crv'] === 'Ed25519') {
    return { type: ED25519, encoded: Buffer.from(jwk['x'] ?? '', 'base64url'), key, rawBytes: 64 };
  }
  const encoded = key.export({ type: 'spki', format: 'der' });
  if (jwk['kty'] === 'EC' && jwk['crv'] === 'P-256') return { type: ECDSA, encoded, key, rawBytes: 64 };
  const bits = jwk['kty'] === 'RSA' ? (key.asymmetricKeyDetails?.modulusLength ?? 0) : 0;
  if (bits >= MIN_RSA_BITS) return { type: RSA_PSS, encoded, key, rawBytes: bits / 8 };
  throw new DocumentError('checkpoints are signed by Ed25519, ECDSA P-256 or RSA of 3072 bits at least');
};

const idOf = (name: string, { type, encoded }: NoteKey): Buffer =>
  (type === ECDSA
    ? hash('sha256', encoded, 'buffer')
    : hash('sha256', Buffer.concat([Buffer.from(`${name}\n`), type, encoded]), 'buffer')
  ).subarray(0, 4); // signed-note: the id of type 0x02 is over the SPKI alone

/** The key in the text form of signed-note verifiers: "<name>+<key id>+<base64 of type and key>". */
export const verifierKey = (name: string, jwk: PublicJwk): string => {
  const key = noteKey(jwk);
  const encoded = Buffer.concat([key.type, key.encoded]).toString('base64');
  return `${name}+${idOf(name, key).toString('hex')}+${encoded}`;
};

/** The note text: three lines, no extension lines. */
export const checkpointText = ({ origin, size, root }: Checkpoint): string => {
  if (!NAME_PATTERN.test(origin)) throw new DocumentError('the origin is empty, too long, or has a space or plus');
  if (!Number.isSafeInteger(size) || size < 0) throw new DocumentError('not a tree size');
  if (root.length !== HASH_BYTES) throw new DocumentError('not a root hash');
  return `${origin}\n${size}\n${root.toString('base64')}\n`;
};

/** Signs as the log whose origin the checkpoint names. `sign` gives Ed25519 over the bytes, or r || s or RSA-PSS over their SHA-256. */
export const signCheckpoint = async (
  checkpoint: Checkpoint,
  jwk: PublicJwk,
  sign: (data: Buffer) => Promise<Buffer>,
): Promise<string> => {
  const text = checkpointText(checkpoint);
  const key = noteKey(jwk);
  const raw = await sign(Buffer.from(text));
  if (raw.length !== key.rawBytes) throw new DocumentError(`the signature is not ${key.rawBytes} bytes`);
  const signature = key.type === ECDSA ? derOf(raw) : raw;
  const blob = Buffer.concat([idOf(checkpoint.origin, key), signature]).toString('base64');
  return `${text}\n\u2014 ${checkpoint.origin} ${blob}\n`;
};

/** The checkpoint in a note, once a signature by `jwk` under the log's own name verifies. Other signatures are passed over. */
export const verifyCheckpoint = (note: string, jwk: PublicJwk): Checkpoint => {
  const { text, signatures } = parseSignedNote(note);
  const checkpoint = parseCheckpointText(text);
  const key = noteKey(jwk);
  const id = idOf(checkpoint.origin, key);
  const ours = signatures.filter((row) => row.name === checkpoint.origin && row.keyId.equals(id));
  if (ours.length === 0) throw new DocumentError('no signature by the given key');
  // signed-note: one bad signature by a known key rejects the note.
  for (const { signature } of ours) {
    if (!verifies(key, Buffer.from(text), signature)) throw new DocumentError('the signature does not verify');
  }
  return checkpoint;
};

const verifies = (key: NoteKey, data: Buffer, signature: Buffer): boolean =>
  key.type === ED25519
    ? verify(null, data, key.key, signature)
    : verify('sha256', data, { key: key.key, ...(key.type === ECDSA ? DER : PSS) }, signature);

const DER = { dsaEncoding: 'der' } as const;
/** RFC 7518 section 3.5: the salt is as long as the hash. */
const PSS = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST } as const;

export const parseSignedNote = (note: string): SignedNote => {
  if (note.length > MAX_NOTE_BYTES) throw new DocumentError('the note is longer than the limit');
  if (!note.isWellFormed()) throw new DocumentError('the note is not well-formed Unicode');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: signed-note forbids exactly these
  if (/[\u0000-\u0009\u000b-\u001f]/.test(note)) throw new DocumentError('the note has a control character');
  const gap = note.lastIndexOf('\n\n');
  if (gap < 0 || !note.endsWith('\n')) throw new DocumentError('the note has no signatures');
  const lines = note.slice(gap + 2, -1).split('\n');
  if (lines.length > MAX_SIGNATURES) throw new DocumentError('the note has too many signatures');
  return { text: note.slice(0, gap + 1), signatures: lines.map(parseSignatureLine) };
};

const parseSignatureLine = (line: string): SignedNote['signatures'][number] => {
  const [dash, name, blob, ...rest] = line.split(' ');
  if (dash !== '\u2014' || name === undefined || blob === undefined || rest.length > 0 || !NAME_PATTERN.test(name)) {
    throw new DocumentError('not a signature line');
  }
  const bytes = fromBase64(blob);
  if (bytes.length < 5) throw new DocumentError('the signature is too short');
  return { name, keyId: bytes.subarray(0, 4), signature: bytes.subarray(4) };
};

/** The three lines of a checkpoint. Extension lines are refused: Mortise writes none, and nobody audits them. */
export const parseCheckpointText = (text: string): Checkpoint => {
  const lines = text.split('\n');
  if (lines.length !== 4 || lines[3] !== '') throw new DocumentError('a checkpoint has three lines');
  const [origin, digits, base64] = lines as [string, string, string];
  if (!NAME_PATTERN.test(origin)) throw new DocumentError('the origin is empty, too long, or has a space or plus');
  const size = /^(0|[1-9]\d{0,15})$/.test(digits) ? Number(digits) : Number.NaN;
  if (!Number.isSafeInteger(size)) throw new DocumentError('not a tree size');
  const root = fromBase64(base64);
  if (root.length !== HASH_BYTES) throw new DocumentError('not a root hash');
  return { origin, size, root };
};

/** Standard base64 with padding, one spelling for each value. */
const fromBase64 = (text: string): Buffer => {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.toString('base64') !== text) throw new DocumentError('not canonical base64');
  return bytes;
};

/** r || s as the DER of RFC 3279 section 2.2.3, which signed-note type 0x02 carries. */
const derOf = (raw: Buffer): Buffer => {
  const integer = (half: Buffer): Buffer => {
    let start = 0;
    while (start < half.length - 1 && half[start] === 0) start += 1;
    const digits = half.subarray(start);
    const body = (digits[0] as number) & 0x80 ? Buffer.concat([Uint8Array.of(0), digits]) : digits;
    return Buffer.concat([Uint8Array.of(0x02, body.length), body]);
  };
  const body = Buffer.concat([integer(raw.subarray(0, 32)), integer(raw.subarray(32))]);
  return Buffer.concat([Uint8Array.of(0x30, body.length), body]);
};
