// ECDSA signatures from r || s (RFC 7518 section 3.4, PKCS#11) to Ecdsa-Sig-Value in DER (RFC 3279 section 2.2.3).

/** INTEGER of DER: no leading zero but one that keeps it positive. */
const integer = (unsigned: Buffer): Buffer => {
  let from = 0;
  while (from < unsigned.length - 1 && unsigned[from] === 0) from += 1;
  const digits = unsigned.subarray(from);
  const sign = (digits[0] ?? 0) & 0x80 ? [0] : [];
  return Buffer.concat([Buffer.of(0x02, digits.length + sign.length, ...sign), digits]);
};

/** For curves of up to 384 bits, whose values fit a length of one byte. */
export const derOfEcdsa = (raw: Buffer): Buffer => {
  if (raw.length === 0 || raw.length % 2 !== 0 || raw.length > 96)
    throw new RangeError(`${raw.length} bytes of r || s`);
  const body = [integer(raw.subarray(0, raw.length / 2)), integer(raw.subarray(raw.length / 2))];
  const bytes = Buffer.concat(body);
  return Buffer.concat([Buffer.of(0x30, bytes.length), bytes]);
};
