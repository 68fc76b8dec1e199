// Agents of one registry over one token: enrolled by the real program, with one policy and one issuer for all.
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { PlatformPolicy } from '../../proto/documents/policy-types.ts';
import { FakeRegistry } from '../fakes/registry.ts';
import { makeAgentPolicy, makeIssuer, type RunningAgent, startAgent } from './agent.ts';
import type { PolicyFolder } from './policy.ts';
import { makeSoftHsm, type SoftHsm } from './softhsm.ts';

const MAIN = join(import.meta.dirname, '../../agent/main.ts');
const PATIENCE_MS = 30_000;

/** What a fleet needs of its registry. */
export interface FleetRegistry extends AsyncDisposable {
  readonly url: string;
  admit(host: string, tenants: readonly string[]): string | Promise<string>;
  publish(jws: Buffer): void | Promise<void>;
}

export interface Fleet<Registry extends FleetRegistry = FakeRegistry> extends AsyncDisposable {
  readonly registry: Registry;
  readonly policy: PolicyFolder;
  readonly token: SoftHsm;
  /** An agent of this host, enrolled for these tenants; started unless said otherwise. */
  agent(
    host: string,
    options?: {
      tenants?: readonly string[];
      env?: Record<string, string>;
      started?: boolean;
      launcher?: readonly string[];
    },
  ): Promise<RunningAgent>;
  /** Publishes what the policy folder has now. */
  publish(scope?: 'platform' | string): Promise<void>;
}

/** `agent enrol` as a person runs it; resolves with what it printed. */
export const enrolAgent = async (
  agent: RunningAgent,
  token: string,
  options: readonly string[] = [],
): Promise<string> => {
  const file = join(agent.folder, 'enrolment-token');
  await writeFile(file, token, { mode: 0o600 });
  const run = promisify(execFile)(process.execPath, [MAIN, 'enrol', '--token-file', file, ...options], {
    env: agent.env,
    timeout: PATIENCE_MS,
  });
  return (await run).stdout;
};

interface FleetOptions<Registry> {
  readonly tenants?: readonly string[];
  /** Fields of the platform policy that differ. */
  readonly platform?: Partial<PlatformPolicy>;
  /** A registry of this trust anchor (a file). */
  readonly makeRegistry: (trustAnchor: string) => Promise<Registry>;
}

/** A fleet of the fake registry. */
export const makeFleet = (): Promise<Fleet> =>
  makeFleetOf({ makeRegistry: async (trustAnchor) => FakeRegistry.make(await readFile(trustAnchor)) });

export const makeFleetOf = async <Registry extends FleetRegistry>(
  options: FleetOptions<Registry>,
): Promise<Fleet<Registry>> => {
  const { tenants = ['acme', 'globex'], platform = {} } = options;
  const issuer = makeIssuer();
  const policy = await makeAgentPolicy(issuer, { tenants, platform });
  const token = await makeSoftHsm();
  const registry = await options.makeRegistry(join(policy.dir, 'trust-anchor.json'));
  const agents: RunningAgent[] = [];
  const publish = async (scope = 'platform'): Promise<void> => {
    const file = scope === 'platform' ? 'platform.json' : `tenants/${scope}.json`;
    await registry.publish(await readFile(join(policy.dir, file)));
  };
  await publish();
  return {
    registry,
    policy,
    token,
    publish,
    agent: async (host, { tenants: served = tenants, env = {}, started = true, launcher = [] } = {}) => {
      const agent = await startAgent({
        launcher,
        shared: { token, issuer, policy },
        env: {
          MORTISE_HOST_ID: host,
          MORTISE_REGISTRY_URL: registry.url,
          MORTISE_AUDIT_CHECKPOINT_SECONDS: '1',
          ...env,
        },
        started: false,
      });
      agents.push(agent);
      await enrolAgent(agent, await registry.admit(host, served));
      if (!started) return agent;
      await agent.start();
      await agent.logged(({ msg, tenant }) => msg === 'policy came into force' && tenant === '_platform');
      return agent;
    },
    [Symbol.asyncDispose]: async () => {
      for (const agent of agents) await agent.stop();
      await registry[Symbol.asyncDispose]();
      await policy.remove();
      await token.dispose();
    },
  };
};
