// What the audit room offers and what it needs of others, as plain types. No behaviour.
import type { AuditRecord } from '../../proto/documents/audit-record.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import type { Clock } from '../clock.ts';
import type { Handover } from './handover.ts';
import type { ReceiptQuery } from './receipts.ts';

/** What an operation reports; index, time and event id are the log's to give. */
export interface AuditEntry {
  readonly tenant: string;
  readonly principal: string;
  readonly key: string;
  readonly algorithm: string;
  readonly operation: string;
  readonly outcome: string;
  readonly correlationId: string;
  readonly detail?: Readonly<Record<string, unknown>>;
}

export type Durability = 'committed' | 'flushed';

/** The two token keys of the log. Wrapping is authenticated: `unwrap` fails on any other bytes or associated data. */
export interface AuditToken {
  wrap(plaintext: Buffer, associatedData: Buffer): Promise<Buffer>;
  unwrap(wrapped: Buffer, associatedData: Buffer): Promise<Buffer>;
  /** Ed25519 over `data`, or ECDSA P-256 (r || s) over its SHA-256, by the key of `publicJwk`. */
  sign(data: Buffer): Promise<Buffer>;
  readonly publicJwk: PublicJwk;
}

/** Called as things happen; never throw. */
export interface AuditEvents {
  opened(event: { generation: number; epoch: number; tenants: number; records: number; created: boolean }): void;
  committed(event: { records: number; tenants: number; milliseconds: number }): void;
  failed(event: { records: number; cause: unknown }): void;
  backlog(event: { waiting: number }): void;
  size(event: { usedBytes: number; limitBytes: number }): void;
  checkpointSigned(event: { tenant: string; size: number }): void;
  checkpointFailed(event: { tenant: string; cause: unknown }): void;
  corrupt(event: { tenant: string; index: number; message: string }): void;
}

export interface AuditLimits {
  /** The store grows no larger than this. */
  readonly mapSize: number;
  /** Appends stop when less than this is left of the map or the disk; closing and checkpoints may use it up. */
  readonly reserveBytes: number;
  /** Size of each of the two journal files, claimed at the first start. */
  readonly journalBytes: number;
  /** A checkpoint is signed after this many new records of a tenant, or this long after the first of them. */
  readonly checkpointRecords: number;
  readonly checkpointSeconds: number;
  /** Appends that may wait for a commit; more are refused. */
  readonly maxWaiting: number;
}

export interface AuditLogOptions {
  /** Folder of the LMDB environment; made with mode 0700 where it does not exist. */
  readonly path: string;
  readonly host: string;
  readonly clock: Clock;
  durability(tenant: string): Durability;
  readonly token: AuditToken;
  readonly events: AuditEvents;
  readonly limits?: Partial<AuditLimits>;
}

/** The factory `openAuditLog` of log.ts. Rejects with HSM_* where the token is away, AUDIT_UNAVAILABLE where the store is. */
export type OpenAuditLog = (options: AuditLogOptions) => Promise<AuditLog>;

export interface StoredRecord {
  /** Position in the tenant's log, from 0. */
  readonly index: number;
  readonly record: AuditRecord;
  /** The nine fields as MACed and hashed; `detail` follows them as a tenth (docs/spec/audit.md section 3). */
  readonly canonical: Buffer;
  readonly mac: Buffer;
}

export interface SignedCheckpoint {
  /** C2SP signed note. */
  readonly text: string;
  readonly size: number;
  readonly root: Buffer;
  /** Milliseconds since 1970. */
  readonly signedAt: number;
  readonly publicJwk: PublicJwk;
}

/** What proves to anybody that a record is in the log. */
export interface AuditReceipt {
  /** C2SP tlog-proof. */
  readonly proof: string;
  /** Canonical form with detail. */
  readonly record: Buffer;
  readonly mac: Buffer;
  /** Key of the checkpoint in the proof. */
  readonly publicJwk: PublicJwk;
  readonly countersigned: boolean;
}

export type FindingCode =
  | 'RECORD_EDITED'
  | 'RECORD_MISSING'
  | 'RECORD_REORDERED'
  | 'LOG_TRUNCATED'
  | 'CHECKPOINT_INVALID'
  | 'LOG_FORKED';

export interface Finding {
  readonly code: FindingCode;
  readonly tenant: string;
  readonly index: number;
  readonly message: string;
}

export interface Verification {
  readonly intact: boolean;
  /** False where some MAC key could not be unwrapped: then only structure and signatures were verified. */
  readonly macsVerified: boolean;
  readonly tenants: readonly TenantVerification[];
  /** At most MAX_FINDINGS, in order of tenant and position; `findingCount` has them all. */
  readonly findings: readonly Finding[];
  readonly findingCount: number;
}

export interface TenantVerification {
  readonly tenant: string;
  /** Records verified. */
  readonly size: number;
  readonly root: Buffer;
  readonly checkpoints: number;
  readonly newestCheckpoint?: { readonly size: number; readonly signedAt: number };
}

export interface AuditHealth {
  readonly ok: boolean;
  /** Records are taken, but for those of tenants whose log does not verify. */
  readonly writable: boolean;
  /** One sentence for people, where not ok. */
  readonly why?: string;
  /** Where the log goes on but something is late: checkpoints wait for the token. */
  readonly degraded?: string;
  /** Tenants whose log does not verify; they take no more records. */
  readonly corrupt: readonly string[];
}

export interface AuditLog {
  /** Resolves with the event id when the record is as durable as policy asks. AUDIT_UNAVAILABLE, or AUDIT_CORRUPT. */
  append(entry: AuditEntry): Promise<string>;
  /** Records from a position, oldest first, each MAC verified; `newest` gives the last `limit` instead. AUDIT_CORRUPT names the first bad position. */
  list(
    tenant: string,
    query: { readonly from?: number; readonly limit: number; readonly newest?: boolean },
  ): Promise<StoredRecord[]>;
  /** Records from a position on, and then as they are committed, until the signal aborts or the log closes. */
  tail(tenant: string, query: { readonly from: number; readonly signal: AbortSignal }): AsyncIterable<StoredRecord[]>;
  /** Committed records of the tenant. */
  size(tenant: string): number;
  tenants(): readonly string[];
  /** The newest checkpoint; a new one is signed first where there are records that it does not cover. */
  checkpoint(tenant: string): Promise<SignedCheckpoint>;
  /** Proof that a record is in the log. RECORD_UNKNOWN; RECEIPT_PENDING where no checkpoint covers it in time. */
  receipt(tenant: string, query: ReceiptQuery): Promise<AuditReceipt>;
  /** Verifies the tenant's whole log, and that it extends a checkpoint the caller kept. */
  verify(tenant: string, trustedCheckpoint?: string): Promise<Verification>;
  /** Called with the tenant and its new size after each commit; must not throw. Answers with the function that ends it. */
  onAppend(listener: (tenant: string, size: number) => void): () => void;
  /** What a registry is handed. Rejects where the log takes no records. */
  handover(cosigner: () => string | undefined): Promise<Handover>;
  health(): AuditHealth;
  readonly publicJwk: PublicJwk;
  /** True where the store was made at this start: a first start, or the folder was moved aside. */
  readonly created: boolean;
  /** Commits what waits, signs last checkpoints, closes the store. */
  close(): Promise<void>;
}

export const DEFAULT_LIMITS: AuditLimits = {
  mapSize: 64 * 2 ** 30, // some 150 million records; the disk is mostly smaller
  reserveBytes: 16 * 2 ** 20,
  journalBytes: 8 * 2 ** 20, // at 15,000 records a second, half a second of a disk that does not answer
  checkpointRecords: 1000,
  checkpointSeconds: 60,
  maxWaiting: 65_536,
};
export const MAX_FINDINGS = 100;
