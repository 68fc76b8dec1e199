// Agents of one registry over one token: enrolled by the real program, with one policy and one issuer for all.
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { FakeRegistry } from '../fakes/registry.ts';
import { makeAgentPolicy, makeIssuer, type RunningAgent, startAgent } from './agent.ts';
import type { PolicyFolder } from './policy.ts';
import { makeSoftHsm, type SoftHsm } from './softhsm.ts';

const MAIN = join(import.meta.dirname, '../../agent/main.ts');
const PATIENCE_MS = 30_000;

export interface Fleet extends AsyncDisposable {
  readonly registry: FakeRegistry;
  readonly policy: PolicyFolder;
  readonly token: SoftHsm;
  /** An agent of this host, enrolled for these tenants; started unless said otherwise. */
  agent(
    host: string,
    options?: { tenants?: readonly string[]; env?: Record<string, string>; started?: boolean },
  ): Promise<RunningAgent>;
  /** Publishes what the policy folder has now. */
  publish(scope?: 'platform' | string): Promise<void>;
}

/** `agent enrol` as a person runs it; resolves with what it printed. */
export const enrolAgent = async (agent: RunningAgent, token: string): Promise<string> => {
  const file = join(agent.folder, 'enrolment-token');
  await writeFile(file, token, { mode: 0o600 });
  const run = promisify(execFile)(process.execPath, [MAIN, 'enrol', '--token-file', file], {
    env: agent.env,
    timeout: PATIENCE_MS,
  });
  return (await run).stdout;
};

export const makeFleet = async (options: { readonly tenants?: readonly string[] } = {}): Promise<Fleet> => {
  const { tenants = ['acme', 'globex'] } = options;
  const issuer = makeIssuer();
  const policy = await makeAgentPolicy(issuer, { tenants });
  const token = await makeSoftHsm();
  const registry = await FakeRegistry.make(await readFile(join(policy.dir, 'trust-anchor.json')));
  const agents: RunningAgent[] = [];
  const publish = async (scope = 'platform'): Promise<void> => {
    const file = scope === 'platform' ? 'platform.json' : `tenants/${scope}.json`;
    registry.publish(await readFile(join(policy.dir, file)));
  };
  await publish();
  return {
    registry,
    policy,
    token,
    publish,
    agent: async (host, { tenants: served = tenants, env = {}, started = true } = {}) => {
      const agent = await startAgent({
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
      await enrolAgent(agent, registry.admit(host, served));
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
