// A real audit log in a folder of its own, over a token made of node:crypto keys: the log needs AES-GCM and a signature
// of it, and what the module under SoftHSM does with them is the token room's to test.
import { createCipheriv, createDecipheriv, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { openAuditLog } from '../../../agent/audit/log.ts';
import type { AuditEntry, AuditEvents, AuditLog, AuditLogOptions, AuditToken } from '../../../agent/audit/types.ts';
import type { PublicJwk } from '../../../proto/documents/key-record.ts';

export interface TestToken extends AuditToken {
  /** Set to make the next calls fail. */
  broken: Error | undefined;
  readonly calls: { wrap: number; unwrap: number; sign: number };
}

export const createToken = (
  kind: 'Ed25519' | 'EC-P256' = 'Ed25519',
  wrapKey: Buffer = randomBytes(32),
  pair: { privateKey: KeyObject; publicKey: KeyObject } = kind === 'Ed25519'
    ? generateKeyPairSync('ed25519')
    : generateKeyPairSync('ec', { namedCurve: 'P-256' }),
): TestToken => {
  const { privateKey, publicKey } = pair;
  const { kty, crv, x, y } = publicKey.export({ format: 'jwk' });
  const calls = { wrap: 0, unwrap: 0, sign: 0 };
  const token: TestToken = {
    broken: undefined,
    calls,
    publicJwk: { kty, crv, x, ...(y && { y }) } as PublicJwk,
    async wrap(data, aad) {
      calls.wrap += 1;
      if (token.broken) throw token.broken;
      const iv = randomBytes(12);
      const cipher = createCipheriv('aes-256-gcm', wrapKey, iv).setAAD(aad);
      return Buffer.concat([iv, cipher.update(data), cipher.final(), cipher.getAuthTag()]);
    },
    async unwrap(wrapped, aad) {
      calls.unwrap += 1;
      if (token.broken) throw token.broken;
      const cipher = createDecipheriv('aes-256-gcm', wrapKey, wrapped.subarray(0, 12)).setAAD(aad);
      cipher.setAuthTag(wrapped.subarray(-16));
      return Buffer.concat([cipher.update(wrapped.subarray(12, -16)), cipher.final()]);
    },
    async sign(data) {
      calls.sign += 1;
      if (token.broken) throw token.broken;
      return kind === 'Ed25519'
        ? sign(null, data, privateKey)
        : sign('sha256', data, { key: privateKey, dsaEncoding: 'ieee-p1363' });
    },
  };
  return token;
};

export interface Recorded {
  readonly name: keyof AuditEvents;
  readonly event: Record<string, unknown>;
}

/** Events kept in a list; `next` resolves at the next one of a name. */
export const recordEvents = (): AuditEvents & {
  readonly seen: Recorded[];
  next(name: keyof AuditEvents): Promise<Record<string, unknown>>;
} => {
  const seen: Recorded[] = [];
  const waiting: { name: string; resolve(event: Record<string, unknown>): void }[] = [];
  const on =
    (name: keyof AuditEvents) =>
    (event: object): void => {
      seen.push({ name, event: event as Record<string, unknown> });
      for (const row of waiting.filter((one) => one.name === name)) {
        waiting.splice(waiting.indexOf(row), 1);
        row.resolve(event as Record<string, unknown>);
      }
    };
  return {
    seen,
    next: (name) => new Promise((resolve) => waiting.push({ name, resolve })),
    opened: on('opened'),
    committed: on('committed'),
    failed: on('failed'),
    backlog: on('backlog'),
    size: on('size'),
    checkpointSigned: on('checkpointSigned'),
    checkpointFailed: on('checkpointFailed'),
    corrupt: on('corrupt'),
  };
};

export const tempFolder = (t: TestContext): string => {
  const folder = mkdtempSync(join(tmpdir(), 'mortise-audit-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
};

export const entry = (tenant: string, number = 0, more: Partial<AuditEntry> = {}): AuditEntry => ({
  tenant,
  principal: `app-${number % 7}`,
  key: 'orders/1',
  algorithm: 'A256GCMKW',
  operation: 'encrypt',
  outcome: 'ok',
  correlationId: `c-${number}`,
  detail: { uid: 1000, pid: number },
  ...more,
});

export const SMALL_LIMITS = { journalBytes: 256 * 1024, reserveBytes: 64 * 1024, mapSize: 2 ** 30 };

export const openLog = async (
  t: TestContext,
  options: Partial<AuditLogOptions> & { path: string },
): Promise<AuditLog> => {
  const { limits, ...rest } = options;
  const log = await openAuditLog({
    host: 'host-1',
    clock: { now: () => Date.now() },
    durability: () => 'committed',
    token: createToken(),
    events: recordEvents(),
    ...rest,
    limits: { ...SMALL_LIMITS, ...limits },
  });
  t.after(() => log.close());
  return log;
};

/** Appends `count` records, `together` at a time. */
export const appendMany = async (log: AuditLog, tenant: string, count: number, together = 16): Promise<void> => {
  for (let from = 0; from < count; from += together) {
    const numbers = Array.from({ length: Math.min(together, count - from) }, (_, i) => from + i);
    await Promise.all(numbers.map((number) => log.append(entry(tenant, number))));
  }
};
