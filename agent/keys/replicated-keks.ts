// The tenants' KEKs where all hosts share them over one token. Invariant: a KEK is in the catalogue of all hosts before
// the token makes it; who is first makes it, the others wait for it; and none is destroyed that blobs of a host which
// this one has not heard of may be under: older KEKs are kept.
import type { AgentError } from '../errors.ts';
import { asAgentError } from '../errors.ts';
import { type Central, type CentralKek, isDoubtful } from './central.ts';
import { type Kek, type KekEvents, TenantKeks } from './keks.ts';
import type { KeyStore } from './store.ts';
import type { KeysToken, TokenCall } from './token.ts';

const MAKER_MS = 5_000; // a host that has not made its KEK by then has ended half-way; its number is left to it

export class ReplicatedKeks extends TenantKeks {
  readonly #central: Central;
  readonly #doubt: (tenant: string) => void;
  readonly #waiters = new Set<() => void>();

  constructor(options: {
    readonly store: KeyStore;
    readonly token: KeysToken;
    readonly labelPrefix: string;
    readonly events: KekEvents;
    readonly central: Central;
    doubt(tenant: string): void;
  }) {
    super(options);
    this.#central = options.central;
    this.#doubt = (tenant) => options.doubt(tenant);
  }

  override get keepsOlder(): boolean {
    return true;
  }

  override async current(tenant: string, call: TokenCall): Promise<Kek> {
    const patience = AbortSignal.any([call.signal, AbortSignal.timeout(MAKER_MS)]);
    for (;;) {
      const live = this.live(tenant).at(-1);
      if (live !== undefined) return live;
      const isBeingMade = this.rows(tenant).some((row) => row.state === 'idle' && row.foreign === true);
      if (isBeingMade && !patience.aborted) await this.#changed(patience);
      else {
        try {
          return await super.current(tenant, call);
        } catch (thrown) {
          const error: AgentError = asAgentError(thrown);
          if (error.code !== 'KEY_EXISTS' || patience.aborted) throw error;
          await this.#changed(patience); // another host was first; the watch brings its KEK
        }
      }
    }
  }

  /** Why a KEK of the catalogue cannot take its place here: this host has blobs under another one of that number. */
  clash(tenant: string, { version, tokenId }: CentralKek): string | undefined {
    const known = this.live(tenant).find((row) => row.version === version);
    if (known === undefined || known.tokenId === tokenId) return undefined;
    return `this host has a tenant KEK ${version} of its own, from when it stood alone`;
  }

  /** The KEKs of the catalogue of all hosts as this host knows them; one under way here is not yet of it. */
  known(tenant: string): readonly CentralKek[] {
    return this.rows(tenant)
      .filter(({ state, revision }) => revision > (state === 'idle' ? 0 : 1))
      .map(({ version, tokenId, state, revision }) => ({ version, tokenId, state, revision }));
  }

  /** A KEK as the catalogue of all hosts has it now; an older state of it is passed over. */
  take(tenant: string, { version, tokenId, state, revision }: CentralKek): void {
    const known = this.rows(tenant).find((row) => row.version === version);
    if (known !== undefined && known.revision >= revision && known.tokenId === tokenId) return;
    const isOwn = known !== undefined && known.foreign !== true && known.tokenId === tokenId;
    this.put(tenant, { version, tokenId, state, revision, ...(!isOwn && { foreign: true as const }) });
    for (const wake of [...this.#waiters]) wake();
  }

  /** Hands the KEKs in that this host made while it stood alone. */
  async share(tenant: string): Promise<void> {
    for (const { version, tokenId, foreign } of this.live(tenant)) {
      if (foreign === true) continue;
      await this.#central.putKek(tenant, { version, tokenId, state: 'idle', revision: 1 });
      await this.#central.putKek(tenant, { version, tokenId, state: 'live', revision: 2 });
      this.put(tenant, { version, tokenId, state: 'live', revision: 2 });
    }
  }

  protected override async change(tenant: string, kek: Kek): Promise<void> {
    // Here first: what the token makes is known to this host's next start, whatever becomes of the answer.
    if (kek.state === 'idle' && kek.revision === 1) this.put(tenant, kek);
    const { version, tokenId, state, revision } = kek;
    try {
      await this.#central.putKek(tenant, { version, tokenId, state, revision });
    } catch (thrown) {
      const error = asAgentError(thrown);
      if (isDoubtful(error)) this.#doubt(tenant);
      else if (error.code === 'KEY_EXISTS') this.put(tenant, { ...kek, foreign: true, revision: 0 });
      else if (revision === 1) this.drop(tenant, kek);
      throw error;
    }
    const known = this.rows(tenant).find((row) => row.version === version);
    if (known === undefined || known.revision < revision || known.state !== state) this.put(tenant, kek);
  }

  /** Taken out of use everywhere before its object goes. */
  protected override async end(tenant: string, kek: Kek, destroy: () => Promise<void>): Promise<void> {
    try {
      await this.change(tenant, { ...kek, state: 'destroyed', revision: kek.revision + 1 });
      await destroy();
    } catch (thrown) {
      if (asAgentError(thrown).code !== 'KEY_UNKNOWN') throw thrown;
      await destroy(); // it never came to be known there
      this.drop(tenant, kek);
    }
  }

  /** Resolves at the next change of any KEK, or at the signal. */
  #changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#waiters.delete(done);
        signal.removeEventListener('abort', done);
        resolve();
      };
      this.#waiters.add(done);
      signal.addEventListener('abort', done);
      if (signal.aborted) done();
    });
  }
}
