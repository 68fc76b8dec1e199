// The last good policy of each scope, the pinned trust anchor, and audit events that are not yet recorded, in LMDB under
// the HMAC envelope. Invariant: what a promise here has resolved for is on disk, and nothing unsealed is ever given out.
import { mkdirSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { open, type RootDatabase } from 'lmdb';
import { PolicyError } from '../../proto/documents/policy-error.ts';
import { type Mac, openRecord, sealRecord } from './envelope.ts';

/** "platform", or "tenant/" and a tenant id. */
export type ScopeKey = 'platform' | `tenant/${string}`;

export interface StoredPolicy {
  readonly scope: ScopeKey;
  readonly version: number;
  /** SHA-256 of the payload in lower-case hex. */
  readonly digest: string;
  /** When it was last verified against its source, in milliseconds since 1970. */
  readonly verifiedAt: number;
  readonly jws: Buffer;
}

export interface PolicyRecord {
  readonly tenant: string;
  readonly principal: string;
  readonly key: string;
  readonly algorithm: string;
  readonly operation: string;
  readonly outcome: string;
  readonly correlationId: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

export interface StoreContents {
  readonly policies: readonly StoredPolicy[];
  /** The bytes of the pinned trust anchor. */
  readonly anchor: Buffer | undefined;
  readonly pending: readonly { readonly id: string; readonly record: PolicyRecord }[];
  readonly tampered: readonly PolicyError[];
}

const POLICY = 'policy/';
const ANCHOR = 'anchor';
const PENDING = 'pending/';
const LEAST_FREE_BYTES = 256 * 1024; // LMDB maps its lock file: touching it on a full disk would be a SIGBUS

const unavailable = (what: string, cause: unknown): PolicyError =>
  new PolicyError('STORE_UNAVAILABLE', '', `the policy store ${what}`, cause);

export class PolicyStore {
  readonly #db: RootDatabase<Buffer, string>;
  readonly #mac: Mac;

  private constructor(db: RootDatabase<Buffer, string>, mac: Mac) {
    this.#db = db;
    this.#mac = mac;
  }

  /** Opens or makes the LMDB environment in `path`. */
  static open({ path, mac }: { path: string; mac: Mac }): PolicyStore {
    try {
      mkdirSync(path, { recursive: true, mode: 0o700 });
      const { bavail, bsize } = statfsSync(path);
      if (bavail * bsize < LEAST_FREE_BYTES) throw new Error('no space left');
      // Written seldom: every commit waits for the disk, so that a version once in force is never forgotten.
      const db = open<Buffer, string>({ path, encoding: 'binary', overlappingSync: false, noSubdir: false });
      return new PolicyStore(db, mac);
    } catch (cause) {
      throw unavailable('cannot be opened', cause);
    }
  }

  /** Everything that verifies; what does not is named in `tampered`. Rejects where the token cannot be asked. */
  async load(): Promise<StoreContents> {
    const policies: StoredPolicy[] = [];
    const pending: { id: string; record: PolicyRecord }[] = [];
    const tampered: PolicyError[] = [];
    let anchor: Buffer | undefined;
    for (const { key, value } of this.#rows()) {
      try {
        if (key === ANCHOR) anchor = (await openRecord(this.#mac, key, value, 1))[0];
        else if (key.startsWith(POLICY)) policies.push(await this.#policy(key, value));
        else if (key.startsWith(PENDING)) pending.push({ id: key, record: await this.#pending(key, value) });
        else tampered.push(new PolicyError('STORE_TAMPERED', key.slice(0, 80), 'no such record is ever stored'));
      } catch (error) {
        if (!(error instanceof PolicyError)) throw error;
        tampered.push(error);
      }
    }
    return { policies, anchor, pending, tampered };
  }

  #rows(): { key: string; value: Buffer }[] {
    try {
      return [...this.#db.getRange()].map(({ key, value }) => ({ key: String(key), value: Buffer.from(value) }));
    } catch (cause) {
      throw unavailable('cannot be read', cause);
    }
  }

  async #policy(key: string, value: Buffer): Promise<StoredPolicy> {
    const fields = await openRecord(this.#mac, key, value, 4);
    const [version, digest, verifiedAt, jws] = fields as [Buffer, Buffer, Buffer, Buffer];
    return {
      scope: key.slice(POLICY.length) as ScopeKey,
      version: Number(version.toString()),
      digest: digest.toString(),
      verifiedAt: Number(verifiedAt.toString()),
      jws,
    };
  }

  async #pending(key: string, value: Buffer): Promise<PolicyRecord> {
    const [json] = (await openRecord(this.#mac, key, value, 1)) as [Buffer];
    return JSON.parse(json.toString()) as PolicyRecord;
  }

  /** Stores a policy and, in the same transaction, the audit event of its coming into force. */
  async savePolicy(policy: StoredPolicy, pending?: { id: string; record: PolicyRecord }): Promise<void> {
    const key = `${POLICY}${policy.scope}`;
    const fields = [String(policy.version), policy.digest, String(policy.verifiedAt), policy.jws];
    await this.#write(key, fields, pending);
  }

  async saveAnchor(bytes: Buffer, pending?: { id: string; record: PolicyRecord }): Promise<void> {
    await this.#write(ANCHOR, [bytes], pending);
  }

  /** The event is in the audit log. */
  recorded(id: string): void {
    this.#change(() => this.#db.removeSync(id));
  }

  /** Synchronous: policies change seldom, and a failed commit is thrown here and nowhere else. */
  #change(write: () => void): void {
    try {
      this.#db.transactionSync(write);
    } catch (cause) {
      throw unavailable('cannot be written', cause);
    }
  }

  async #write(
    key: string,
    fields: readonly (string | Buffer)[],
    pending: { id: string; record: PolicyRecord } | undefined,
  ): Promise<void> {
    // Sealed before the transaction begins: the token may take its time.
    const value = await sealRecord(this.#mac, key, fields);
    const event = pending && {
      id: pending.id,
      value: await sealRecord(this.#mac, pending.id, [JSON.stringify(pending.record)]),
    };
    this.#change(() => {
      this.#db.putSync(key, value);
      if (event !== undefined) this.#db.putSync(event.id, event.value);
    });
    if (this.#db.getBinary(key)?.equals(value) !== true) throw unavailable('lost a write', undefined);
  }

  async close(): Promise<void> {
    await this.#db.close();
  }
}

export const pendingId = (correlationId: string): string => `${PENDING}${correlationId}`;

/** Failures of the token or the disk while storing are reported like any other reason not to take a policy. */
export const asPolicyError = (error: unknown): PolicyError =>
  error instanceof PolicyError
    ? error
    : new PolicyError('STORE_UNAVAILABLE', '', 'the policy could not be stored or loaded', error);

export const storeFolder = (dataDir: string): string => join(dataDir, 'policy');
