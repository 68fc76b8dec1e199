// `agent audit verify`: verifies a whole audit store, the live one or a copy, and says what is wrong where. Invariant:
// nothing is written, neither in the store nor in the token.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import type { Verification } from '../audit/types.ts';
import { verifyStore } from '../audit/verify.ts';
import { type Config, ConfigError, loadConfig } from '../config/config.ts';
import { EXIT, type ExitCode } from '../lifecycle.ts';
import { openAuditKeys, type ReachedToken } from './audit-keys.ts';

export interface AuditVerifyInput {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The audit folder; by default that of the configuration. */
  readonly store: string | undefined;
  readonly tenants: readonly string[];
  /** Files with checkpoints that the auditor kept. */
  readonly checkpoints: readonly string[];
  /** File with the public JWK that checkpoints must be signed by; by default the token's. */
  readonly checkpointKey: string | undefined;
  readonly output: 'text' | 'json';
  readonly print: (line: string) => void;
  readonly complain: (line: string) => void;
}

const MAX_FILE_NAME = 4096;

const configOf = ({ environment }: AuditVerifyInput): Config | undefined => {
  try {
    return loadConfig(environment).config;
  } catch (error) {
    if (error instanceof ConfigError) return undefined; // a store can be verified without one, all but its MACs
    throw error;
  }
};

const progressLine = (): ((progress: { tenant: string; verified: number; size: number }) => void) | undefined =>
  process.stderr.isTTY
    ? ({ tenant, verified, size }) =>
        void process.stderr.write(`\r${tenant}: ${verified} of ${size}${verified >= size ? '\n' : ''}`)
    : undefined;

const verify = async (input: AuditVerifyInput, path: string, token: ReachedToken): Promise<Verification> => {
  const trusted = await Promise.all(input.checkpoints.map((file) => readFile(file, 'utf8')));
  const checkpointKey: PublicJwk | undefined =
    input.checkpointKey === undefined ? token.checkpointKey : JSON.parse(await readFile(input.checkpointKey, 'utf8'));
  const onProgress = progressLine();
  return verifyStore({
    path,
    trusted,
    ...(token.unwrap && { unwrap: token.unwrap }),
    ...(checkpointKey && { checkpointKey }),
    ...(input.tenants.length > 0 && { tenants: input.tenants }),
    ...(onProgress && { onProgress }),
  });
};

const asJson = (store: string, verification: Verification, note: string | undefined): string => {
  const { tenants, ...rest } = verification;
  const rows = tenants.map(({ root, ...tenant }) => ({ ...tenant, root: root.toString('hex') }));
  return JSON.stringify({ store, ...rest, tenants: rows, ...(note !== undefined && { note }) }, null, 2);
};

const asText = (store: string, verification: Verification, note: string | undefined): string[] => {
  const { intact, macsVerified, tenants, findings, findingCount } = verification;
  const newest = (signedAt: number | undefined): string =>
    signedAt === undefined ? 'none' : new Date(signedAt).toISOString();
  return [
    `store       ${store}`,
    ...tenants.map(
      ({ tenant, size, root, newestCheckpoint }) =>
        `${tenant.padEnd(11)} ${size} records, root ${root.toString('hex')}, newest checkpoint ${newest(newestCheckpoint?.signedAt)}`,
    ),
    ...findings.map(({ code, tenant, index, message }) => `FINDING     ${code} ${tenant} at ${index}: ${message}`),
    ...(findingCount > findings.length ? [`            and ${findingCount - findings.length} more`] : []),
    ...(macsVerified ? [] : [`note        MACs were not verified: ${note ?? 'a MAC key cannot be had'}`]),
    intact ? 'intact' : `NOT INTACT  ${findingCount} findings`,
  ];
};

export const auditVerify = async (input: AuditVerifyInput): Promise<ExitCode> => {
  const config = configOf(input);
  const store = input.store ?? (config && join(config.dataDir, 'audit'));
  if (store === undefined || store.length > MAX_FILE_NAME) {
    input.complain('mortise agent: name the audit folder with --store, or set the configuration (agent --check)');
    return EXIT.usage;
  }
  await using token = await openAuditKeys(config, input.environment);
  try {
    const verification = await verify(input, store, token);
    if (input.output === 'json') input.print(asJson(store, verification, token.why));
    else for (const line of asText(store, verification, token.why)) input.print(line);
    return verification.intact ? EXIT.ok : EXIT.findings;
  } catch (error) {
    input.complain(`mortise agent: cannot verify ${store}: ${(error as Error).message}`);
    return EXIT.failure;
  }
};
