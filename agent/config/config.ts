// The configuration as the agent uses it: typed, in groups, with units in the names, frozen. Invariant: it comes from
// the table in env.ts alone and is complete or refused with every problem at once.
import { dirname, join } from 'node:path';
import { defaultHostId, type Environment, readEnvironment } from './env.ts';
import { type KmsConfig, kmsOf, kmsProblems } from './kms.ts';
import { SECRETS } from './secrets.ts';
import type { Problem } from './settings.ts';
import { tokensOf } from './tokens.ts';
import type { TokenEntry, TokensFile } from './tokens-file.ts';

export interface TcpAddress {
  readonly host: string;
  readonly port: number;
}

export interface RegistryConfig {
  /** Replicas; at least one. */
  readonly addresses: readonly TcpAddress[];
  readonly dir: string;
  /** Where the host brings its own certificate. */
  readonly brought: { readonly certificateFile: string; readonly keyFile: string } | undefined;
  readonly requireHybrid: boolean;
}

export interface Config {
  readonly hostId: string;
  readonly dataDir: string;
  readonly policy: { readonly dir: string; readonly trustAnchor: string; readonly pollMs: number };
  readonly socket: { readonly path: string; readonly mode: number; readonly group: string | undefined };
  readonly limits: {
    readonly connections: number;
    readonly connectionsPerUid: number;
    readonly streams: number;
    readonly pipelineWindow: number;
    readonly defaultDeadlineMs: number;
    readonly maxDeadlineMs: number;
    readonly maxStreamMs: number;
    readonly streamIdleMs: number;
    readonly streamsPerTenant: number;
    readonly maxStreamBytes: number;
  };
  readonly reflection: boolean;
  readonly drainMs: number;
  readonly logLevel: string;
  /** TCP address, path of a Unix socket, or off. */
  readonly metrics: TcpAddress | string | undefined;
  readonly audit: {
    readonly mapSizeBytes: number;
    readonly checkpointRecords: number;
    readonly checkpointSeconds: number;
  };
  /** The token that holds the agent's own keys; one of `tokens`. */
  readonly token: TokenEntry;
  /** All tokens of this host; mostly one. */
  readonly tokens: readonly TokenEntry[];
  readonly kekLabelPrefix: string;
  /** Sessions of each token that are kept when the registry's lease of them is over. */
  readonly fallbackSessions: number;
  /** Undefined where the agent stands alone. */
  readonly registry: RegistryConfig | undefined;
  /** Undefined where no API server is served. */
  readonly kms: KmsConfig | undefined;
  readonly allowRoot: boolean;
  readonly notifySocket: string | undefined;
  /** Longest silence before systemd starts the agent anew. */
  readonly watchdogMs: number | undefined;
  /** A socket that systemd listens on for us, in place of `socket`. */
  readonly listenFd: number | undefined;
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

const SD_LISTEN_FDS_START = 3; // sd_listen_fds(3)

const tcpAddress = (text: string): TcpAddress => {
  const colon = text.lastIndexOf(':');
  return { host: text.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(text.slice(colon + 1)) };
};

const metricsAddress = (text: string | undefined): TcpAddress | string | undefined =>
  text === undefined || text.startsWith('/') ? text : tcpAddress(text);

export const registryDir = (env: Environment): string =>
  env.MORTISE_REGISTRY_DIR ?? join(env.MORTISE_DATA_DIR ?? '', 'registry');

const registryOf = (env: Environment): RegistryConfig | undefined => {
  const { MORTISE_REGISTRY_URL: url, MORTISE_REGISTRY_CERTIFICATE_FILE: certificateFile } = env;
  if (url === undefined) return undefined;
  const keyFile = env.MORTISE_REGISTRY_KEY_FILE;
  return {
    addresses: url.split(',').map((text) => tcpAddress(text.slice('https://'.length))),
    dir: registryDir(env),
    brought: certificateFile === undefined || keyFile === undefined ? undefined : { certificateFile, keyFile },
    requireHybrid: env.MORTISE_REGISTRY_REQUIRE_HYBRID,
  };
};

/** With a registry the anchor is by default the one that came with the enrolment. */
export const trustAnchorOf = (env: Environment): string =>
  env.MORTISE_TRUST_ANCHOR ??
  join(env.MORTISE_REGISTRY_URL === undefined ? (env.MORTISE_POLICY_DIR ?? '') : registryDir(env), 'trust-anchor.json');

/** A secret that stands in the environment by its plain name is refused: every child and every crash dump would have it. */
const plainSecrets = (raw: Readonly<Record<string, string | undefined>>): Problem[] =>
  Object.values(SECRETS)
    .filter(({ plain }) => raw[plain] !== undefined)
    .map(({ plain, variable, credential }) => ({
      variable: plain,
      problem: 'a secret must not be in the environment, where child processes, crash dumps and /proc show it',
      remedy: `unset ${plain}, put the value in a file of mode 0400 and set ${variable} to its path, or give it as the systemd credential "${credential}"`,
    }));

const contradictions = (env: Environment, metrics: Config['metrics']): Problem[] => {
  const problems: Problem[] = kmsProblems(env);
  if (env.MORTISE_DEFAULT_DEADLINE_MS > env.MORTISE_MAX_DEADLINE_MS) {
    problems.push({
      variable: 'MORTISE_DEFAULT_DEADLINE_MS',
      problem: `is above MORTISE_MAX_DEADLINE_MS (${env.MORTISE_MAX_DEADLINE_MS})`,
      remedy: 'lower the one or raise the other',
    });
  }
  const { PKCS11_PIN_FILE: file, PKCS11_PIN_COMMAND: command, CREDENTIALS_DIRECTORY: credentials } = env;
  if (file !== undefined && command !== undefined) {
    problems.push({
      variable: 'PKCS11_PIN_COMMAND',
      problem: 'there is a PKCS11_PIN_FILE too, and the PIN comes from one place',
      remedy: 'unset one of the two',
    });
  }
  const named = env.MORTISE_TOKENS_FILE ?? file ?? command ?? credentials;
  if (named === undefined) {
    problems.push({
      variable: 'PKCS11_PIN_FILE',
      problem: 'nothing says where the PIN of the token is',
      remedy: `put the PIN in a file of mode 0400 and set PKCS11_PIN_FILE to its path, or give the systemd credential "${SECRETS.pin.credential}", or set PKCS11_PIN_COMMAND`,
    });
  }
  if (typeof metrics === 'object' && metrics.port > 65_535) {
    problems.push({
      variable: 'MORTISE_METRICS_ADDRESS',
      problem: 'the port is above 65535',
      remedy: 'set it to, for example, 127.0.0.1:9464',
    });
  }
  const [certificate, key] = [env.MORTISE_REGISTRY_CERTIFICATE_FILE, env.MORTISE_REGISTRY_KEY_FILE];
  if ((certificate === undefined) !== (key === undefined)) {
    problems.push({
      variable: certificate === undefined ? 'MORTISE_REGISTRY_CERTIFICATE_FILE' : 'MORTISE_REGISTRY_KEY_FILE',
      problem: 'a certificate that the host brings has two files, and one is not named',
      remedy: 'set both MORTISE_REGISTRY_CERTIFICATE_FILE and MORTISE_REGISTRY_KEY_FILE, or neither',
    });
  }
  return problems;
};

const warningsOf = (unknown: readonly string[], metrics: Config['metrics']): string[] => {
  const warnings = unknown.map((name) => `${name} is not a variable of this agent and has no effect; is it misspelt?`);
  if (typeof metrics === 'object' && !['127.0.0.1', '::1', 'localhost'].includes(metrics.host)) {
    warnings.push(
      'MORTISE_METRICS_ADDRESS is not a loopback address: whoever can reach it reads tenant names and rates',
    );
  }
  return warnings;
};

const build = (env: Environment, metrics: Config['metrics'], { agent, tokens }: TokensFile): Config => ({
  hostId: env.MORTISE_HOST_ID ?? defaultHostId(),
  dataDir: env.MORTISE_DATA_DIR,
  policy: {
    dir: env.MORTISE_POLICY_DIR,
    trustAnchor: trustAnchorOf(env),
    pollMs: env.MORTISE_POLICY_POLL_MS,
  },
  socket: {
    path: env.MORTISE_SOCKET_PATH,
    mode: Number.parseInt(env.MORTISE_SOCKET_MODE, 8),
    group: env.MORTISE_SOCKET_GROUP,
  },
  limits: {
    connections: env.MORTISE_MAX_CONNECTIONS,
    connectionsPerUid: env.MORTISE_MAX_CONNECTIONS_PER_UID,
    streams: env.MORTISE_MAX_STREAMS,
    pipelineWindow: env.MORTISE_PIPELINE_WINDOW,
    defaultDeadlineMs: env.MORTISE_DEFAULT_DEADLINE_MS,
    maxDeadlineMs: env.MORTISE_MAX_DEADLINE_MS,
    maxStreamMs: env.MORTISE_MAX_STREAM_SECONDS * 1000,
    streamIdleMs: env.MORTISE_STREAM_IDLE_SECONDS * 1000,
    streamsPerTenant: env.MORTISE_STREAMS_PER_TENANT,
    maxStreamBytes: env.MORTISE_MAX_STREAM_BYTES,
  },
  reflection: env.MORTISE_REFLECTION,
  drainMs: env.MORTISE_DRAIN_SECONDS * 1000,
  logLevel: env.MORTISE_LOG_LEVEL,
  metrics,
  audit: {
    mapSizeBytes: env.MORTISE_AUDIT_MAP_SIZE,
    checkpointRecords: env.MORTISE_AUDIT_CHECKPOINT_RECORDS,
    checkpointSeconds: env.MORTISE_AUDIT_CHECKPOINT_SECONDS,
  },
  token: tokens.find(({ name }) => name === agent) as TokenEntry,
  tokens,
  kekLabelPrefix: env.PKCS11_KEK_LABEL_PREFIX,
  fallbackSessions: env.MORTISE_FALLBACK_SESSIONS,
  registry: registryOf(env),
  kms: kmsOf(env),
  allowRoot: env.MORTISE_ALLOW_ROOT,
  notifySocket: env.NOTIFY_SOCKET,
  watchdogMs:
    env.WATCHDOG_USEC !== undefined && [undefined, process.pid].includes(env.WATCHDOG_PID)
      ? env.WATCHDOG_USEC / 1000
      : undefined,
  listenFd: env.LISTEN_PID === process.pid && env.LISTEN_FDS === 1 ? SD_LISTEN_FDS_START : undefined,
});

const freeze = <T extends object>(value: T): T => {
  for (const part of Object.values(value)) if (typeof part === 'object' && part !== null) freeze(part);
  return Object.freeze(value);
};

/** Throws ConfigError with every problem. */
export const loadConfig = (
  raw: Readonly<Record<string, string | undefined>>,
): { readonly config: Config; readonly warnings: readonly string[] } => {
  const { environment, problems, unknown } = readEnvironment(raw);
  const secrets = plainSecrets(raw);
  const metrics = metricsAddress(environment.MORTISE_METRICS_ADDRESS);
  const wrong = new Set(problems.map(({ variable }) => variable));
  const all = [
    ...problems,
    ...secrets,
    ...contradictions(environment, metrics).filter(({ variable }) => !wrong.has(variable)),
  ];
  const tokens = tokensOf(environment, raw, all);
  if (all.length > 0) throw new ConfigError(all);
  return {
    config: freeze(build(environment, metrics, tokens)),
    warnings: warningsOf(unknown, metrics),
  };
};

/** Folder that must exist before the agent can listen. */
export const socketFolder = (config: Config): string => dirname(config.socket.path);
