// What the fake registry reads of a published policy, without judging it.
import { createHash } from 'node:crypto';
import type { SignedPolicy } from '../../proto/gen/mortise/registry/v1/policies.ts';

export const parsePolicyJws = (jws: Buffer): SignedPolicy => {
  const { payload } = JSON.parse(jws.toString()) as { payload: string };
  const bytes = Buffer.from(payload, 'base64url');
  const { scope, tenant, version } = JSON.parse(bytes.toString());
  return {
    tenant: scope === 'platform' ? '_platform' : tenant,
    version: BigInt(version),
    digest: createHash('sha256').update(bytes).digest('hex'),
    jws,
    publishTime: new Date(),
  };
};
