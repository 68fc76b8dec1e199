// What the steps of the second act share: the registry and its hosts, and who works at each of them.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect, type MortiseClient } from '../../clients/typescript/index.ts';
import type { Lab, Role, Tenant } from './lab.ts';
import type { Host, HostName, Registry } from './lab-fleet.ts';
import { until } from './patience.ts';
import type { Program } from './program.ts';
import { type Actor, answerOf, prove, type Script } from './script.ts';

export interface FleetDemo {
  readonly script: Script;
  readonly lab: Lab;
  readonly desk: string;
  readonly registryLog: string;
  /** Set by the steps that make them. */
  registry: Registry | undefined;
  readonly hosts: Map<HostName, Host>;
  readonly agents: Map<HostName, Program>;
}

/** The registry's administrator. */
export const operator = ({ desk }: FleetDemo): Actor => ({
  name: 'root@registry',
  env: { MORTISE_ADMIN_DIR: join(desk, 'admin') },
});

export const hostOf = ({ hosts }: FleetDemo, name: HostName): Host => {
  const host = hosts.get(name);
  if (host === undefined) throw new Error(`${name} is not there yet`);
  return host;
};

/** A principal of a tenant who works on a host. */
export const on = (demo: FleetDemo, name: HostName, role: Role, tenant: Tenant = 'acme'): Actor => ({
  name: `${role}@${tenant} on ${name}`,
  tokenFile: demo.lab.tokenFile(tenant, role),
  env: { MORTISE_SOCKET: hostOf(demo, name).socketPath },
});

/** The same as a program that stays: for what is faster than a command. */
export const clientOn = (demo: FleetDemo, name: HostName, role: Role): MortiseClient =>
  connect({
    socketPath: hostOf(demo, name).socketPath,
    token: readFileSync(demo.lab.tokenFile('acme', role), 'utf8').trim(),
    deadlineMs: 20_000,
    retry: false,
  });

export interface ListedHost {
  readonly host: string;
  readonly connected: boolean;
  readonly policies: readonly { readonly tenant: string; readonly version: number; readonly since: string }[];
}

/** What the registry says of its hosts when it fits; waits for it. */
export const hostsListed = (
  demo: FleetDemo,
  what: string,
  fits: (hosts: readonly ListedHost[]) => boolean,
): Promise<readonly ListedHost[]> =>
  until(what, async () => {
    const result = await demo.script.quietly(['host', 'list'], operator(demo));
    prove(result.code === 0, `the hosts are listed\n${result.stderr}`);
    const { hosts } = answerOf<{ hosts: ListedHost[] }>(result);
    return fits(hosts) ? hosts : undefined;
  });
