// What CatalogService needs of the rooms, as plain interfaces that they fit by structure.

export type Actor = { readonly kind: 'host' | 'admin'; readonly name: string };
export type EntryKind = 'key' | 'kek';

export interface EntryName {
  readonly kind: EntryKind;
  readonly name: string;
}

export interface Position {
  readonly position: number;
  readonly head: Buffer;
}

/** An entry as the wire has it. */
export type CatalogItem =
  | { readonly kind: 'key'; readonly record: Buffer }
  | {
      readonly kind: 'kek';
      readonly kek: {
        readonly version: number;
        readonly tokenId: Buffer;
        readonly state: 'IDLE' | 'LIVE' | 'DESTROYED';
        readonly revision: number;
      };
    };

export interface EntryRow extends EntryName, Position {
  /** The serialized CatalogEntry. */
  readonly entry: Buffer;
  readonly host: string;
  readonly changedAt: number;
}

export type FollowStep =
  | {
      readonly kind: 'snapshot';
      readonly rows: readonly EntryRow[];
      readonly begins: boolean;
      readonly ends?: Position;
    }
  | { readonly kind: 'changes'; readonly rows: readonly EntryRow[]; readonly at: Position; readonly caughtUp: boolean }
  | { readonly kind: 'rewound'; readonly at: Position }
  | { readonly kind: 'rebuilt'; readonly id: string; readonly open: boolean };

export interface CatalogPort {
  put(offer: {
    readonly tenant: string;
    readonly host: string;
    readonly item: CatalogItem;
    readonly entry: Buffer;
    readonly expectedRevision: number;
  }): Promise<Position>;
  get(actor: Actor, tenant: string, name: EntryName): Promise<EntryRow>;
  list(
    actor: Actor,
    tenant: string,
    query: { readonly kind?: EntryKind; readonly after?: EntryName; readonly limit: number },
  ): Promise<{ readonly rows: readonly EntryRow[]; readonly at: Position }>;
  follow(
    actor: Actor,
    tenant: string,
    from: Position & { readonly rebuild?: string },
    signal: AbortSignal,
  ): AsyncIterable<FollowStep>;
  lease(
    tenant: string,
    request: {
      readonly id: string;
      readonly host: string;
      readonly keyId: string;
      readonly version: number;
      readonly wanted: number;
    },
  ): Promise<{ readonly granted: number; readonly leased: number; readonly hardUses: number }>;
  endLease(end: { readonly id: string; readonly host: string; readonly unused: number }): Promise<void>;
}

export interface Arrival {
  readonly applied: readonly string[];
  readonly missing: readonly {
    readonly host: string;
    readonly position: number;
    readonly connected: boolean;
    readonly lastSeen: number | undefined;
  }[];
}

/** Which hosts have applied a position, until none is missing. */
export type WaitForHosts = (
  target: { readonly tenant: string; readonly position: number },
  signal: AbortSignal,
) => AsyncIterable<Arrival>;

export interface PlainConflict extends EntryName {
  readonly reason: string;
}

export interface PlainFinding extends EntryName {
  readonly versions: readonly number[];
  readonly outcome: 'RECREATED' | 'ADDED' | 'RESERVED' | 'LOST' | 'LEFT';
  readonly reason: string;
}

/** A key object of the token, as a host found it. */
export interface PlainObject extends EntryName {
  readonly version: number;
  readonly tokenId: string;
  readonly jose: string;
  readonly algorithm: string;
  readonly purpose?: 'encrypt' | 'sign' | 'mac';
  readonly imported: boolean;
  readonly publicJwk?: Readonly<Record<string, string>>;
  readonly fault?: string;
}

/** A rebuild of a tenant's catalogue. */
export interface PlainRebuild {
  readonly row: {
    readonly id: string;
    readonly openedBy: string;
    readonly openedAt: number;
    readonly expiresAt: number;
    readonly endedAt?: number;
  };
  readonly state: 'OPEN' | 'EXPIRED' | 'ENDED';
  readonly offers: readonly {
    readonly host: string;
    readonly complete: boolean;
    readonly entries: number;
    readonly stored: number;
    readonly conflicts: readonly PlainConflict[];
    readonly objects?: readonly unknown[];
    readonly tokenUnread?: string;
  }[];
  readonly missing: readonly string[];
  readonly findings: readonly PlainFinding[];
}

export interface RebuildsPort {
  begin(tenant: string, admin: string, seconds: number): Promise<PlainRebuild>;
  state(tenant: string, reader: Actor): Promise<PlainRebuild>;
  end(tenant: string, admin: string, acceptMissing: boolean): Promise<PlainRebuild>;
  offer(
    tenant: string,
    page: {
      readonly host: string;
      readonly rebuild: string;
      readonly entries: readonly { readonly item: CatalogItem; readonly entry: Buffer }[];
      readonly uses: readonly {
        readonly keyId: string;
        readonly version: number;
        readonly made: number;
        readonly leased: number;
      }[];
      readonly complete: boolean;
      readonly objects: readonly PlainObject[];
      readonly tokenUnread: string;
    },
  ): Promise<{ readonly stored: number; readonly conflicts: readonly PlainConflict[] }>;
}
