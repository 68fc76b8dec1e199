// The configuration as the registry uses it: typed, in groups, with units in the names, frozen. Invariant: it comes from
// the table in env.ts alone and is complete or refused with every problem at once.
import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Problem } from '../../agent/config/settings.ts';
import { defaultReplica, type Environment, readEnvironment } from './env.ts';
import { SECRETS, type SecretName } from './secrets.ts';

export interface TcpAddress {
  readonly host: string;
  readonly port: number;
}

export interface Config {
  readonly replica: string;
  readonly listen: TcpAddress;
  readonly authorityDir: string;
  readonly store: {
    readonly dataDir: string;
    readonly mapSizeBytes: number;
    /** Where the database's URL is, never the URL; absent: the embedded store. */
    readonly databaseUrlFile: string | undefined;
  };
  readonly tls: {
    readonly names: readonly string[];
    readonly requireHybrid: boolean;
    readonly brought: { readonly certificateFile: string; readonly keyFile: string } | undefined;
    readonly clientRootsFile: string | undefined;
  };
  readonly certificates: { readonly hostSeconds: number; readonly adminSeconds: number };
  readonly heartbeatSeconds: number;
  readonly refreshSeconds: number;
  readonly limits: { readonly connections: number; readonly connectionsPerClient: number };
  readonly reflection: boolean;
  readonly drainMs: number;
  readonly logLevel: string;
  /** TCP address, path of a Unix socket, or off. */
  readonly metrics: TcpAddress | string | undefined;
  readonly allowRoot: boolean;
  readonly notifySocket: string | undefined;
  /** Longest silence before systemd starts the registry anew. */
  readonly watchdogMs: number | undefined;
}

/** The configuration cannot be used. `problems` has all that is wrong. */
export class ConfigError extends Error {
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    super(problems.map(({ variable, problem, remedy }) => `${variable}: ${problem}; ${remedy}`).join('\n'));
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

const addressOf = (text: string): TcpAddress => {
  const colon = text.lastIndexOf(':');
  return { host: text.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(text.slice(colon + 1)) };
};

/** A secret that stands in the environment by its plain name is refused: every child and every crash dump would have it. */
const plainSecrets = (raw: Readonly<Record<string, string | undefined>>): Problem[] =>
  Object.values(SECRETS)
    .filter(({ plain }) => raw[plain] !== undefined)
    .map(({ plain, variable, credential }) => ({
      variable: plain,
      problem: 'a secret must not be in the environment, where child processes, crash dumps and /proc show it',
      remedy: `unset ${plain}, put the value in a file of mode 0400 and set ${variable} to its path, or give it as the systemd credential "${credential}"`,
    }));

/** Where a secret is: the file that is named, or the systemd credential where there is one. */
const secretFile = (env: Environment, name: SecretName): string | undefined => {
  const { variable, credential } = SECRETS[name];
  if (env[variable] !== undefined) return env[variable];
  const path = env.CREDENTIALS_DIRECTORY && join(env.CREDENTIALS_DIRECTORY, credential);
  return path !== undefined && existsSync(path) ? path : undefined;
};

const contradictions = (env: Environment): Problem[] => {
  const problems: Problem[] = [];
  const addresses = {
    REGISTRY_LISTEN_ADDRESS: env.REGISTRY_LISTEN_ADDRESS,
    REGISTRY_METRICS_ADDRESS: env.REGISTRY_METRICS_ADDRESS,
  };
  for (const [variable, text] of Object.entries(addresses)) {
    if (text === undefined || text.startsWith('/') || addressOf(text).port <= 65_535) continue;
    problems.push({ variable, problem: 'the port is above 65535', remedy: 'take a port from 1 to 65535' });
  }
  const key = secretFile(env, 'tlsKey');
  if (env.REGISTRY_TLS_CERTIFICATE_FILE !== undefined && key === undefined) {
    problems.push({
      variable: 'REGISTRY_TLS_KEY_FILE',
      problem: 'nothing says where the key of REGISTRY_TLS_CERTIFICATE_FILE is',
      remedy: `set it to a file of mode 0400, or give the systemd credential "${SECRETS.tlsKey.credential}"`,
    });
  }
  if (env.REGISTRY_TLS_KEY_FILE !== undefined && env.REGISTRY_TLS_CERTIFICATE_FILE === undefined) {
    problems.push({
      variable: 'REGISTRY_TLS_CERTIFICATE_FILE',
      problem: 'is missing, though REGISTRY_TLS_KEY_FILE is set',
      remedy: 'set both or neither',
    });
  }
  return problems;
};

const warningsOf = (unknown: readonly string[], metrics: Config['metrics']): string[] => {
  const warnings = unknown.map(
    (name) => `${name} is not a variable of the registry and has no effect; is it misspelt?`,
  );
  if (typeof metrics === 'object' && !['127.0.0.1', '::1', 'localhost'].includes(metrics.host)) {
    warnings.push(
      'REGISTRY_METRICS_ADDRESS is not a loopback address: whoever can reach it reads rates and host counts',
    );
  }
  return warnings;
};

export const defaultNames = (): readonly string[] => [...new Set([hostname(), 'localhost', '127.0.0.1', '::1'])];

const build = (env: Environment): Config => {
  const metrics = env.REGISTRY_METRICS_ADDRESS;
  const certificateFile = env.REGISTRY_TLS_CERTIFICATE_FILE;
  return {
    replica: env.REGISTRY_REPLICA ?? defaultReplica(),
    listen: addressOf(env.REGISTRY_LISTEN_ADDRESS),
    authorityDir: env.REGISTRY_AUTHORITY_DIR,
    store: {
      dataDir: env.REGISTRY_DATA_DIR,
      mapSizeBytes: env.REGISTRY_STORE_MAP_SIZE,
      databaseUrlFile: secretFile(env, 'databaseUrl'),
    },
    tls: {
      names: env.REGISTRY_NAMES?.split(',').map((name) => name.trim()) ?? defaultNames(),
      requireHybrid: env.REGISTRY_REQUIRE_HYBRID_TLS,
      brought:
        certificateFile === undefined ? undefined : { certificateFile, keyFile: secretFile(env, 'tlsKey') as string },
      clientRootsFile: env.REGISTRY_CLIENT_ROOTS_FILE,
    },
    certificates: {
      hostSeconds: env.REGISTRY_HOST_CERTIFICATE_SECONDS,
      adminSeconds: env.REGISTRY_ADMIN_CERTIFICATE_SECONDS,
    },
    heartbeatSeconds: env.REGISTRY_HEARTBEAT_SECONDS,
    refreshSeconds: env.REGISTRY_REFRESH_SECONDS,
    limits: {
      connections: env.REGISTRY_MAX_CONNECTIONS,
      connectionsPerClient: env.REGISTRY_MAX_CONNECTIONS_PER_CLIENT,
    },
    reflection: env.REGISTRY_REFLECTION,
    drainMs: env.REGISTRY_DRAIN_SECONDS * 1000,
    logLevel: env.REGISTRY_LOG_LEVEL,
    metrics: metrics === undefined || metrics.startsWith('/') ? metrics : addressOf(metrics),
    allowRoot: env.REGISTRY_ALLOW_ROOT,
    notifySocket: env.NOTIFY_SOCKET,
    watchdogMs:
      env.WATCHDOG_USEC !== undefined && [undefined, process.pid].includes(env.WATCHDOG_PID)
        ? env.WATCHDOG_USEC / 1000
        : undefined,
  };
};

const freeze = <T extends object>(value: T): T => {
  for (const part of Object.values(value)) if (typeof part === 'object' && part !== null) freeze(part);
  return Object.freeze(value);
};

/** Throws ConfigError with every problem. */
export const loadConfig = (
  raw: Readonly<Record<string, string | undefined>>,
): { readonly config: Config; readonly warnings: readonly string[] } => {
  const { environment, problems, unknown } = readEnvironment(raw);
  const wrong = new Set(problems.map(({ variable }) => variable));
  const secrets = plainSecrets(raw);
  const rest = problems.length > 0 ? [] : contradictions(environment);
  const all = [...problems, ...secrets, ...rest.filter(({ variable }) => !wrong.has(variable))];
  if (all.length > 0) throw new ConfigError(all);
  const config = freeze(build(environment));
  return { config, warnings: warningsOf(unknown, config.metrics) };
};
