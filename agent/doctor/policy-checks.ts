// The policy folder, judged as the agent judges it, but for what only its store knows (the pinned anchor, the floor).

import type { SignedPolicy } from '../../proto/documents/policy-sign.ts';
import type { PlatformPolicy } from '../../proto/documents/policy-types.ts';
import { parseTrustAnchor, type TrustAnchor, trustAnchorDigest } from '../../proto/documents/trust-anchor.ts';
import type { Config } from '../config/config.ts';
import { admit } from '../policy/admission.ts';
import { type PolicyFile, readPolicyFiles } from '../policy/loader.ts';
import { type Check, fail, ok, warn } from './check.ts';

const DAY_MS = 24 * 3600 * 1000;
const SOON_MS = 14 * DAY_MS;

const message = (error: unknown): string => (error instanceof Error ? error.message : 'unknown error');

const judge = (
  scope: 'platform' | `tenant/${string}`,
  file: PolicyFile,
  anchor: TrustAnchor,
  platform: PlatformPolicy | undefined,
): { readonly check: Check; readonly signed?: SignedPolicy } => {
  const now = Date.now();
  try {
    if ('error' in file) throw file.error;
    const signed = admit({ scope, bytes: file.bytes, anchor, now, floor: undefined, platform });
    const { version, expiresAt } = signed.policy;
    const days = Math.floor((Date.parse(expiresAt) - now) / DAY_MS);
    const what = `${scope}: version ${version}, signed by ${signed.officers.join(', ')}, expires ${expiresAt}`;
    const soon = Date.parse(expiresAt) - now < SOON_MS;
    const check = soon
      ? warn('policy', `${what}, in ${days} days`, 'sign and publish the next version: mortise policy sign')
      : ok('policy', what);
    return { check, signed };
  } catch (error) {
    const remedy =
      'the agent goes on under the last good version or refuses everything; mortise policy verify tells more';
    return { check: fail('policy', `${scope}: ${message(error)}`, remedy) };
  }
};

const readAnchor = (file: PolicyFile, path: string): { check: Check; anchor?: TrustAnchor } => {
  try {
    if ('error' in file) throw file.error;
    const anchor = parseTrustAnchor(file.bytes);
    const { threshold, officers } = anchor;
    const what = `${path}: ${threshold} of ${officers.length} officers, SHA-256 ${trustAnchorDigest(file.bytes)}`;
    return { check: ok('trust anchor', what), anchor };
  } catch (error) {
    const remedy = "put the officers' trust anchor there, owned by root or the agent's user: mortise policy init";
    return { check: fail('trust anchor', `${path}: ${message(error)}`, remedy) };
  }
};

export const checkPolicy = async ({ policy, registry }: Config): Promise<readonly Check[]> => {
  const files = await readPolicyFiles({ dir: policy.dir, trustAnchor: policy.trustAnchor });
  const { check, anchor } = readAnchor(files.anchor, policy.trustAnchor);
  // With a registry the policies come from there, and the anchor alone is a file.
  if (anchor === undefined || registry !== undefined) return [check];
  const platform = judge('platform', files.platform, anchor, undefined);
  const inForce = platform.signed?.policy as PlatformPolicy | undefined;
  const tenants = [...files.tenants].map(([tenant, file]) => judge(`tenant/${tenant}`, file, anchor, inForce).check);
  const strays = files.strays.map((error) => warn('policy', message(error), 'remove it from the policy folder'));
  return [check, platform.check, ...tenants, ...strays];
};
