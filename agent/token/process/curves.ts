// The curves that keys may have: names, OIDs, and a check that a stranger's point is on the curve. Tokens differ in
// whether they check; a point off the curve gives the private key away bit by bit (SP 800-56A section 5.6.2.3.4).

export interface Curve {
  /** JOSE name. */
  readonly crv: 'P-256' | 'P-384' | 'P-521';
  readonly algorithm: string;
  /** CKA_EC_PARAMS: the DER object identifier. */
  readonly params: Buffer;
  readonly bytes: number;
  readonly bits: number;
  readonly p: bigint;
  readonly b: bigint;
}

const curve = (row: Omit<Curve, 'params' | 'bytes' | 'p' | 'b'> & { oid: string; p: bigint; b: string }): Curve => ({
  crv: row.crv,
  algorithm: row.algorithm,
  bits: row.bits,
  bytes: Math.ceil(row.bits / 8),
  params: Buffer.from(row.oid, 'hex'),
  p: row.p,
  b: BigInt(`0x${row.b}`),
});

/** Domain parameters of SP 800-186 section 3.2.1; a = -3 for all three. */
export const CURVES: readonly Curve[] = [
  curve({
    crv: 'P-256',
    algorithm: 'EC-P256',
    bits: 256,
    oid: '06082a8648ce3d030107',
    p: 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n,
    b: '5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b',
  }),
  curve({
    crv: 'P-384',
    algorithm: 'EC-P384',
    bits: 384,
    oid: '06052b81040022',
    p: 2n ** 384n - 2n ** 128n - 2n ** 96n + 2n ** 32n - 1n,
    b: 'b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef',
  }),
  curve({
    crv: 'P-521',
    algorithm: 'EC-P521',
    bits: 521,
    oid: '06052b81040023',
    p: 2n ** 521n - 1n,
    b: '0051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e156193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1ef451fd46b503f00',
  }),
];

/** CKA_EC_PARAMS of Ed25519 as OID 1.3.101.112 (RFC 8410), which every module that has it takes. */
export const ED25519_PARAMS = Buffer.from('06032b6570', 'hex');
/** The same as PrintableString "edwards25519", which older modules answer with. */
export const ED25519_NAME = Buffer.from('130c656477617264733235353139', 'hex');

export const curveByParams = (params: Buffer): Curve | undefined => CURVES.find((row) => row.params.equals(params));
export const curveByAlgorithm = (id: string): Curve | undefined => CURVES.find((row) => row.algorithm === id);

const number = (bytes: Buffer): bigint => BigInt(`0x${bytes.toString('hex')}`);

/** Is this 0x04 || X || Y with both coordinates below p and y² = x³ - 3x + b? The point is public. */
export const isOnCurve = (row: Curve, point: Buffer): boolean => {
  if (point.length !== 1 + 2 * row.bytes || point[0] !== 4) return false;
  const x = number(point.subarray(1, 1 + row.bytes));
  const y = number(point.subarray(1 + row.bytes));
  if (x >= row.p || y >= row.p) return false;
  return (y * y - (x * x * x - 3n * x + row.b)) % row.p === 0n;
};
