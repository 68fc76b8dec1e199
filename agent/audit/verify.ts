// The integrity check: reads a whole audit log and says what is wrong with it, and where (docs/spec/audit.md section
// 7). Invariant: constant memory whatever the length, nothing written, and nothing believed that is not verified.
import { DocumentError } from '../../proto/documents/canonical.ts';
import {
  type Checkpoint,
  parseCheckpointText,
  parseSignedNote,
  verifyCheckpoint,
} from '../../proto/documents/checkpoint.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { macKeysOf } from './mac-keys.ts';
import {
  decodeHead,
  decodeHost,
  HEAD_PREFIX,
  HOST_KEY,
  type HostHead,
  headKey,
  recordKey,
  type Sealed,
  tenantOf,
} from './rows.ts';
import { AuditStore } from './store.ts';
import type { Finding, TenantVerification, Verification } from './types.ts';
import { type AuditSource, Findings, MacCheck, type Snapshot, type VerifyOptions } from './verification.ts';
import { verifyTenant } from './verify-tenant.ts';

/** Opens an audit folder (live, or a copy) to read and verifies it. `unwrap` is the token's, where there is one. */
export const verifyStore = async (
  options: Omit<VerifyOptions, 'source'> & {
    readonly path: string;
    unwrap?(wrapped: Buffer, associatedData: Buffer): Promise<Buffer>;
  },
): Promise<Verification> => {
  const { path, unwrap, ...rest } = options;
  const source = AuditStore.openToRead(path);
  try {
    const host = readHost(source);
    const macKeyOf =
      options.macKeyOf ??
      (unwrap &&
        host &&
        macKeysOf(source, { unwrap: (wrapped, context) => unwrap(wrapped, context) }, host.value.host));
    return await verifySource({ ...rest, source, ...(macKeyOf && { macKeyOf }) });
  } finally {
    await source.close();
  }
};

export const verifySource = async (options: VerifyOptions): Promise<Verification> => {
  const { source, checkpointKey } = options;
  const findings = new Findings();
  const macs = new MacCheck(options.macKeyOf);
  const host = readHost(source);
  const trusted = (options.trusted ?? []).map((note) => readTrusted(note, checkpointKey, findings));
  const names = tenantNames(source, host?.value, options.tenants);
  const snapshots = names.map((tenant) => snapshotOf(source, host?.value, tenant));

  if (host === undefined) {
    if (names.length > 0 || options.tenants === undefined) {
      findings.add('LOG_FORKED', '*', 0, 'the head of the host is missing or cannot be read');
    }
  } else if ((await macs.fits(host.epoch, host.body, host.mac)) === false) {
    findings.add('LOG_FORKED', '*', 0, 'the head of the host was edited');
  }
  for (const checkpoint of trusted) {
    if (checkpoint === undefined) continue;
    if (snapshots.some(({ tenant }) => tenant === tenantIn(checkpoint))) continue;
    const asked = options.tenants === undefined || options.tenants.includes(tenantIn(checkpoint));
    if (asked) findings.add('LOG_TRUNCATED', tenantIn(checkpoint), 0, 'the log of the trusted checkpoint is gone');
    else findings.add('LOG_FORKED', options.tenants?.[0] ?? '*', 0, 'the trusted checkpoint is of another log');
  }
  const tenants: TenantVerification[] = [];
  for (const snapshot of snapshots) {
    const mine = trusted.filter((row) => row !== undefined && tenantIn(row) === snapshot.tenant) as Checkpoint[];
    tenants.push(await verifyTenant({ ...options, snapshot, macs, findings, trusted: mine }));
  }
  return {
    intact: findings.count === 0,
    macsVerified: macs.complete,
    tenants,
    findings: findings.kept.toSorted(byTenantAndIndex),
    findingCount: findings.count,
  };
};

const byTenantAndIndex = (a: Finding, b: Finding): number =>
  a.tenant === b.tenant ? a.index - b.index : a.tenant < b.tenant ? -1 : 1;

const tenantIn = (checkpoint: Checkpoint): string => checkpoint.origin.split('/')[1] ?? '';

const readHost = (source: AuditSource): Sealed<HostHead> | undefined => {
  const bytes = source.get(HOST_KEY);
  if (bytes === undefined) return undefined;
  try {
    return decodeHost(bytes);
  } catch (cause) {
    if (cause instanceof DocumentError) return undefined; // reported as a finding
    throw cause;
  }
};

/** A trusted checkpoint. Where no key is pinned the auditor vouches for it by having kept it. */
const readTrusted = (note: string, key: PublicJwk | undefined, findings: Findings): Checkpoint | undefined => {
  try {
    return key === undefined ? parseCheckpointText(parseSignedNote(note).text) : verifyCheckpoint(note, key);
  } catch (cause) {
    if (!(cause instanceof DocumentError)) throw cause;
    findings.add('CHECKPOINT_INVALID', '*', 0, `the trusted checkpoint is not one: ${cause.message}`);
    return undefined;
  }
};

const tenantNames = (source: AuditSource, host: HostHead | undefined, only?: readonly string[]): string[] => {
  const all = new Set([...(host?.heads.keys() ?? []), ...[...source.keys(HEAD_PREFIX)].map(tenantOf)]);
  return (only ?? [...all]).filter((tenant) => all.has(tenant));
};

const snapshotOf = (source: AuditSource, host: HostHead | undefined, tenant: string): Snapshot => {
  const bytes = source.get(headKey(tenant));
  const without = (headless: string): Snapshot => ({ tenant, host, head: undefined, headless, beyond: false });
  if (bytes === undefined) return without('the head of the log is missing');
  try {
    const head = decodeHead(Buffer.from(bytes));
    if (head.value.tenant !== tenant) return without('the head is that of another log');
    const beyond = source.get(recordKey(tenant, head.value.frontier.size)) !== undefined;
    return { tenant, host, head, beyond };
  } catch (cause) {
    if (cause instanceof DocumentError) return without(`the head of the log is not one: ${cause.message}`);
    throw cause;
  }
};
