// `registry init`: makes what a registry is, once: CA, keys, pinned trust anchor, and a token for the first
// administrator. Invariant: nothing that is there already is overwritten.
import { open, readFile } from 'node:fs/promises';
import { systemClock } from '../../agent/clock.ts';
import { EXIT, type ExitCode } from '../../agent/lifecycle.ts';
import { TRUST_ANCHOR_LIMIT_BYTES } from '../../proto/documents/trust-anchor.ts';
import { openStore } from '../assembly/opening.ts';
import { Admins } from '../hosts/admins.ts';
import type { Authority } from '../hosts/authority.ts';
import { AuthorityError, isMade, makeAuthority, readAuthority } from '../hosts/authority-folder.ts';
import type { RegistryStore } from '../store/store.ts';
import { inWords, type RawEnvironment, readConfig } from './configuration.ts';

export interface InitInput {
  readonly environment: RawEnvironment;
  readonly trustDomain: string;
  /** File. */
  readonly trustAnchor: string;
  readonly admin: string;
  /** Where the token goes; standard output where not given. */
  readonly tokenFile: string | undefined;
  /** Where a whole authority is there already, do nothing: for programs that run it before every start. */
  readonly unlessMade: boolean;
  readonly print: (line: string) => void;
  readonly complain: (line: string) => void;
}

/** Nothing to tell: the command itself tells what was done. */
const quiet = {
  tenantCreated: () => undefined,
  tokenMade: () => undefined,
  revoked: () => undefined,
  certificateIssued: () => undefined,
};

const readAnchor = async (path: string): Promise<Buffer> => {
  const bytes = await readFile(path);
  if (bytes.length > TRUST_ANCHOR_LIMIT_BYTES) throw new AuthorityError(`${path} is too large`, 'name a trust anchor');
  return bytes;
};

const firstToken = (store: RegistryStore, authority: Authority, admin: string) =>
  new Admins({ store, authority, clock: systemClock, events: quiet }).createFirst(admin);

const handOut = async (
  token: { readonly text: string; readonly expiresAt: number },
  { admin, tokenFile, print }: Pick<InitInput, 'admin' | 'tokenFile' | 'print'>,
): Promise<void> => {
  print(`token of the administrator ${admin}, good until ${new Date(token.expiresAt).toISOString()}:`);
  if (tokenFile === undefined) return print(token.text);
  await using file = await open(tokenFile, 'wx', 0o600);
  await file.writeFile(`${token.text}\n`);
  print(tokenFile);
};

/** `registry first-admin`: a token of the first administrator, where the store has none: it was lost, the folder was not. */
export const firstAdmin = async (
  input: Pick<InitInput, 'environment' | 'admin' | 'tokenFile' | 'print' | 'complain'>,
): Promise<ExitCode> => {
  const loaded = readConfig(input.environment, input.complain);
  if (loaded === undefined) return EXIT.config;
  const { config } = loaded;
  try {
    const authority = await readAuthority(config.authorityDir, systemClock);
    const store = await openStore(config, { failed: () => undefined, reconnected: () => undefined });
    try {
      await handOut(await firstToken(store, authority, input.admin), input);
      return EXIT.ok;
    } finally {
      await store.close();
    }
  } catch (error) {
    input.complain(`mortise registry: ${inWords(error)}`);
    return EXIT.failure;
  }
};

export const init = async (input: InitInput): Promise<ExitCode> => {
  const { environment, trustDomain, admin, print, complain } = input;
  const loaded = readConfig(environment, complain);
  if (loaded === undefined) return EXIT.config;
  const { config } = loaded;
  const clock = systemClock;
  try {
    if (input.unlessMade && isMade(config.authorityDir)) {
      print(`the registry is made already, in ${config.authorityDir}`);
      return EXIT.ok;
    }
    const trustAnchorBytes = await readAnchor(input.trustAnchor);
    await makeAuthority({ dir: config.authorityDir, trustDomain, trustAnchorBytes, clock });
    const authority = await readAuthority(config.authorityDir, clock);
    const store = await openStore(config, { failed: () => undefined, reconnected: () => undefined });
    try {
      const token = await firstToken(store, authority, admin);
      print(`registry of ${trustDomain} made in ${config.authorityDir}; keep a backup of this folder, offline`);
      print(`root certificate SHA-256 ${authority.rootHash.toString('hex')}`);
      await handOut(token, input);
      return EXIT.ok;
    } finally {
      await store.close();
    }
  } catch (error) {
    complain(`mortise registry: ${inWords(error)}`);
    return EXIT.failure;
  }
};
