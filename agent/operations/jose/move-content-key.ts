// Moves a content key from one recipient to others. Invariant: from RSA or AES to AES, all in the token, it does not
// leave the token process; else it is in this process while it is wrapped, and wiped.
import {
  GCM_KEY_WRAPS,
  gcmWrapped,
  parseKeyManagement,
  RSA_OAEP_256,
  type WrappedCek,
} from '../../crypto/key-management.ts';
import type { JsonObject } from '../../crypto/strict-json.ts';
import { AgentError } from '../../errors.ts';
import type { Ports, Run } from '../perform.ts';
import { unwrapCek } from './content-key.ts';
import { tokenIdOf } from './named-key.ts';
import type { Attempt } from './recipients.ts';
import { type KeyTarget, settled, type Target, targetHeader, wrapForTarget } from './targets.ts';

/** What a recipient has in the JSON serialization. */
export interface Wrap {
  readonly header: JsonObject;
  readonly encryptedKey: Buffer;
}

const isInToken = (target: Target): target is KeyTarget =>
  target.kind === 'key' && GCM_KEY_WRAPS.has(target.version.jose);

/** From one token key to another in one request to the token process. */
const moveInToken = async (ports: Ports, run: Run, from: Attempt, to: KeyTarget): Promise<WrappedCek> => {
  const { jwe, version } = from;
  const management = parseKeyManagement(jwe, version.jose, version.publicJwk?.['crv']);
  const source =
    management.kind === 'gcm'
      ? { iv: management.iv, data: Buffer.concat([jwe.encryptedKey, management.tag]) }
      : { data: jwe.encryptedKey };
  const iv = await ports.random.take(12);
  const moved = { tokenId: tokenIdOf(to.version), iv };
  return gcmWrapped(
    iv,
    await ports.token.rewrap({ tokenId: tokenIdOf(version), ...source }, moved, jwe.enc.cekBytes, run.token),
  );
};

const canMoveInToken = ({ version }: Attempt): boolean =>
  GCM_KEY_WRAPS.has(version.jose) || version.jose === RSA_OAEP_256;

/** The wraps for the targets, or undefined where the source does not open. */
export const wrapFrom = async (
  ports: Ports,
  run: Run,
  source: Attempt,
  targets: readonly Target[],
): Promise<{ readonly wraps: readonly Wrap[]; readonly insideToken: boolean } | undefined> => {
  const wrapOf = (target: Target, { encryptedKey, members }: WrappedCek): Wrap => ({
    header: targetHeader(target, { encryptedKey, members }),
    encryptedKey,
  });
  if (targets.length === 0) return { wraps: [], insideToken: false };
  if (canMoveInToken(source) && targets.every(isInToken)) {
    const moves = targets.map(async (target) =>
      wrapOf(target, await moveInToken(ports, run, source, target as KeyTarget)),
    );
    try {
      return { wraps: await settled(moves), insideToken: true };
    } catch (thrown) {
      if (thrown instanceof AgentError && thrown.code === 'INVALID_CIPHERTEXT') return undefined;
      throw thrown;
    }
  }
  const cek = await unwrapCek(ports, run, source, source.jwe);
  if (cek === undefined) return undefined;
  try {
    const wraps = targets.map(async (target) =>
      wrapOf(target, await wrapForTarget(ports, run, target, { cek, enc: source.jwe.enc.name })),
    );
    return { wraps: await settled(wraps), insideToken: false };
  } finally {
    cek.fill(0);
  }
};
