// X.509 certificates (RFC 5280) of the few profiles that the registry issues. Invariant: who a certificate names is a
// SPIFFE id in its URI SAN alone; the common name is for people.
import { hash, type KeyObject, randomBytes, sign, X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { bitString, element, integer, objectId, sequence, TAG, time } from './der.ts';

const ECDSA_WITH_SHA384 = sequence(objectId('1.2.840.10045.4.3.3'));
const OID = {
  commonName: '2.5.4.3',
  subjectKeyId: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyId: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
} as const;

const KEY_USAGE = {
  certSignAndCrlSign: bitString(Uint8Array.of(0x06), 1),
  digitalSignature: bitString(Uint8Array.of(0x80), 7),
} as const;

const MAX_COMMON_NAME = 64; // RFC 5280 appendix A, ub-common-name

const extension = (oid: string, value: Uint8Array, critical = false): Buffer =>
  sequence(
    objectId(oid),
    ...(critical ? [element(TAG.boolean, Uint8Array.of(0xff))] : []),
    element(TAG.octetString, value),
  );

const nameOf = (commonName: string): Buffer =>
  sequence(
    element(
      TAG.set,
      sequence(objectId(OID.commonName), element(TAG.utf8String, Buffer.from(commonName.slice(0, MAX_COMMON_NAME)))),
    ),
  );

/** RFC 7093 method 1: the leftmost 160 bits of SHA-256 over the SubjectPublicKeyInfo. */
const keyId = (spki: Uint8Array): Buffer => hash('sha256', spki, 'buffer').subarray(0, 20);

const ipBytes = (address: string): Buffer => {
  if (isIP(address) === 4) return Buffer.from(address.split('.').map(Number));
  const [head = '', tail] = address.split('::');
  const words = (text: string): number[] =>
    text === '' ? [] : text.split(':').map((word) => Number.parseInt(word, 16));
  const [before, after] = [words(head), words(tail ?? '')];
  const all = [...before, ...new Array<number>(8 - before.length - after.length).fill(0), ...after];
  return Buffer.from(all.flatMap((word) => [word >> 8, word & 0xff]));
};

export type AlternativeName = { readonly uri: string } | { readonly dns: string } | { readonly ip: string };

const alternativeName = (name: AlternativeName): Buffer => {
  if ('uri' in name) return element(0x86, Buffer.from(name.uri, 'latin1'));
  if ('dns' in name) return element(0x82, Buffer.from(name.dns, 'latin1'));
  return element(0x87, ipBytes(name.ip));
};

export interface Profile {
  readonly commonName: string;
  readonly spki: Uint8Array;
  /** Milliseconds since 1970, cut to seconds. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly usage: 'authority' | 'client' | 'server';
  readonly names: readonly AlternativeName[];
}

export interface Issuer {
  readonly commonName: string;
  readonly spki: Uint8Array;
  /** EC P-384. */
  readonly key: KeyObject;
}

const extensionsOf = ({ spki, usage, names }: Profile, issuer: Issuer): Buffer[] => {
  const isAuthority = usage === 'authority';
  // An authority signs end entities alone: pathLenConstraint 0.
  const constraints = isAuthority
    ? sequence(element(TAG.boolean, Uint8Array.of(0xff)), integer(Uint8Array.of(0)))
    : sequence();
  const extensions = [
    extension(OID.basicConstraints, constraints, true),
    extension(OID.keyUsage, isAuthority ? KEY_USAGE.certSignAndCrlSign : KEY_USAGE.digitalSignature, true),
    extension(OID.subjectKeyId, element(TAG.octetString, keyId(spki))),
    extension(OID.authorityKeyId, sequence(element(0x80, keyId(issuer.spki)))),
  ];
  if (!isAuthority) {
    const purpose = usage === 'client' ? OID.clientAuth : OID.serverAuth;
    extensions.push(extension(OID.extendedKeyUsage, sequence(objectId(purpose))));
  }
  if (names.length > 0) extensions.push(extension(OID.subjectAltName, sequence(...names.map(alternativeName))));
  return extensions;
};

/** A serial number of 127 random bits, positive and never short. */
const newSerial = (): Buffer => {
  const serial = randomBytes(16);
  serial[0] = ((serial[0] as number) & 0x3f) | 0x40;
  return serial;
};

export const issueCertificate = (profile: Profile, issuer: Issuer): X509Certificate => {
  const body = sequence(
    element(0xa0, integer(Uint8Array.of(2))), // version 3
    integer(newSerial()),
    ECDSA_WITH_SHA384,
    nameOf(issuer.commonName),
    sequence(time(profile.notBefore), time(profile.notAfter)),
    nameOf(profile.commonName),
    profile.spki,
    element(0xa3, sequence(...extensionsOf(profile, issuer))),
  );
  const signature = sign('sha384', body, { key: issuer.key, dsaEncoding: 'der' });
  return new X509Certificate(sequence(body, ECDSA_WITH_SHA384, bitString(signature)));
};

/** The serial number as everywhere in the registry: lower-case hex. */
export const serialOf = (certificate: X509Certificate): string => certificate.serialNumber.toLowerCase();
