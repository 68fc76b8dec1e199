// A registry, agents of it and what the failure tests ask of them: callers that go on, refusals that say why, and a ledger
// that is complete and proven whole by a bundle, offline.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MortiseClient } from '../../../clients/typescript/index.ts';
import type { PlatformPolicy } from '../../../proto/documents/policy-types.ts';
import { LedgerServiceService } from '../../../proto/gen/mortise/registry/v1/ledger.ts';
import { runCli } from '../../clients/cli/run-cli.ts';
import { clientOf, codeOf } from '../../e2e/load.ts';
import type { RunningAgent } from '../../support/agent.ts';
import { type Fleet, makeFleetOf } from '../../support/fleet.ts';
import { unary } from '../../support/registry-client.ts';
import { aFilter } from '../../support/registry-messages.ts';
import { RegistryProcess } from '../../support/registry-process.ts';

export const PATIENCE_MS = 90_000;
export const message = Buffer.from('whatever becomes of the registry');

export interface Stage {
  readonly fleet: Fleet<RegistryProcess>;
  readonly registry: RegistryProcess;
  /** Signatures that were given so far, by all agents. */
  signed: number;
}

export const until = async (what: string, holds: () => boolean | Promise<boolean>): Promise<void> => {
  const end = Date.now() + PATIENCE_MS;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`never came about within ${PATIENCE_MS} ms: ${what}`);
    await sleep(50);
  }
};

export const makeStage = async (
  t: TestContext,
  options: {
    readonly env?: Readonly<Record<string, string>>;
    readonly platform?: Partial<PlatformPolicy>;
  } = {},
): Promise<Stage> => {
  const { env = {}, platform = {} } = options;
  const fleet = await makeFleetOf({ platform, makeRegistry: (anchor) => RegistryProcess.make(anchor, env) });
  t.after(() => fleet[Symbol.asyncDispose]());
  return { fleet, registry: fleet.registry, signed: 0 };
};

/** A client that makes the key with its first call, and ends with the test. */
export const withSigner = async (t: TestContext, agent: RunningAgent): Promise<MortiseClient> => {
  const client = callerOf(t, agent);
  await client.keys.create({ keyId: 'signer', purpose: 'sign', algorithm: 'EC-P256' });
  return client;
};

export const callerOf = (t: TestContext, agent: RunningAgent): MortiseClient => {
  const client = clientOf(agent, 'acme', { retry: false });
  t.after(() => client.close());
  return client;
};

/** Every one of them has to succeed. */
export const sign = async (stage: Stage, client: MortiseClient, count: number): Promise<void> => {
  for (let at = 0; at < count; at += 1) {
    await client.sign('signer', { message });
    stage.signed += 1;
  }
};

/** Resolves with the code that a call fails with once it does; a call that succeeds is made again. */
export const untilRefused = async (call: () => Promise<unknown>): Promise<string> => {
  let code = '';
  await until('a refusal', async () => {
    code = await call().then(() => '', codeOf);
    return code !== '';
  });
  return code;
};

export const untilDone = (what: string, call: () => Promise<unknown>): Promise<void> =>
  until(what, () =>
    call().then(
      () => true,
      () => false,
    ),
  );

const signaturesIn = async (registry: RegistryProcess): Promise<number> => {
  let found = 0;
  let pageToken = '';
  do {
    const filter = aFilter({ operation: 'sign', outcome: 'ok' });
    const page = await unary(registry.admin, LedgerServiceService.queryRecords, { filter, pageSize: 500, pageToken });
    found += page.records.length;
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return found;
};

/** The ledger has each signature once, and a bundle of it proves every log whole without registry or agent. */
export const assertComplete = async (t: TestContext, stage: Stage, registry = stage.registry): Promise<void> => {
  await until(`${stage.signed} signatures in the ledger`, async () => {
    const found = await signaturesIn(registry).catch(() => 0); // its connection is opened again meanwhile
    assert.ok(found <= stage.signed, `${found} records of ${stage.signed} signatures`);
    return found === stage.signed;
  });
  await bundleVerifies(t, registry, stage.registry.tokenFile);
};

/** A bundle of the tenant's logs, exported by an administrator, proves each whole without registry or agent. */
export const bundleVerifies = async (
  t: TestContext,
  registry: RegistryProcess,
  tokenFile = registry.tokenFile,
): Promise<void> => {
  const folder = await mkdtemp(join(tmpdir(), 'mortise-bundle-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const cli = (...args: string[]) => runCli(args, { env: { MORTISE_ADMIN_DIR: join(folder, 'admin') } });
  const enrolment = ['--registry', registry.address, '--enrolment-token', tokenFile];
  const enrolled = await cli('registry', 'enrol', ...enrolment);
  assert.equal(enrolled.code, 0, enrolled.stderr);
  const bundle = join(folder, 'acme.bundle');
  let said = '';
  await until('a bundle that verifies', async () => {
    // A checkpoint that covers the last records comes within a second of them.
    const exported = await cli('audit', 'export', '--tenant', 'acme', '--format', 'bundle', '--out', bundle, '--force');
    assert.equal(exported.code, 0, exported.stderr);
    const { code, stdout, stderr } = await cli('audit', 'verify', bundle, '--output', 'json');
    said = `${stdout}${stderr}`;
    return code === 0;
  }).catch((error: Error) => assert.fail(`${error.message}: ${said}`));
};

export const loggedLoss = ({ msg }: { readonly msg: string }): boolean =>
  msg.startsWith('not connected to the registry');
export const loggedReturn = ({ msg }: { readonly msg: string }): boolean => msg === 'connected to the registry';
