// A host as the ledger sees it: records with real MACs in a real tree, checkpoints that it signs, MAC keys that it seals.
import { createHmac, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import { CompactEncrypt, calculateJwkThumbprint, type JWK } from 'jose';
import { type AuditRecord, encodeAuditRecord, macInput } from '../../proto/documents/audit-record.ts';
import { signCheckpoint } from '../../proto/documents/checkpoint.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { Frontier, leafHash } from '../../proto/documents/merkle.ts';
import type { Batch, RecordBytes } from '../../registry/ledger/verify-batch.ts';

export class LedgerHost {
  readonly host: string;
  readonly tenant: string;
  readonly origin: string;
  readonly publicJwk: PublicJwk;
  readonly records: RecordBytes[] = [];
  readonly macKey: Buffer;
  readonly epoch: number;
  readonly #key: KeyObject;
  readonly #frontier = new Frontier();
  readonly #roots: Buffer[] = [new Frontier().root()];

  constructor(options: { host?: string; tenant?: string; epoch?: number; of?: LedgerHost } = {}) {
    const { host = 'h-1', tenant = 'acme', epoch = 1_764_000_000, of } = options;
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    this.host = host;
    this.tenant = tenant;
    this.epoch = epoch;
    this.origin = `${host}/${tenant}/${epoch}`;
    this.#key = of === undefined ? privateKey : of.#key;
    this.publicJwk = of?.publicJwk ?? (publicKey.export({ format: 'jwk' }) as PublicJwk);
    this.macKey = of?.macKey ?? randomBytes(32);
  }

  get jwk(): string {
    return JSON.stringify(this.publicJwk);
  }

  /** Adds a record; what `change` says may be wrong. */
  add(change: Partial<AuditRecord> = {}): RecordBytes {
    const index = this.records.length;
    const bytes = encodeAuditRecord({
      tenant: this.tenant,
      principal: 'svc',
      key: 'invoices/1',
      algorithm: 'A256GCMKW',
      operation: 'encrypt',
      outcome: 'ok',
      time: `2026-11-24T00:00:00.${String(index).padStart(6, '0')}Z`,
      correlationId: `c-${index}`,
      eventId: `${this.host}/${this.epoch}/${index + 1}`,
      detail: '',
      ...change,
    });
    const mac = createHmac('sha256', this.macKey).update(macInput(bytes, index)).digest();
    return this.#push({ record: bytes, mac });
  }

  fill(count: number): this {
    for (let at = 0; at < count; at += 1) this.add();
    return this;
  }

  /** The same host with its log taken back to a size. */
  takenBack(size: number): LedgerHost {
    const back = new LedgerHost({ host: this.host, tenant: this.tenant, epoch: this.epoch, of: this });
    for (const row of this.records.slice(0, size)) back.#push(row);
    return back;
  }

  batch(from: number, to = this.records.length, checkpoints: readonly string[] = []): Batch {
    return { origin: this.origin, from, records: this.records.slice(from, to), checkpoints };
  }

  checkpoint(size = this.records.length, root = this.#roots[size] as Buffer): Promise<string> {
    const checkpoint = { origin: this.origin, size, root };
    return signCheckpoint(checkpoint, this.publicJwk, async (data) => sign(null, data, this.#key));
  }

  async sealedMacKey(
    recipient: KeyObject,
    { key = this.macKey, name = `${this.host}/${this.epoch}` } = {},
  ): Promise<string> {
    const jwk = recipient.export({ format: 'jwk' }) as JWK;
    const kid = await calculateJwkThumbprint(jwk);
    return new CompactEncrypt(key)
      .setProtectedHeader({ alg: 'ECDH-ES+A256KW', enc: 'A256GCM', kid, mortise: name })
      .encrypt(recipient);
  }

  #push(row: RecordBytes): RecordBytes {
    this.records.push(row);
    this.#frontier.append(leafHash(Buffer.concat([row.record, row.mac])));
    this.#roots.push(this.#frontier.root());
    return row;
  }
}
