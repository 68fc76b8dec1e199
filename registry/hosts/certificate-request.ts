// Certificate signing requests (PKCS#10, RFC 2986), as untrusted bytes. Invariant: what comes out is a public key of an
// allowed kind whose private half signed the request. Names and extensions that were asked for are not read.
import { createPublicKey, hash, type KeyObject, verify } from 'node:crypto';
import { DerError, DerReader, objectId, TAG } from './der.ts';

export const MAX_REQUEST_BYTES = 16 * 1024;
const MIN_RSA_BITS = 3072; // 128 bits of security (SP 800-57 part 1)
const MAX_RSA_BITS = 8192; // verification time grows with it
const ATTRIBUTES = 0xa0;

/** Signature algorithms: OID → digest, and the kind of key. */
const SIGNATURES: ReadonlyMap<string, { readonly digest: string | null; readonly key: 'ec' | 'ed25519' | 'rsa' }> =
  new Map(
    (
      [
        ['1.2.840.10045.4.3.2', { digest: 'sha256', key: 'ec' }],
        ['1.2.840.10045.4.3.3', { digest: 'sha384', key: 'ec' }],
        ['1.2.840.10045.4.3.4', { digest: 'sha512', key: 'ec' }],
        ['1.3.101.112', { digest: null, key: 'ed25519' }],
        ['1.2.840.113549.1.1.11', { digest: 'sha256', key: 'rsa' }],
        ['1.2.840.113549.1.1.12', { digest: 'sha384', key: 'rsa' }],
        ['1.2.840.113549.1.1.13', { digest: 'sha512', key: 'rsa' }],
      ] as const
    ).map(([oid, row]) => [objectId(oid).toString('hex'), row]),
  );

export interface RequestedKey {
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Buffer;
  /** SHA-256 of it, lower-case hex. */
  readonly fingerprint: string;
}

const publicKeyOf = (spki: Buffer): KeyObject => {
  let key: KeyObject;
  try {
    key = createPublicKey({ key: spki, format: 'der', type: 'spki' });
  } catch {
    throw new DerError('the public key cannot be read');
  }
  // Another encoding of the same key would have another fingerprint.
  if (!key.export({ format: 'der', type: 'spki' }).equals(spki)) throw new DerError('the public key is oddly encoded');
  return key;
};

const requireAllowed = (key: KeyObject): void => {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details = {} } = key;
  if (type === 'ed25519') return;
  if (type === 'ec' && ['prime256v1', 'secp384r1'].includes(details.namedCurve ?? '')) return;
  const bits = details.modulusLength ?? 0;
  if (type === 'rsa' && bits >= MIN_RSA_BITS && bits <= MAX_RSA_BITS && details.publicExponent === 65_537n) return;
  throw new DerError('the key is none of EC P-256, P-384, Ed25519, RSA of 3072 bits and more');
};

/** Throws DerError on everything but one well-formed, self-signed request. */
export const readCertificateRequest = (bytes: Uint8Array): RequestedKey => {
  if (bytes.length > MAX_REQUEST_BYTES) throw new DerError(`longer than ${MAX_REQUEST_BYTES} bytes`);
  const outer = new DerReader(bytes);
  const request = new DerReader(outer.next(TAG.sequence).content);
  outer.end();
  const info = request.next(TAG.sequence);
  const algorithm = new DerReader(request.next(TAG.sequence).content);
  const oid = algorithm.next(TAG.objectId).whole;
  const bits = request.next(TAG.bitString).content;
  request.end();
  const fields = new DerReader(info.content);
  if (!fields.next(TAG.integer).content.equals(Uint8Array.of(0))) throw new DerError('not version 1');
  fields.next(TAG.sequence); // the subject, which the token decides
  const spki = fields.next(TAG.sequence).whole;
  fields.next(ATTRIBUTES);
  fields.end();
  const row = SIGNATURES.get(oid.toString('hex'));
  if (row === undefined) throw new DerError('the signature algorithm is not known');
  if (row.key === 'rsa') algorithm.next(TAG.nothing);
  algorithm.end();
  const key = publicKeyOf(spki);
  requireAllowed(key);
  if (key.asymmetricKeyType !== row.key) throw new DerError('the signature algorithm does not fit the key');
  if (bits[0] !== 0) throw new DerError('not a signature');
  if (!verify(row.digest, info.whole, { key, dsaEncoding: 'der' }, bits.subarray(1))) {
    throw new DerError('the signature does not verify');
  }
  return { spki: Buffer.from(spki), fingerprint: hash('sha256', spki, 'hex') };
};
