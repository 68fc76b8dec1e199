// The part of the configuration that is about the plugin for the Kubernetes API server. Invariant: it is whole or off.
import type { Environment } from './env.ts';
import type { Problem } from './settings.ts';

/** The plugin for the Kubernetes API server. */
export interface KmsConfig {
  readonly socket: { readonly path: string; readonly mode: number; readonly group: string | undefined };
  readonly tenant: string;
  readonly key: string;
  readonly peers: { readonly uids: readonly number[]; readonly gids: readonly number[] };
}

const KMS_SOCKET_MODE = 0o660;

export const kmsOf = (env: Environment): KmsConfig | undefined => {
  const { MORTISE_KMS_SOCKET_PATH: path, MORTISE_KMS_SOCKET_GROUP: group } = env;
  const { MORTISE_KMS_TENANT: tenant, MORTISE_KMS_KEY: key, MORTISE_KMS_PEERS: peers } = env;
  if (path === undefined || tenant === undefined || key === undefined || peers === undefined) return undefined;
  const ids = (kind: string): number[] =>
    peers
      .split(',')
      .filter((peer) => peer.startsWith(kind))
      .map((peer) => Number(peer.slice(kind.length)));
  const socket = { path, mode: KMS_SOCKET_MODE, group };
  return { socket, tenant, key, peers: { uids: ids('uid:'), gids: ids('gid:') } };
};

const KMS_VARIABLES = [
  ['MORTISE_KMS_SOCKET_PATH', '/run/mortise-kms/kms.sock'],
  ['MORTISE_KMS_TENANT', 'kubernetes'],
  ['MORTISE_KMS_KEY', 'etcd'],
  ['MORTISE_KMS_PEERS', 'uid:0'],
] as const;

/** The plugin needs to know all of it or is off. */
export const kmsProblems = (env: Environment): Problem[] => {
  const given = [...KMS_VARIABLES.map(([name]) => name), 'MORTISE_KMS_SOCKET_GROUP' as const];
  if (given.every((name) => env[name] === undefined)) return [];
  const problems: Problem[] = KMS_VARIABLES.filter(([name]) => env[name] === undefined).map(([variable, example]) => ({
    variable,
    problem: 'is not set, but other variables of the plugin for the Kubernetes API server are',
    remedy: `set ${variable} to, for example, ${example}, or unset all MORTISE_KMS_ variables`,
  }));
  if (env.MORTISE_KMS_SOCKET_PATH !== undefined && env.MORTISE_KMS_SOCKET_PATH === env.MORTISE_SOCKET_PATH) {
    problems.push({
      variable: 'MORTISE_KMS_SOCKET_PATH',
      problem: 'is also MORTISE_SOCKET_PATH',
      remedy: 'give the plugin a socket of its own, for example /run/mortise-kms/kms.sock',
    });
  }
  return problems;
};
