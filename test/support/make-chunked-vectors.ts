// Makes test/vectors/chunked/containers.json anew: `node test/support/make-chunked-vectors.ts`. All keys, salts and ivs
// are fixed, so that the file changes only with the format.
import { createCipheriv, hash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { buildContainerHeader } from '../../agent/crypto/chunked-container.ts';
import { ChunkedEncryptor } from '../../agent/crypto/chunked-encryptor.ts';
import { buildChunkedHeader } from '../../agent/crypto/chunked-header.ts';
import { gcmWrapped } from '../../agent/crypto/key-management.ts';
import { CHUNK_BYTES } from '../../proto/documents/chunked/chunks.ts';
import { chunkOffset } from '../../proto/documents/chunked/layout.ts';
import { CONTAINER_VECTORS } from './chunked-vectors.ts';

const fixed = (label: string, length: number): Buffer =>
  hash('sha512', `vector ${label}`, 'buffer').subarray(0, length);

const KEK = fixed('kek', 32);
const kid = 'acme/archive/3';

const headerText = (): string => {
  const [cek, iv, wrapIv, inputKey] = [fixed('cek', 32), fixed('iv', 12), fixed('wrap iv', 12), fixed('input key', 32)];
  const cipher = createCipheriv('aes-256-gcm', KEK, wrapIv);
  const sealed = Buffer.concat([cipher.update(cek), cipher.final(), cipher.getAuthTag()]);
  return buildChunkedHeader({ alg: 'A256GCMKW', kid, wrapped: gcmWrapped(wrapIv, sealed), cek, iv, inputKey });
};

const chunksOf = (plaintext: Buffer, context: Buffer): Buffer => {
  const encryptor = new ChunkedEncryptor({ inputKey: fixed('input key', 32), salt: fixed('salt', 24), context });
  return Buffer.concat([encryptor.prefix, ...encryptor.update(plaintext), ...encryptor.final()]);
};

const container = (plaintext: Buffer, context = Buffer.alloc(0)): Buffer =>
  Buffer.concat([buildContainerHeader(headerText()), chunksOf(plaintext, context)]);

/** A header as text, with nothing behind it but what is needed to get to it. */
const withHeader = (json: string): Buffer => {
  const lead = Buffer.from('4d43450100000000', 'hex');
  lead.writeUInt32BE(Buffer.byteLength(json), 4);
  return Buffer.concat([lead, Buffer.from(json), chunksOf(text, Buffer.alloc(0))]);
};

const text = Buffer.alloc(5, 0x6d);
const long = Buffer.alloc(CHUNK_BYTES + 1, 0x2a);
const whole = container(text);
const two = container(long);
const payloadAt = 4096;
const changed = (bytes: Buffer, at: number): Buffer => {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] as number) ^ 1;
  return copy;
};
const header = JSON.parse(headerText()) as Record<string, unknown>;
const segment = (members: object): string => Buffer.from(JSON.stringify(members)).toString('base64url');
const edited = (change: object): Buffer => withHeader(JSON.stringify({ ...header, ...change }));

const valid = (name: string, bytes: Buffer, plaintext: { byte: string; length: number }, context = '') => ({
  name,
  kek: KEK.toString('hex'),
  context: Buffer.from(context).toString('hex'),
  container: bytes.toString('base64url'),
  plaintext,
});
const wrong = (name: string, bytes: Buffer, error: 'INVALID_REQUEST' | 'INVALID_CIPHERTEXT', kek = KEK) => ({
  name,
  kek: kek.toString('hex'),
  context: '',
  container: bytes.toString('base64url'),
  error,
});

const vectors = [
  valid('five bytes', whole, { byte: '6d', length: 5 }),
  valid('nothing', container(Buffer.alloc(0)), { byte: '00', length: 0 }),
  valid('one chunk and one byte', two, { byte: '2a', length: CHUNK_BYTES + 1 }),
  valid('with associated data', container(text, Buffer.from('case 7')), { byte: '6d', length: 5 }, 'case 7'),
  valid('a header that is not padded', withHeader(headerText()), { byte: '6d', length: 5 }),
  wrong('associated data left out', container(text, Buffer.from('case 7')), 'INVALID_CIPHERTEXT'),
  wrong('another key', whole, 'INVALID_CIPHERTEXT', fixed('other kek', 32)),
  wrong('a changed commitment', changed(whole, payloadAt + 30), 'INVALID_CIPHERTEXT'),
  wrong('a changed chunk', changed(whole, payloadAt + chunkOffset(0)), 'INVALID_CIPHERTEXT'),
  wrong('without its last chunk', two.subarray(0, payloadAt + chunkOffset(1)), 'INVALID_CIPHERTEXT'),
  wrong('ended in its header', whole.subarray(0, 100), 'INVALID_CIPHERTEXT'),
  wrong('another magic', changed(whole, 3), 'INVALID_REQUEST'),
  wrong('a header of no length', Buffer.from('4d43450100000000', 'hex'), 'INVALID_REQUEST'),
  wrong('a header over 64 KiB', Buffer.from('4d43450100010001', 'hex'), 'INVALID_REQUEST'),
  wrong('a header of another type', edited({ protected: segment({ enc: 'A256GCM' }) }), 'INVALID_REQUEST'),
  wrong(
    'a header with a content that is no input key',
    edited({ ciphertext: Buffer.alloc(31).toString('base64url') }),
    'INVALID_REQUEST',
  ),
  wrong('a header without recipients', edited({ recipients: [] }), 'INVALID_REQUEST'),
];

writeFileSync(CONTAINER_VECTORS, `${JSON.stringify(vectors, null, 1)}\n`);
