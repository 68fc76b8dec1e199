// A caller's associated data in a Compact JWE, which has no member for it: the protected header carries its SHA-256
// under a critical parameter, so a library that does not know the parameter refuses the JWE instead of ignoring it.
import { hash, timingSafeEqual } from 'node:crypto';
import { encodeBase64url } from './base64url.ts';
import type { JoseHeader } from './jose-header.ts';
import type { JsonObject } from './strict-json.ts';

export const AAD_PARAMETER = 'urn:mortise:aad:s256';

const digestOf = (associatedData: Buffer): string => encodeBase64url(hash('sha256', associatedData, 'buffer'));

/** Header members that bind the data; none where there is none. */
export const associatedDataMembers = (associatedData: Buffer): JsonObject =>
  associatedData.length === 0 ? {} : { crit: [AAD_PARAMETER], [AAD_PARAMETER]: digestOf(associatedData) };

/** Whether the JWE was made with exactly this data; constant time in the digest. */
export const matchesAssociatedData = (header: JoseHeader, associatedData: Buffer, aadMember?: Buffer): boolean => {
  const carried = header.members[AAD_PARAMETER];
  // The JSON serialization can carry the data itself; what is carried must be what the caller expects.
  if (aadMember !== undefined) {
    const same = aadMember.length === associatedData.length && timingSafeEqual(aadMember, associatedData);
    return carried === undefined && same;
  }
  // Outside `crit` the parameter would bind nothing for other readers, so it counts as a mismatch.
  if (carried === undefined) return associatedData.length === 0;
  if (associatedData.length === 0 || typeof carried !== 'string' || !header.critical.has(AAD_PARAMETER)) return false;
  const expected = Buffer.from(digestOf(associatedData));
  const actual = Buffer.from(carried);
  return actual.length === expected.length && timingSafeEqual(actual, expected);
};
