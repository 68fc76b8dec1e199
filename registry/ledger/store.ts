// What this room needs of the store: the logs of one tenant, and the sealed MAC keys of hosts. Invariant: a log grows by
// whole batches only, each on top of the state that it was verified against; nothing of it is changed or removed.

/** A log and where it stands. */
export interface LogRow {
  /** "<host>/<tenant>/<generation>". */
  readonly origin: string;
  readonly host: string;
  /** Public JWK of the host's checkpoints, pinned when the log was opened. */
  readonly publicJwk: string;
  readonly size: number;
  /** Roots of the complete subtrees, largest first. */
  readonly frontier: readonly Buffer[];
  /** Event id of the last record. */
  readonly lastEpoch: number;
  readonly lastSequence: number;
  /** The newest countersigned checkpoint, and its size. */
  readonly checkpoint: string;
  readonly checkpointSize: number;
  readonly lastIngestAt?: number;
  /** The last refusal since the last record: code, then a sentence. */
  readonly refusal: string;
  /** From 1, plus one with each change: the value for compare-and-set. */
  readonly revision: number;
}

export interface RecordRow {
  readonly index: number;
  /** Canonical form with detail. */
  readonly record: Buffer;
  readonly mac: Buffer;
  /** Milliseconds since 1970, UTC. */
  readonly ingestedAt: number;
}

/** What records are found by; taken from the record. */
export interface RecordFacts {
  readonly time: string;
  /** "<key id>/<version>", "<key id>" or "-". */
  readonly key: string;
  readonly principal: string;
  readonly operation: string;
  readonly outcome: string;
  readonly correlationId: string;
  /** "<epoch>/<sequence>". */
  readonly event: string;
}

/** Root of the complete subtree of 256^level leaves that begins at leaf index * 256^level. */
export interface TreeNode {
  readonly level: number;
  readonly index: number;
  readonly hash: Buffer;
}

export interface CheckpointRow {
  readonly size: number;
  /** With countersignature. */
  readonly text: string;
}

export interface LogAppend {
  /** The log afterwards; the stored revision must be one less, or the log not be there where it is 1. */
  readonly log: LogRow;
  readonly records: readonly { readonly row: RecordRow; readonly facts: RecordFacts }[];
  readonly nodes: readonly TreeNode[];
  readonly checkpoints: readonly CheckpointRow[];
}

export interface RecordQuery {
  /** RFC 3339 with microseconds, as in records: from, and before. */
  readonly fromTime?: string;
  readonly toTime?: string;
  /** A key id, or "<key id>/<version>". */
  readonly key?: string;
  readonly principal?: string;
  readonly operation?: string;
  readonly outcome?: string;
  readonly correlationId?: string;
  readonly host?: string;
  readonly after?: { readonly origin: string; readonly index: number };
  readonly limit: number;
}

/** Of one tenant. Fails with PERMISSION_DENIED where the handle's actor may not act for the tenant, or STORE_UNAVAILABLE. */
export interface LedgerStore {
  log(origin: string): Promise<LogRow | undefined>;
  /** By origin. */
  logs(query: { readonly host?: string; readonly after?: string; readonly limit: number }): Promise<readonly LogRow[]>;
  /** All of it or nothing. False where the log was changed meanwhile. Durable when it resolves. */
  append(append: LogAppend): Promise<boolean>;
  /** From a position on, in order, at most `limit`. */
  records(query: {
    readonly origin: string;
    readonly from: number;
    readonly limit: number;
  }): Promise<readonly RecordRow[]>;
  /** In order of origin and position. */
  query(query: RecordQuery): Promise<readonly (RecordRow & { readonly origin: string })[]>;
  /** Where an event of a host is. */
  locate(event: {
    readonly host: string;
    readonly event: string;
  }): Promise<{ readonly origin: string; readonly index: number } | undefined>;
  nodes(query: {
    readonly origin: string;
    readonly level: number;
    readonly from: number;
    readonly limit: number;
  }): Promise<readonly TreeNode[]>;
  /** Checkpoints of at least this size, smallest first. */
  checkpoints(query: {
    readonly origin: string;
    readonly from: number;
    readonly limit: number;
  }): Promise<readonly CheckpointRow[]>;
}

/** MAC keys, as sealed to the registry; they belong to hosts, not to tenants. */
export interface MacKeyStore {
  macKey(host: string, epoch: number): Promise<string | undefined>;
  /** Answers the one that is there afterwards: the one before, where there was one. */
  insertMacKey(host: string, epoch: number, jwe: string): Promise<string>;
}
