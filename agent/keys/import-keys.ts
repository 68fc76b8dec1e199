// Keys that wrap key material on its way in: token objects of the agent, a few of each tenant, each for one import.
// Invariant: one serves at most one successful import and a few failed ones, and no longer than the note of its object
// keeps the reaper from it; what a stopped agent leaves, the reaper destroys.
import { randomBytes } from 'node:crypto';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import type { Clock } from '../clock.ts';
import type { TokenObjects } from './objects.ts';
import type { TokenCall } from './token.ts';

export interface ImportKey {
  readonly kid: string;
  readonly algorithm: string;
  readonly jose: string;
  readonly tokenId: string;
  readonly publicJwk: PublicJwk;
  readonly expiresAt: number;
}

interface Open extends ImportKey {
  attemptsLeft: number;
}

const LIFETIME_MS = 10 * 60_000; // as long as the reaper leaves a noted object alone
const MAX_OF_TENANT = 8;
const MAX_ATTEMPTS = 8; // each failure may tell a stranger something about the private key

export class ImportKeys {
  readonly #objects: TokenObjects;
  readonly #clock: Clock;
  readonly #tenants = new Map<string, Map<string, Open>>();

  constructor({ objects, clock }: { readonly objects: TokenObjects; readonly clock: Clock }) {
    this.#objects = objects;
    this.#clock = clock;
  }

  /** Makes one. Where a tenant has too many, its oldest ends. */
  async open(
    { tenant, algorithm, jose }: { readonly tenant: string; readonly algorithm: string; readonly jose: string },
    call: TokenCall,
  ): Promise<ImportKey> {
    const expiresAt = this.#clock.now() + LIFETIME_MS;
    const id = randomBytes(16).toString('hex');
    const identity = { tenant, keyId: `import.${id}`, version: 1, algorithm };
    const { tokenId, publicJwk } = await this.#objects.generate({ ...identity, jose, purpose: 'encrypt' }, call);
    if (publicJwk === undefined) throw new TypeError(`${algorithm} has no public key`);
    const key: Open = {
      kid: `import:${id}`,
      algorithm,
      jose,
      tokenId,
      publicJwk,
      expiresAt,
      attemptsLeft: MAX_ATTEMPTS,
    };
    const keys = this.#tenants.get(tenant) ?? new Map<string, Open>();
    this.#tenants.set(tenant, keys);
    keys.set(key.kid, key);
    const old = [...keys.values()].filter((row) => this.#clock.now() >= row.expiresAt);
    const surplus = keys.size - old.length > MAX_OF_TENANT ? [...keys.values()].slice(0, 1) : [];
    for (const { kid } of [...old, ...surplus]) await this.end(tenant, kid);
    return key;
  }

  /** For one attempt; undefined where there is none of this name any more. */
  take(tenant: string, kid: string): ImportKey | undefined {
    const key = this.#tenants.get(tenant)?.get(kid);
    if (key === undefined || this.#clock.now() >= key.expiresAt || key.attemptsLeft <= 0) return undefined;
    key.attemptsLeft -= 1;
    return key;
  }

  /** Destroys it. Never rejects: where the token cannot do it now, the reaper will. */
  async end(tenant: string, kid: string): Promise<void> {
    const keys = this.#tenants.get(tenant);
    const key = keys?.get(kid);
    if (keys === undefined || key === undefined) return;
    keys.delete(kid);
    if (keys.size === 0) this.#tenants.delete(tenant);
    await this.#objects.discard(key.tokenId);
  }
}
