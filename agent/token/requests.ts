// The table of what the agent may ask a session of the token process: fields with their limits, the budget of time,
// and whether asking twice does harm. Both sides read it, so neither can send what the other does not expect.
import { MAX_MATERIAL_BYTES, MAX_SEALED_BYTES } from '../../proto/documents/wrap-schemes.ts';
import type { Code } from '../errors.ts';
import { MAX_DATA_BYTES } from './protocol.ts';

const ID = 255; // CKA_ID; ours are 16 bytes, foreign ones may be longer
const NAME = 64; // algorithm ids, purposes and JOSE names
const LABEL = 512; // CKA_LABEL
const POINT = 133; // 0x04 || X || Y on P-521
const OAEP = 1024; // an RSA-8192 modulus
const SIGNATURE = 4627; // ML-DSA-87
const CONTEXT = 255; // FIPS 204 section 5.2
const KEM_CIPHERTEXT = 1568; // ML-KEM-1024
const NUMBER = 4;
const WRAPPED_CEK = 64 + 16; // the longest CEK of JOSE and a GCM tag
const WRAP_AAD = 1024; // who a wrap belongs to
const FAULT = 1024;
const MATERIAL = 8 * 1024; // an RSA-4096 private key with all its numbers takes 2.4 KiB

export const MAX_RANDOM_BYTES = 64 * 1024;
export const MAX_LABEL_BYTES = LABEL;
export const MAX_CONTEXT_BYTES = CONTEXT;
export const MAX_KEM_CIPHERTEXT_BYTES = KEM_CIPHERTEXT;

export interface RequestRow {
  readonly kind: number;
  /** Limit in bytes of each field. */
  readonly fields: readonly number[];
  /** Limit in bytes of each field of a good answer. */
  readonly answer: readonly number[];
  /** Which budget its time in the library has. */
  readonly budget: 'operation' | 'generate';
  /** May it be asked again when the process died before it answered? */
  readonly repeatable: boolean;
  /** Does it make token objects? */
  readonly creates: boolean;
}

const JWK = 4096;
const read = (kind: number, fields: readonly number[], answer: readonly number[]): RequestRow => ({
  kind,
  fields,
  answer,
  budget: 'operation',
  repeatable: true,
  creates: false,
});

export const REQUESTS = {
  /** tokenId, algorithm, purpose, label → public JWK or nothing */
  generate: {
    kind: 1,
    fields: [ID, NAME, NAME, LABEL],
    answer: [JWK],
    budget: 'generate',
    repeatable: false,
    creates: true,
  },
  /** label → tokenId or nothing, public JWK or nothing */
  find: read(2, [LABEL], [ID, JWK]),
  /** tokenId */
  destroy: { kind: 3, fields: [ID], answer: [], budget: 'operation', repeatable: false, creates: true },
  /** tokenId, iv, aad, data → ciphertext and tag, the iv where the token made another one */
  gcmEncrypt: read(4, [ID, 12, MAX_DATA_BYTES, MAX_DATA_BYTES], [MAX_DATA_BYTES + 16, 12]),
  gcmDecrypt: read(5, [ID, 12, MAX_DATA_BYTES, MAX_DATA_BYTES + 16], [MAX_DATA_BYTES]),
  /** tokenId, JOSE name, digest or message, context of ML-DSA → signature */
  sign: read(6, [ID, NAME, MAX_DATA_BYTES, CONTEXT], [SIGNATURE]),
  mac: read(7, [ID, NAME, MAX_DATA_BYTES], [64]),
  /** tokenId, ciphertext, length of the secret or 0 for any (oaep-decrypt.ts) → message */
  oaepDecrypt: read(8, [ID, OAEP, NUMBER], [OAEP]),
  ecdh: read(9, [ID, POINT], [66]),
  random: read(10, [NUMBER], [MAX_RANDOM_BYTES]),
  /** tokenId and wrapped CEK (iv empty for RSAES-OAEP), tokenId and iv to wrap it with, length of the CEK → its wrap, as gcmEncrypt */
  rewrap: read(11, [ID, 12, OAEP, ID, 12, NUMBER], [WRAPPED_CEK, 12]),
  /** tokenId, algorithm, purpose, label, material (fields.ts) → public JWK or nothing */
  create: {
    kind: 12,
    fields: [ID, NAME, NAME, LABEL, MATERIAL],
    answer: [JWK],
    budget: 'operation',
    repeatable: false,
    creates: true,
  },
  /** tokenId, which says for which scheme (proto/documents/wrap-schemes.ts), label */
  generateWrappingKey: {
    kind: 14,
    fields: [ID, LABEL],
    answer: [],
    budget: 'generate',
    repeatable: false,
    creates: true,
  },
  /** tokenId, aad, material → iv, what is wrapped and tag, by a key for another scheme than AES-GCM */
  wrap: read(15, [ID, WRAP_AAD, MAX_MATERIAL_BYTES], [MAX_SEALED_BYTES]),
  unwrap: read(16, [ID, WRAP_AAD, MAX_SEALED_BYTES], [MAX_MATERIAL_BYTES]),
  /** tokenId, ciphertext of ML-KEM → shared secret */
  decapsulate: read(13, [ID, KEM_CIPHERTEXT], [32]),
  /** beginning of a label → the tokenIds of 16 bytes of all keys that are labelled so, each once */
  list: { ...read(17, [LABEL], [MAX_DATA_BYTES]), budget: 'generate' },
  /** tokenId → label, algorithm ids of the objects, purpose or nothing, whether it was generated there, public JWK or nothing, why it cannot be used or nothing */
  describe: read(18, [ID], [LABEL, 2 * NAME, NAME, 1, JWK, FAULT]),
} as const satisfies Record<string, RequestRow>;

export type RequestName = keyof typeof REQUESTS;
export const REQUEST_NAMES = Object.keys(REQUESTS) as readonly RequestName[];
/** The row of a request, without its literal types. */
export const request = (name: RequestName): RequestRow => REQUESTS[name];

/** Tells a session to forget a handle, because the object was destroyed by another. Has one field and no answer. */
export const FORGET_KIND = 20;
export const FORGET_FIELDS = [ID] as const;

/** Tells a worker to close its session and end. No fields; the last frame on its channel until another worker has it. */
export const LEAVE_KIND = 21;

/** Tells a worker for how many microseconds it may hold finished answers while more questions wait. No answer. */
export const HOLD_KIND = 22;
export const HOLD_FIELDS = [NUMBER] as const;

// ---- answers

export const OK_KIND = 1;
export const FAILED_KIND = 2;
/** The session of a worker is open and it reads questions; the first frame on its channel. */
export const READY_KIND = 3;
/** Of a good answer, before its own fields: microseconds in the library, and of them those computed and those starved. */
export const TIMES_BYTES = 3 * NUMBER;
/** microseconds, code, detail, whether the process has to be started anew. */
export const FAILED_FIELDS = [NUMBER, NAME, 1024, NUMBER] as const;

/** The codes that a failed answer may bear; any other is a broken process. */
export const FAILURE_CODES: ReadonlySet<string> = new Set([
  'HSM_BUSY',
  'HSM_UNAVAILABLE',
  'HSM_UNSUPPORTED',
  'INVALID_CIPHERTEXT',
  'INVALID_REQUEST',
  'ALGORITHM_FORBIDDEN',
  'INTERNAL',
] satisfies Code[]);

// ---- the control channel, descriptor 3

export const CONTROL = {
  /** agent → process: configuration as JSON; look for the token. The first frame; once more after each `failed`. */
  find: { kind: 1, fields: [64 * 1024] },
  /** process → agent: the token is there, a session is open on it; now the PIN is wanted. */
  found: { kind: 8, fields: [] },
  /** agent → process: the PIN. Once, and only after `found`. */
  logIn: { kind: 9, fields: [512] },
  /** agent → process: open a session on channel n. */
  session: { kind: 2, fields: [NUMBER] },
  /** agent → process: close everything and exit. */
  stop: { kind: 3, fields: [] },
  /** process → agent: what the token is and can do, as JSON. */
  ready: { kind: 4, fields: [256 * 1024] },
  /** process → agent: why it cannot start, as JSON. It stays to look again where only the token was missing. */
  failed: { kind: 5, fields: [8 * 1024] },
  /** process → agent: session n could not be opened, or its worker ended unasked; why. */
  sessionFailed: { kind: 6, fields: [NUMBER, 1024] },
  /** process → agent: session n has ended as it was asked to. */
  sessionEnded: { kind: 7, fields: [NUMBER] },
} as const;

/** The control channel, and the channel of session 0; session n has descriptor SESSION_FD + n. */
export const CONTROL_FD = 3;
export const SESSION_FD = 4;
