// Reads the policy folder and the trust anchor. Every read is bounded and cannot hang; nothing is believed here. Symbolic
// links are followed, since Kubernetes publishes files through them.
import { constants } from 'node:fs';
import { type FileHandle, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { TENANT_PATTERN } from '../../proto/documents/key-record.ts';
import { PolicyError } from '../../proto/documents/policy-error.ts';
import { POLICY_JWS_LIMIT_BYTES } from '../../proto/documents/policy-sign.ts';
import { TRUST_ANCHOR_LIMIT_BYTES } from '../../proto/documents/trust-anchor.ts';

/** The bytes of a file, or why there are none. */
export type PolicyFile = { readonly bytes: Buffer } | { readonly error: PolicyError };

export interface PolicyFiles {
  readonly anchor: PolicyFile;
  readonly platform: PolicyFile;
  readonly tenants: ReadonlyMap<string, PolicyFile>;
  /** Files of the tenants' folder that are no tenant's, and folders that cannot be listed. */
  readonly strays: readonly PolicyError[];
}

const MAX_TENANT_FILES = 4096; // as many as a platform policy may name
const OTHERS_MAY_WRITE = 0o022;
const SHOWN_NAME_CHARACTERS = 80;

const errorCode = (error: unknown): string | undefined => (error as NodeJS.ErrnoException | undefined)?.code;

const unreadable = (name: string, cause: unknown): PolicyError =>
  errorCode(cause) === 'ENOENT'
    ? new PolicyError('FILE_MISSING', name, 'there is no such file', cause)
    : new PolicyError('FILE_UNREADABLE', name, `cannot be read (${errorCode(cause) ?? 'unknown'})`, cause);

const readBounded = async (file: FileHandle, limit: number): Promise<Buffer> => {
  const buffer = Buffer.alloc(limit + 1);
  let length = 0;
  while (length < buffer.length) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return Buffer.from(buffer.subarray(0, length));
};

/** The anchor decides whom the agent obeys, so only root and the agent itself may be able to change the file. */
const requireTrustedOwner = (name: string, stat: { uid: number; mode: number }): void => {
  const own = process.geteuid?.();
  if (stat.uid !== 0 && stat.uid !== own)
    throw new PolicyError('ANCHOR_UNTRUSTED', name, `owned by uid ${stat.uid}; expected root or the agent's user`);
  if ((stat.mode & OTHERS_MAY_WRITE) !== 0)
    throw new PolicyError('ANCHOR_UNTRUSTED', name, 'group or others may write to it; run chmod go-w');
};

export const readPolicyFile = async (input: {
  path: string;
  name: string;
  limit: number;
  owned?: boolean;
}): Promise<PolicyFile> => {
  const { path, name, limit } = input;
  let file: FileHandle | undefined;
  try {
    // O_NONBLOCK: opening a FIFO that nobody writes to would wait for ever.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = await file.stat();
    if (!stat.isFile()) throw new PolicyError('FILE_UNREADABLE', name, 'not a regular file');
    if (input.owned) requireTrustedOwner(name, stat);
    if (stat.size > limit) throw new PolicyError('TOO_LARGE', name, `larger than ${limit} bytes`);
    const bytes = await readBounded(file, limit);
    if (bytes.length > limit) throw new PolicyError('TOO_LARGE', name, `larger than ${limit} bytes`);
    return { bytes };
  } catch (error) {
    return { error: error instanceof PolicyError ? error : unreadable(name, error) };
  } finally {
    await file?.close();
  }
};

/** Tenants that have a file, by its name; hidden names are the publisher's own (Kubernetes: "..data"). */
const listTenants = async (folder: string): Promise<{ tenants: string[]; strays: PolicyError[] }> => {
  let names: string[];
  try {
    names = (await readdir(folder)).filter((name) => !name.startsWith('.')).sort();
  } catch (cause) {
    return { tenants: [], strays: errorCode(cause) === 'ENOENT' ? [] : [unreadable('tenants', cause)] };
  }
  const tenants: string[] = [];
  const strays: PolicyError[] = [];
  for (const name of names) {
    const tenant = name.endsWith('.json') ? name.slice(0, -'.json'.length) : undefined;
    if (tenant !== undefined && TENANT_PATTERN.test(tenant) && tenants.length < MAX_TENANT_FILES) tenants.push(tenant);
    else if (tenant !== undefined)
      strays.push(
        new PolicyError(
          'FILE_UNREADABLE',
          `tenants/${name.slice(0, SHOWN_NAME_CHARACTERS)}`,
          'no tenant has this name',
        ),
      );
  }
  return { tenants, strays };
};

/** Reads everything; what cannot be read is reported in its place. Never throws. */
export const readPolicyFiles = async (input: { dir: string; trustAnchor: string }): Promise<PolicyFiles> => {
  const { dir } = input;
  const limit = POLICY_JWS_LIMIT_BYTES;
  const anchor = await readPolicyFile({
    path: input.trustAnchor,
    name: 'trust-anchor.json',
    limit: TRUST_ANCHOR_LIMIT_BYTES,
    owned: true,
  });
  const platform = await readPolicyFile({ path: join(dir, 'platform.json'), name: 'platform.json', limit });
  const { tenants: listed, strays } = await listTenants(join(dir, 'tenants'));
  const tenants = new Map<string, PolicyFile>();
  for (const tenant of listed) {
    const name = `tenants/${tenant}.json`;
    tenants.set(tenant, await readPolicyFile({ path: join(dir, name), name, limit }));
  }
  return { anchor, platform, tenants, strays };
};
