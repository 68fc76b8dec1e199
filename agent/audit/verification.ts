// The pieces of a verification: where it reads, what it collects, which MAC keys it has.
import type { KeyObject } from 'node:crypto';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { HEAD_TAG_BYTES } from './head-list.ts';
import type { MacKeyOf } from './mac-keys.ts';
import { type HostHead, macFits, type Sealed, type TenantHead } from './rows.ts';
import { type Finding, type FindingCode, MAX_FINDINGS } from './types.ts';

export interface AuditSource {
  get(key: Buffer): Buffer | undefined;
  /** Keys that begin with `prefix`, in order. */
  keys(prefix: Buffer): Iterable<Buffer>;
}

export interface VerifyOptions {
  readonly source: AuditSource;
  /** Absent, or rejecting, where MAC keys cannot be had: then structure and signatures alone are verified. */
  readonly macKeyOf?: MacKeyOf;
  /** The pinned public key of checkpoints; without it each is verified by the key stored beside it. */
  readonly checkpointKey?: PublicJwk;
  /** Checkpoints that the auditor kept. The log must be an extension of each. */
  readonly trusted?: readonly string[];
  /** Only these tenants; all where absent. */
  readonly tenants?: readonly string[];
  onProgress?(progress: { tenant: string; verified: number; size: number }): void;
}

/** Collects findings: all are counted, the first of them kept. */
export class Findings {
  readonly kept: Finding[] = [];
  count = 0;

  add(code: FindingCode, tenant: string, index: number, message: string): void {
    this.count += 1;
    if (this.kept.length < MAX_FINDINGS) this.kept.push({ code, tenant, index, message });
  }
}

/** MAC keys as far as they can be had, asked for once each. */
export class MacCheck {
  complete = true;
  readonly #macKeyOf: MacKeyOf | undefined;
  readonly #keys = new Map<number, KeyObject | undefined>();

  constructor(macKeyOf: MacKeyOf | undefined) {
    this.#macKeyOf = macKeyOf;
  }

  /** True where the MAC fits, false where it does not, undefined where the key cannot be had. */
  async fits(epoch: number, body: Uint8Array, mac: Uint8Array): Promise<boolean | undefined> {
    if (!this.#keys.has(epoch)) {
      const key = await this.#macKeyOf?.(epoch).catch(() => undefined); // said by `complete`
      this.#keys.set(epoch, key);
    }
    const key = this.#keys.get(epoch);
    if (key === undefined) this.complete = false;
    return key && macFits(key, body, mac);
  }
}

/** What a live log said of itself in one moment. */
export interface Snapshot {
  readonly tenant: string;
  readonly host: HostHead | undefined;
  readonly head: Sealed<TenantHead> | undefined;
  /** Why there is no usable head. */
  readonly headless?: string;
  /** A record stands right behind the end. */
  readonly beyond: boolean;
}

/** Whether the host's head names this head of the tenant; undefined where there is no host head to ask. */
export const isNamedByHost = ({ tenant, host, head }: Snapshot): boolean | undefined =>
  host && head && (host.heads.get(tenant)?.equals(head.mac.subarray(0, HEAD_TAG_BYTES)) ?? false);
