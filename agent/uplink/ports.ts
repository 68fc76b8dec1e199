// What the uplink needs of the rest of the agent, as plain types. The assembly joins them to the rooms.

export interface AppliedPolicy {
  /** Tenant, or "_platform". */
  readonly tenant: string;
  readonly version: number;
  /** SHA-256 of the signed payload, lower-case hex. */
  readonly digest: string;
  /** Milliseconds since 1970. */
  readonly since: number;
}

export interface PoliciesSink {
  /** What is in force, to be told to the registry, which leaves it out where it is the newest. */
  applied(): readonly AppliedPolicy[];
  /**
   * What the registry has newly published. `upToDate`: with these, the agent has the newest of everything, which renews
   * the lease of what is in force. Never rejects: what is refused is the policy room's to report.
   */
  receive(update: {
    readonly policies: readonly { readonly tenant: string; readonly jws: Buffer }[];
    readonly upToDate: boolean;
  }): Promise<void>;
}

/** Where a tenant's changes stand; the head is a hash over all of them. */
export interface Position {
  readonly tenant: string;
  readonly position: number;
  readonly head: Buffer;
}

/** One change of the catalogue. */
export type EntryChange =
  | { readonly kind: 'key'; readonly bytes: Buffer }
  | {
      readonly kind: 'kek';
      readonly kek: {
        readonly version: number;
        /** CKA_ID in lower-case hex. */
        readonly tokenId: string;
        readonly state: 'live' | 'idle' | 'destroyed';
        readonly revision: number;
      };
    };

/** Uses of one version of a key with a hard limit. */
export interface KnownUses {
  readonly keyId: string;
  readonly version: number;
  /** Made here, and those that are left of a slice. */
  readonly made: number;
  /** Leased to all hosts, as last heard. */
  readonly leased: number;
}

/** The local replica of the catalogue. */
export interface CatalogSink {
  /** Of every tenant of this host; position 0 where nothing was applied yet. */
  positions(): readonly (Position & { readonly rebuild?: string })[];
  /** A stream begins: what it will say is newer than every answer that was lost before. */
  opened(): void;
  /** Throws where a change cannot be applied; then none after it is. */
  apply(
    tenant: string,
    update: {
      readonly changes: readonly EntryChange[];
      /** Where the replica is once these are applied; undefined inside of a snapshot. */
      readonly at: Position | undefined;
      readonly inSnapshot: boolean;
      readonly isFirst: boolean;
      /** The replica now has everything that the registry has. */
      readonly isComplete: boolean;
    },
  ): void;
  rewound(tenant: string, event: { readonly registry: number; readonly reason: string }): void;
  /** The registry rebuilds the catalogue: everything that this host knows of it. */
  known(tenant: string): { readonly changes: readonly EntryChange[]; readonly uses: readonly KnownUses[] };
  /** What the token holds that no record of this host names, and every KEK. Rejects where the token does not answer. */
  found(tenant: string, signal: AbortSignal): Promise<readonly FoundObject[]>;
  /** It was told; `conflicts` names what other hosts know otherwise. */
  told(tenant: string, event: CatalogTold): void;
  /** It was rebuilt; the snapshot that follows is taken if it has everything that this host knows. */
  rebuilt(tenant: string, rebuild: string): void;
}

/** A key object of the token, as its label and its attributes say. */
export interface FoundObject {
  readonly kind: 'key' | 'kek';
  /** Key id, or the version of a KEK. */
  readonly name: string;
  readonly version: number;
  readonly tokenId: string;
  readonly jose: string;
  readonly algorithm: string;
  readonly purpose?: string;
  readonly imported: boolean;
  readonly publicJwk?: Readonly<Record<string, string>>;
  /** Why no version can be made of it. */
  readonly fault?: string;
}

export interface CatalogTold {
  readonly entries: number;
  readonly conflicts: readonly string[];
  /** Objects of the token that were told of. */
  readonly objects: number;
  /** Why the token was not looked into; empty where it was. */
  readonly tokenUnread: string;
}

/** Health of a part of the agent. */
export interface PartHealth {
  readonly part: string;
  readonly healthy: boolean;
  readonly detail: string;
}

export interface LedgerRecordBytes {
  /** Canonical form with detail. */
  readonly record: Buffer;
  readonly mac: Buffer;
  readonly epoch: number;
}

export interface LedgerLog {
  readonly tenant: string;
  readonly origin: string;
  readonly size: number;
  /** Records that the registry has acknowledged. */
  readonly acknowledged: number;
}

/** The audit log, as it is handed in. */
export interface LedgerSource {
  logs(): readonly LedgerLog[];
  log(tenant: string): LedgerLog | undefined;
  readonly publicJwk: string;
  /** Records from a position on, bounded in number and bytes. Rejects where one of them does not verify. */
  read(tenant: string, from: number): Promise<readonly LedgerRecordBytes[]>;
  /** Signed checkpoints of sizes above `after` up to `upTo`, in order, the first few. */
  checkpoints(tenant: string, after: number, upTo: number): readonly { readonly size: number; readonly text: string }[];
  /** The MAC key of an epoch as a JWE to the registry's key. */
  sealedMacKey(epoch: number): Promise<string>;
  /** The registry has the records below `size`; `checkpoint` is countersigned, or empty. Rejects where it is no good. */
  acknowledge(tenant: string, size: number, checkpoint: string): Promise<void>;
  /** Calls back when a log has grown or has a new checkpoint; gives back what stops it. */
  onChange(listener: (tenant: string) => void): () => void;
}

/** What is asked of a token's session budget. */
export interface SessionQuestion {
  readonly label: string;
  readonly serial: string;
  /** Of the token on this host. */
  readonly name: string;
  readonly held: number;
  readonly grant: number;
  readonly wanted: number;
  readonly fallback: number;
}

export interface SessionAnswer {
  readonly share: number;
  readonly grant: number;
  readonly leaseSeconds: number;
  readonly total: number;
  readonly hosts: number;
}

/** A token whose sessions the registry may divide among hosts. */
export interface SharedToken {
  readonly isLimited: boolean;
  /** The clock that leases are counted by. */
  now(): number;
  /** Undefined until the token has said who it is, and once it was left. */
  question(): SessionQuestion | undefined;
  /** The last question: nothing is asked behind it, which would lease anew what is given back. */
  leave(): SessionQuestion | undefined;
  /** Undefined: it has no budget. `asked` is when the question was asked. */
  answered(answer: SessionAnswer | undefined, asked: number): void;
}

export interface HostState {
  readonly policies: readonly AppliedPolicy[];
  readonly catalogs: readonly { readonly tenant: string; readonly position: number }[];
  readonly backlogs: readonly { readonly tenant: string; readonly records: number }[];
  readonly parts: readonly PartHealth[];
}

/** Called as things happen; never throw. */
export interface UplinkEvents {
  connected(event: { address: string; replica: string; milliseconds: number }): void;
  disconnected(event: { address: string; code: string; reason: string; waitMs: number }): void;
  /** The registry has cut this host off. */
  revoked(event: { reason: string }): void;
  renewed(event: { expireAt: number }): void;
  renewFailed(event: { cause: unknown; expireAt: number }): void;
  /** The clocks of host and registry differ by more than certificates and records bear. */
  clockDiffers(event: { seconds: number }): void;
  /** One of the streams failed and is opened again. */
  streamFailed(event: { stream: string; code: string; reason: string }): void;
  /** The registry refuses a log: code, position and its words. */
  ledgerRefused(event: { tenant: string; code: string; index: number; reason: string }): void;
  /** The registry has fewer records than it has acknowledged before: it was taken back. */
  ledgerRewound(event: { tenant: string; acknowledged: number; size: number }): void;
  ledgerAcknowledged(event: { tenant: string; records: number }): void;
  /** The registry's catalogue of a tenant is not the one that this host knows. */
  catalogRewound(event: { tenant: string; position: number; registry: number; reason: string }): void;
  /** This host has told the registry, which rebuilds its catalogue, what it knows. */
  catalogTold(event: CatalogTold & { tenant: string }): void;
  /** The rebuilt catalogue has all that this host knows, and is in force here. */
  catalogRebuilt(event: { tenant: string; position: number; rebuild: string }): void;
}

export interface UplinkState {
  readonly connected: boolean;
  readonly revoked: boolean;
  /** One sentence for people. */
  readonly detail: string;
  /** Milliseconds since 1970; undefined before the first certificate was read. */
  readonly certificateExpireAt: number | undefined;
}
