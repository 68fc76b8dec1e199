// The ledger of the fake registry: takes records in order, verifies MACs, the tree and checkpoints, and countersigns.
import { createHmac, generateKeyPairSync, sign, timingSafeEqual } from 'node:crypto';
import { compactDecrypt } from 'jose';
import { decodeAuditRecord, macInput, parseEventId } from '../../proto/documents/audit-record.ts';
import { verifyCheckpoint } from '../../proto/documents/checkpoint.ts';
import { cosign, cosignerText } from '../../proto/documents/cosignature.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { leafHash, rootOf } from '../../proto/documents/merkle.ts';
import type { AppendRequest, AppendResponse, RecordBatch } from '../../proto/gen/mortise/registry/v1/ledger.ts';

interface Log {
  jwk: PublicJwk;
  records: { record: Buffer; mac: Buffer }[];
  checkpoint: string;
}

class Refused extends Error {
  readonly code: string;
  readonly index: number;
  constructor(code: string, index: number, message: string) {
    super(message);
    this.code = code;
    this.index = index;
  }
}

export class FakeLedger {
  readonly logs = new Map<string, Log>();
  readonly #cosigner = generateKeyPairSync('ed25519');
  readonly #sealing = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  readonly #macKeys = new Map<string, Buffer>();
  readonly #waiters: (() => void)[] = [];

  get cosigner(): string {
    return cosignerText('registry.test/cosigner', this.#cosigner.publicKey);
  }

  get sealingJwk(): string {
    return JSON.stringify(this.#sealing.publicKey.export({ format: 'jwk' }));
  }

  /** Operations of a host's log of a tenant, as they stand in its records. */
  operations(host: string, tenant: string): string[] {
    return this.records(host, tenant).map(({ operation }) => operation);
  }

  records(host: string, tenant: string) {
    const prefix = `${host}/${tenant}/`;
    const log = [...this.logs].find(([origin]) => origin.startsWith(prefix))?.[1];
    return (log?.records ?? []).map(({ record }) => decodeAuditRecord(record).record);
  }

  /** Resolves when `fits` holds; looked at after each batch. */
  async until(fits: () => boolean, what: string): Promise<void> {
    const patience = AbortSignal.timeout(30_000);
    while (!fits()) {
      await new Promise<void>((resolve, reject) => {
        this.#waiters.push(resolve);
        patience.addEventListener('abort', () => reject(new Error(`the ledger never had ${what}`)), { once: true });
      });
    }
  }

  async answer(host: string, { item }: AppendRequest): Promise<AppendResponse | undefined> {
    if (item === undefined) return undefined;
    if (item.$case === 'macKey') {
      const { plaintext, protectedHeader } = await compactDecrypt(item.value.jwe, this.#sealing.privateKey);
      if (protectedHeader['mortise'] !== `${host}/${item.value.epoch}`) throw new Error('a MAC key of another host');
      this.#macKeys.set(`${host}/${item.value.epoch}`, Buffer.from(plaintext));
      return undefined;
    }
    const { origin } = item.value;
    try {
      if (item.$case === 'open') return this.#open(host, origin, item.value.publicJwk, Number(item.value.size));
      return this.#take(host, item.value);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      const { code, index, message } = error;
      const size = BigInt(this.logs.get(origin)?.records.length ?? 0);
      return { result: { $case: 'refused', value: { origin, code, index: BigInt(index), size, message } } };
    }
  }

  #open(host: string, origin: string, jwk: string, size: number): AppendResponse {
    if (!origin.startsWith(`${host}/`)) throw new Refused('PERMISSION_DENIED', 0, 'a log of another host');
    const log = this.logs.get(origin) ?? { jwk: JSON.parse(jwk), records: [], checkpoint: '' };
    if (size < log.records.length) throw new Refused('LEDGER_REWOUND', size, 'the host has fewer records');
    this.logs.set(origin, log);
    return this.#acknowledge(origin, log);
  }

  #take(host: string, { origin, from, records, checkpoints }: RecordBatch): AppendResponse {
    const log = this.logs.get(origin);
    if (log === undefined) throw new Refused('PERMISSION_DENIED', 0, 'not open');
    if (Number(from) > log.records.length) throw new Refused('LEDGER_GAP', Number(from), 'a position was left out');
    const next = [...log.records];
    records.forEach(({ record, mac }, offset) => {
      const index = Number(from) + offset;
      const { epoch } = parseEventId(decodeAuditRecord(record).record.eventId);
      const key = this.#macKeys.get(`${host}/${epoch}`);
      if (key === undefined) throw new Refused('LEDGER_UNSEALED', index, 'no MAC key of the epoch');
      const expected = createHmac('sha256', key).update(macInput(record, index)).digest();
      if (!timingSafeEqual(expected, mac)) throw new Refused('LEDGER_EDITED', index, 'the MAC does not fit');
      const known = next[index];
      if (known !== undefined && !known.mac.equals(mac)) throw new Refused('LEDGER_FORKED', index, 'another record');
      next[index] = { record: Buffer.from(record), mac: Buffer.from(mac) };
    });
    let { checkpoint } = log;
    for (const note of checkpoints) {
      const { size, root } = verifyCheckpoint(note, log.jwk);
      const leaves = next.slice(0, size).map((row) => leafHash(Buffer.concat([row.record, row.mac])));
      if (leaves.length !== size || !rootOf(leaves).equals(root))
        throw new Refused('LEDGER_FORKED', size, 'another root');
      const { publicKey, privateKey } = this.#cosigner;
      const seconds = Math.floor(Date.now() / 1000);
      const by = {
        name: 'registry.test/cosigner',
        publicKey,
        seconds,
        sign: (data: Buffer) => sign(null, data, privateKey),
      };
      checkpoint = cosign(note, by);
    }
    Object.assign(log, { records: next, checkpoint });
    const answer = this.#acknowledge(origin, log);
    for (const wake of this.#waiters.splice(0)) setImmediate(wake);
    return answer;
  }

  #acknowledge(origin: string, { records, checkpoint }: Log): AppendResponse {
    return { result: { $case: 'acknowledged', value: { origin, size: BigInt(records.length), checkpoint } } };
  }
}
