// The pinned trust anchor. The first anchor that the agent sees is pinned in its store; another one is taken only when
// somebody who may write to the data folder has put its SHA-256 there, so the policy folder alone cannot replace it.
import { unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { PolicyError } from '../../proto/documents/policy-error.ts';
import { parseTrustAnchor, type TrustAnchor, trustAnchorDigest } from '../../proto/documents/trust-anchor.ts';
import { type PolicyFile, readPolicyFile } from './loader.ts';

export const ACCEPT_FILE = 'accept-trust-anchor';
const ACCEPT_LIMIT_BYTES = 1024;
const SHA256_HEX = /^[0-9a-f]{64}(?=\s|$)/;

export interface PinnedAnchor {
  readonly anchor: TrustAnchor;
  readonly digest: string;
  readonly bytes: Buffer;
}

export const pinnedAnchor = (bytes: Buffer): PinnedAnchor => ({
  anchor: parseTrustAnchor(bytes),
  digest: trustAnchorDigest(bytes),
  bytes,
});

/** Has an operator accepted the anchor with this digest? The file is as `sha256sum` writes it. */
const isAccepted = async (folder: string, digest: string): Promise<boolean> => {
  const path = join(folder, ACCEPT_FILE);
  const file = await readPolicyFile({ path, name: ACCEPT_FILE, limit: ACCEPT_LIMIT_BYTES, owned: true });
  if ('error' in file) {
    if (file.error.code === 'FILE_MISSING') return false;
    throw file.error;
  }
  return SHA256_HEX.exec(file.bytes.toString('latin1'))?.[0] === digest;
};

/** An acceptance is good for one change. */
export const forgetAcceptance = async (folder: string): Promise<void> => {
  try {
    await unlink(join(folder, ACCEPT_FILE));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT')
      throw new PolicyError('STORE_UNAVAILABLE', ACCEPT_FILE, 'cannot be removed', cause);
  }
};

/**
 * The anchor of the file where it may be trusted: the pinned one, an accepted one, or the first. `known`: an anchor was
 * pinned before, even if it can no longer be read.
 */
export const judgeAnchor = async (input: {
  file: PolicyFile;
  pinned: PinnedAnchor | undefined;
  known: boolean;
  folder: string;
}): Promise<PinnedAnchor> => {
  const { file, pinned, folder } = input;
  if ('error' in file) throw file.error;
  if (pinned?.bytes.equals(file.bytes)) return pinned;
  const found = pinnedAnchor(file.bytes);
  if (!input.known || (await isAccepted(folder, found.digest))) return found;
  throw new PolicyError(
    'ANCHOR_UNTRUSTED',
    'trust-anchor.json',
    `it is not the anchor that was pinned (${pinned?.digest ?? 'unreadable'}); to accept it, write its SHA-256 ` +
      `${found.digest} into ${join(folder, ACCEPT_FILE)}`,
  );
};
