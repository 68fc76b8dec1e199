// The tokens of the host as the one token that the rest of the agent sees: each call goes to the token of its tenant.
// Invariant: a tenant's call reaches the tenant's own token or none; each token has a process of its own, so that one that
// is away, hangs or crashes is felt by its own tenants alone.
import type { Purpose } from '../../proto/documents/algorithms.ts';
import type { CertificateStatement } from '../config/certificate.ts';
import { AgentError } from '../errors.ts';
import type { TokenCall, TokenPort } from '../operations/ports/token.ts';
import type { TokenHealth } from '../token/token.ts';
import type { TokenSlot } from './token-slot.ts';

export interface RoutedToken {
  readonly name: string;
  /** Its tenants, or all that no other token names. */
  readonly tenants: readonly string[] | 'others';
  readonly certificate: CertificateStatement | undefined;
  readonly slot: TokenSlot;
}

const PLATFORM_TENANT = '_platform';
/** After the generator of the agent's token failed, how long random bytes come from another one. */
const AVOID_MS = 30_000;
const UNBOUND = 'no token of this host is for this tenant (MORTISE_TOKENS_FILE)';

const unbound = (): AgentError => new AgentError('HSM_UNSUPPORTED', { message: UNBOUND });
const refuse = async (): Promise<never> => {
  throw unbound();
};

/** For a tenant of no token. */
const NO_TOKEN: TokenPort = {
  canHold: () => ({ ok: false, why: UNBOUND }),
  generate: refuse,
  find: refuse,
  list: refuse,
  describe: refuse,
  destroy: refuse,
  gcmEncrypt: refuse,
  gcmDecrypt: refuse,
  wrappingKeyId: () => {
    throw unbound();
  },
  generateWrappingKey: refuse,
  wrap: refuse,
  unwrap: refuse,
  sign: refuse,
  mac: refuse,
  oaepDecrypt: refuse,
  ecdh: refuse,
  decapsulate: refuse,
  random: refuse,
  rewrap: refuse,
  create: refuse,
};

export class TokenRouter implements TokenPort {
  readonly all: readonly RoutedToken[];
  readonly agent: RoutedToken;
  readonly #byTenant = new Map<string, RoutedToken>();
  readonly #others: RoutedToken | undefined;
  #avoidUntil = 0;

  constructor({ slots, agent }: { readonly slots: readonly RoutedToken[]; readonly agent: string }) {
    const own = slots.find(({ name }) => name === agent);
    if (own === undefined) throw new Error(`no token is called ${agent}`);
    this.all = slots;
    this.agent = own;
    this.#others = slots.find(({ tenants }) => tenants === 'others');
    for (const routed of slots) {
      if (routed.tenants !== 'others') for (const tenant of routed.tenants) this.#byTenant.set(tenant, routed);
    }
    this.#byTenant.set(PLATFORM_TENANT, own);
  }

  /** The token of a tenant. */
  of(tenant: string): RoutedToken | undefined {
    return this.#byTenant.get(tenant) ?? this.#others;
  }

  /** Of the agent's own token, or of a tenant's. */
  health(tenant = PLATFORM_TENANT): TokenHealth {
    return this.of(tenant)?.slot.health() ?? { healthy: false, state: 'closed', detail: UNBOUND };
  }

  /**
   * Resolves when the agent's own token is there, however long it takes; `failed` is called after each attempt that was
   * not it. The others are started beside it and nobody waits for them.
   */
  start(failed: () => void): Promise<void> {
    for (const routed of this.all) {
      if (routed !== this.agent) routed.slot.start(() => undefined).catch(() => undefined); // it rejects where we end first
    }
    return this.agent.slot.start(failed);
  }

  /** On an operator's word: tries every token that is away now. */
  async retry(): Promise<void> {
    await Promise.all(this.all.map(({ slot }) => slot.retry()));
  }

  async tryOtherPin(): Promise<void> {
    await Promise.all(this.all.map(({ slot }) => slot.tryOtherPin()));
  }

  kill(): void {
    for (const { slot } of this.all) slot.kill();
  }

  async close(): Promise<void> {
    await Promise.all(this.all.map(({ slot }) => slot.close()));
  }

  canHold(algorithm: string, purpose: Purpose, tenant = PLATFORM_TENANT): ReturnType<TokenPort['canHold']> {
    return (this.of(tenant)?.slot ?? NO_TOKEN).canHold(algorithm, purpose);
  }
  generate(...args: Parameters<TokenPort['generate']>): ReturnType<TokenPort['generate']> {
    return this.#for(args[1]).generate(...args);
  }
  find(label: string, call: TokenCall): ReturnType<TokenPort['find']> {
    return this.#for(call).find(label, call);
  }
  list(labelPrefix: string, call: TokenCall): ReturnType<TokenPort['list']> {
    return this.#for(call).list(labelPrefix, call);
  }
  describe(tokenId: string, call: TokenCall): ReturnType<TokenPort['describe']> {
    return this.#for(call).describe(tokenId, call);
  }
  /** Of an object whose owner is not known any more: on every token. */
  async destroy(tokenId: string, call: TokenCall): Promise<void> {
    if (call.owner !== '*') return this.#for(call).destroy(tokenId, call);
    await Promise.all(this.all.map(({ slot }) => slot.destroy(tokenId, call)));
  }
  gcmEncrypt(...args: Parameters<TokenPort['gcmEncrypt']>): Promise<Buffer> {
    return this.#for(args[2]).gcmEncrypt(...args);
  }
  gcmDecrypt(...args: Parameters<TokenPort['gcmDecrypt']>): Promise<Buffer> {
    return this.#for(args[2]).gcmDecrypt(...args);
  }
  wrappingKeyId(call: Parameters<TokenPort['wrappingKeyId']>[0]): string {
    return this.#for(call).wrappingKeyId(call);
  }
  generateWrappingKey(
    ...args: Parameters<TokenPort['generateWrappingKey']>
  ): ReturnType<TokenPort['generateWrappingKey']> {
    return this.#for(args[1]).generateWrappingKey(...args);
  }
  wrap(...args: Parameters<TokenPort['wrap']>): Promise<Buffer> {
    return this.#for(args[2]).wrap(...args);
  }
  unwrap(...args: Parameters<TokenPort['unwrap']>): Promise<Buffer> {
    return this.#for(args[2]).unwrap(...args);
  }
  sign(...args: Parameters<TokenPort['sign']>): Promise<Buffer> {
    return this.#for(args[3]).sign(...args);
  }
  mac(...args: Parameters<TokenPort['mac']>): Promise<Buffer> {
    return this.#for(args[3]).mac(...args);
  }
  oaepDecrypt(...args: Parameters<TokenPort['oaepDecrypt']>): Promise<Buffer> {
    return this.#for(args[2]).oaepDecrypt(...args);
  }
  ecdh(tokenId: string, point: Buffer, call: TokenCall): Promise<Buffer> {
    return this.#for(call).ecdh(tokenId, point, call);
  }
  decapsulate(tokenId: string, ciphertext: Buffer, call: TokenCall): Promise<Buffer> {
    return this.#for(call).decapsulate(tokenId, ciphertext, call);
  }
  rewrap(...args: Parameters<TokenPort['rewrap']>): Promise<Buffer> {
    return this.#for(args[3]).rewrap(...args);
  }
  create(...args: Parameters<TokenPort['create']>): ReturnType<TokenPort['create']> {
    return this.#for(args[1]).create(...args);
  }
  /** Random bytes of the agent itself are anybody's: with its own token away they come from the next that is well. */
  async random(length: number, call: TokenCall): Promise<Buffer> {
    if (call.tenant !== PLATFORM_TENANT || this.all.length === 1) return this.#for(call).random(length, call);
    const now = performance.now();
    const other = this.all.find((routed) => routed !== this.agent && routed.slot.health().healthy);
    const { slot } = now < this.#avoidUntil && other !== undefined ? other : this.agent;
    try {
      return await slot.random(length, call);
    } catch (error) {
      if (slot === this.agent.slot) this.#avoidUntil = now + AVOID_MS;
      throw error;
    }
  }

  #for(call: Pick<TokenCall, 'tenant' | 'owner'>): TokenPort {
    return this.of(call.owner ?? call.tenant)?.slot ?? NO_TOKEN;
  }
}
