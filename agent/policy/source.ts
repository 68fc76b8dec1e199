// Where policies come from: the folder of an agent that stands alone, or what a registry publishes. A source is believed
// in nothing; what it gives is judged by the intake, the same way whatever the source.
import { dirname, join } from 'node:path';
import { PolicyError } from '../../proto/documents/policy-error.ts';
import { PLATFORM_TENANT } from '../../proto/documents/policy-types.ts';
import { TRUST_ANCHOR_LIMIT_BYTES } from '../../proto/documents/trust-anchor.ts';
import type { Clock } from '../clock.ts';
import { type PolicyFile, type PolicyFiles, readPolicyFile, readPolicyFiles } from './loader.ts';
import type { ScopeKey } from './store.ts';

export interface SourceFiles extends PolicyFiles {
  /** Until when the source vouches for what it gives: leases count from here. 0: it does not. */
  readonly confirmedAt: number;
}

export interface PolicySource {
  /** `inForce` has the bytes of each policy in force, for a source that tells only what is new. */
  read(inForce: ReadonlyMap<ScopeKey, { readonly jws: Buffer }>): Promise<SourceFiles>;
  /** Folders whose changes are worth a look. */
  readonly folders: readonly string[];
  /** Tenants that may be served here; undefined: all that the platform policy has. */
  tenants(): ReadonlySet<string> | undefined;
}

export const folderSource = (options: {
  readonly dir: string;
  readonly trustAnchor: string;
  readonly clock: Clock;
}): PolicySource => {
  const { dir, trustAnchor, clock } = options;
  return {
    read: async () => ({ ...(await readPolicyFiles({ dir, trustAnchor })), confirmedAt: clock.now() }),
    folders: [dir, join(dir, 'tenants'), dirname(trustAnchor)],
    tenants: () => undefined,
  };
};

/** Policies of a registry, as its watch brings them. The trust anchor stays a file of this host. */
export class PublishedPolicies implements PolicySource {
  readonly folders: readonly string[];
  readonly #trustAnchor: string;
  readonly #clock: Clock;
  readonly #received = new Map<ScopeKey, Buffer>();
  #confirmedAt = 0;
  #tenants: ReadonlySet<string>;

  constructor(options: {
    readonly trustAnchor: string;
    readonly clock: Clock;
    /** Tenants that the host was enrolled for. */
    readonly tenants: readonly string[];
  }) {
    this.#trustAnchor = options.trustAnchor;
    this.#clock = options.clock;
    this.#tenants = new Set(options.tenants);
    this.folders = [dirname(options.trustAnchor)];
  }

  tenants(): ReadonlySet<string> {
    return this.#tenants;
  }

  assign(tenants: readonly string[]): void {
    this.#tenants = new Set(tenants);
  }

  /** True where a round of reading is due: a policy comes into force only with all that belong to it. */
  receive(update: {
    readonly policies: readonly { readonly tenant: string; readonly jws: Buffer }[];
    readonly upToDate: boolean;
  }): boolean {
    for (const { tenant, jws } of update.policies) this.#received.set(scopeOf(tenant), jws);
    if (update.upToDate) this.#confirmedAt = this.#clock.now();
    return update.upToDate;
  }

  async read(inForce: ReadonlyMap<ScopeKey, { readonly jws: Buffer }>): Promise<SourceFiles> {
    const anchor = await readPolicyFile({
      path: this.#trustAnchor,
      name: 'trust-anchor.json',
      limit: TRUST_ANCHOR_LIMIT_BYTES,
      owned: true,
    });
    const tenants = new Map<string, PolicyFile>();
    for (const scope of new Set([...inForce.keys(), ...this.#received.keys()])) {
      if (scope !== 'platform') tenants.set(scope.slice('tenant/'.length), this.#file(scope, inForce));
    }
    return { anchor, platform: this.#file('platform', inForce), tenants, strays: [], confirmedAt: this.#confirmedAt };
  }

  #file(scope: ScopeKey, inForce: ReadonlyMap<ScopeKey, { readonly jws: Buffer }>): PolicyFile {
    const bytes = this.#received.get(scope) ?? inForce.get(scope)?.jws;
    if (bytes !== undefined) return { bytes };
    return { error: new PolicyError('FILE_MISSING', scope, 'the registry has not brought one yet') };
  }
}

const scopeOf = (tenant: string): ScopeKey => (tenant === PLATFORM_TENANT ? 'platform' : `tenant/${tenant}`);
