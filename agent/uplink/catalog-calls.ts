// Changes of keys on their way to the registry, which decides on them by compare-and-set.
import { type CatalogEntry, CatalogServiceService, KekState } from '../../proto/gen/mortise/registry/v1/catalog.ts';
import { AgentError, type Code } from '../errors.ts';
import type { Method } from './calls.ts';
import type { EntryChange } from './ports.ts';
import { asRefusal } from './refusal.ts';

/** Answers of the registry that a caller of the agent is to see as they are. */
const DECIDED: Readonly<Record<string, Code>> = {
  KEY_EXISTS: 'KEY_EXISTS',
  KEY_CONFLICT: 'KEY_CONFLICT',
  KEY_UNKNOWN: 'KEY_UNKNOWN',
  KEY_STATE: 'KEY_STATE',
  KEY_LIMIT: 'KEY_LIMIT',
  TOO_LARGE: 'TOO_LARGE',
  RECORD_INVALID: 'KEY_CONFLICT',
  KEK_NOT_LIVE: 'KEY_CONFLICT',
};

const translated = (thrown: unknown): AgentError => {
  const refusal = asRefusal(thrown);
  const code = DECIDED[refusal.code] ?? 'REGISTRY_UNAVAILABLE';
  const words = code === 'REGISTRY_UNAVAILABLE' ? { cause: refusal } : { message: refusal.message, cause: refusal };
  return new AgentError(code, {
    ...words,
    ...(code === 'REGISTRY_UNAVAILABLE' && refusal.isUnknown && { metadata: { outcome: 'unknown' } }),
  });
};

export interface RegistryCalls {
  call<Req, Res>(method: Method<Req, Res>, request: Req): Promise<Res>;
}

const STATES = { live: KekState.LIVE, idle: KekState.IDLE, destroyed: KekState.DESTROYED } as const;

export const entryOf = (tenant: string, change: EntryChange): CatalogEntry => {
  if (change.kind === 'key') return { tenant, entry: { $case: 'keyRecord', value: change.bytes } };
  const { version, tokenId, state, revision } = change.kek;
  const value = { version, tokenId: Buffer.from(tokenId, 'hex'), state: STATES[state], revision: BigInt(revision) };
  return { tenant, entry: { $case: 'kek', value } };
};

export class CatalogCalls {
  readonly #registry: RegistryCalls;

  constructor(registry: RegistryCalls) {
    this.#registry = registry;
  }

  async put(tenant: string, change: EntryChange, revision: number): Promise<void> {
    const request = { entry: entryOf(tenant, change), expectedRevision: BigInt(revision - 1), correlationId: '' };
    await this.#call(CatalogServiceService.putEntry, request);
  }

  async leaseUses(what: { leaseId: Buffer; tenant: string; keyId: string; version: number; wanted: number }) {
    const { granted, leased } = await this.#call(CatalogServiceService.leaseUses, what);
    return { granted, leased: Number(leased) };
  }

  async returnUses(leaseId: Buffer, unused: number): Promise<void> {
    await this.#call(CatalogServiceService.returnUses, { leaseId, unused });
  }

  async #call<Req, Res>(method: Method<Req, Res>, request: Req): Promise<Res> {
    try {
      return await this.#registry.call(method, request);
    } catch (thrown) {
      throw translated(thrown);
    }
  }
}
