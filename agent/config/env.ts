// The one table of environment variables: name, kind, range, default, meaning. docs/configuration.md prints it and a
// test compares the two. Invariant: process.env is read nowhere else in the agent, and a secret is never a variable.
import { makeValidator, str } from 'envalid';
import {
  ABSOLUTE_PATH,
  flag,
  integer,
  machineName,
  matching,
  readSettings,
  type Settings,
  SYSTEMD,
  type Variable,
  variablesOf,
} from './settings.ts';

// sun_path of a Unix socket holds 108 bytes with the closing zero (unix(7)).
const SOCKET_PATH = matching(/^\/[^\0]{1,106}$/, 'must be an absolute path of at most 107 bytes');
const HOST_ID = matching(/^[A-Za-z0-9]([A-Za-z0-9._-]{0,62})$/, 'must be 1 to 63 of A-Z a-z 0-9 . _ -, no dot first');
const MODE = matching(/^0?[0-7]{3}$/, 'must be three octal digits, such as 0660');
const GROUP = matching(/^([a-z_][a-z0-9_-]{0,31}|\d{1,10})$/, 'must be a group name or a group id');
const LABEL = matching(/^[\x20-\x7e]{1,32}$/, 'must be 1 to 32 printable ASCII characters (CK_TOKEN_INFO)');
const MECHANISMS = matching(/^CKM_[A-Z0-9_]+(\s*,\s*CKM_[A-Z0-9_]+)*$/, 'must be CKM_ names with commas between');
const ADDRESS = matching(
  /^(\/[^\0]{1,106}|[A-Za-z0-9.-]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5})$/,
  'must be "host:port", such as 127.0.0.1:9464, or the absolute path of a Unix socket',
);

const REGISTRY_URL = matching(
  /^https:\/\/([A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:]+\]):\d{1,5}(,https:\/\/([A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:]+\]):\d{1,5}){0,15}$/,
  'must be "https://host:port", of several replicas with commas between',
);

const TENANT = matching(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be a tenant: 1 to 63 of a-z 0-9 -, no hyphen first');
const KEY_ID = matching(/^[a-z0-9][a-z0-9._-]{0,63}$/, 'must be a key id: 1 to 64 of a-z 0-9 . _ -');
const PEERS = matching(
  /^(uid|gid):\d{1,10}(,(uid|gid):\d{1,10}){0,31}$/,
  'must be "uid:<number>" or "gid:<number>", of several with commas between',
);

/** A JSON list of strings, the first an absolute path. */
export const parseCommand = (input: string): readonly string[] | undefined => {
  let words: unknown;
  try {
    words = JSON.parse(input);
  } catch {
    return undefined;
  }
  const isWord = (word: unknown): boolean => typeof word === 'string' && word.length <= 4096 && !word.includes('\0');
  const isCommand = Array.isArray(words) && words.length >= 1 && words.length <= 64 && words.every(isWord);
  return isCommand && (words as string[])[0]?.startsWith('/') ? (words as string[]) : undefined;
};
const COMMAND = makeValidator<string>((input) => {
  if (parseCommand(input) === undefined) {
    throw new TypeError('must be a JSON list of strings, of which the first is the absolute path of a program');
  }
  return input;
});

const GIB = 1024 ** 3;
export const DEFAULT_DATA_DIR = '/var/lib/mortise';

/** An example is shown where there is no default. `range` is for people; the validator enforces it. */
const SPECS = {
  MORTISE_DATA_DIR: ABSOLUTE_PATH({
    default: DEFAULT_DATA_DIR,
    desc: 'Folder of key records, policy cache, replay memory and audit log. Mode 0700, owned by the agent.',
  }),
  MORTISE_POLICY_DIR: ABSOLUTE_PATH({
    default: '/etc/mortise/policy',
    desc: 'Folder of the signed policies: platform.json and tenants/<tenant>.json.',
  }),
  MORTISE_TRUST_ANCHOR: ABSOLUTE_PATH({
    default: undefined,
    example: '<MORTISE_POLICY_DIR>/trust-anchor.json',
    desc: 'File with the public keys and the threshold of the policy officers.',
  }),
  MORTISE_HOST_ID: HOST_ID({
    default: undefined,
    example: 'the host name',
    desc: "Name of this host in audit records and in the labels of the agent's own token objects. Never change it on a host with data.",
  }),
  MORTISE_SOCKET_PATH: SOCKET_PATH({
    default: '/run/mortise/agent.sock',
    desc: 'Where the agent listens. The folder must exist.',
  }),
  MORTISE_SOCKET_MODE: MODE({ default: '0660', desc: 'Mode of the socket: who may write to it may connect.' }),
  MORTISE_SOCKET_GROUP: GROUP({
    default: undefined,
    example: 'mortise',
    desc: 'Group of the socket. The agent must be root or a member of it.',
  }),
  MORTISE_MAX_CONNECTIONS: integer({ min: 1, max: 65_536 })({
    default: 1024,
    desc: 'Connections open at once. 1 to 65536.',
  }),
  MORTISE_MAX_CONNECTIONS_PER_UID: integer({ min: 1, max: 65_536 })({
    default: 256,
    desc: 'Connections open at once of one user id. 1 to 65536.',
  }),
  MORTISE_MAX_STREAMS: integer({ min: 1, max: 10_000 })({
    default: 128,
    desc: 'Calls open at once on one connection. 1 to 10000.',
  }),
  MORTISE_PIPELINE_WINDOW: integer({ min: 1, max: 4096 })({
    default: 256,
    desc: 'Operations in flight at once on one Pipeline stream. 1 to 4096.',
  }),
  MORTISE_DEFAULT_DEADLINE_MS: integer({ min: 10, max: 600_000 })({
    default: 30_000,
    desc: 'Deadline of a call that brings none. 10 to 600000.',
  }),
  MORTISE_MAX_DEADLINE_MS: integer({ min: 10, max: 600_000 })({
    default: 120_000,
    desc: 'Longer deadlines are cut to this. 10 to 600000, not below MORTISE_DEFAULT_DEADLINE_MS.',
  }),
  MORTISE_MAX_STREAM_SECONDS: integer({ min: 1, max: 604_800 })({
    default: 3600,
    desc: 'Longest life of a stream (EncryptStream and its like, TailRecords). 1 to 604800.',
  }),
  MORTISE_STREAM_IDLE_SECONDS: integer({ min: 1, max: 3600 })({
    default: 30,
    desc: 'A stream of data on which the client sends nothing for this long is ended. 1 to 3600.',
  }),
  MORTISE_STREAMS_PER_TENANT: integer({ min: 1, max: 10_000 })({
    default: 16,
    desc: 'Streams of data open at once for one tenant; each may hold 5 MiB. 1 to 10000.',
  }),
  MORTISE_MAX_STREAM_BYTES: integer({ min: 1, max: 999_999_999_999_999 })({
    default: 64 * 1024 * GIB,
    desc: 'Most data that one stream may bring, in bytes. 1 to 999999999999999.',
  }),
  MORTISE_REFLECTION: flag({ default: true, desc: 'Whether the gRPC reflection service is offered.' }),
  MORTISE_DRAIN_SECONDS: integer({ min: 1, max: 600 })({
    default: 20,
    desc: 'After SIGTERM, how long calls in flight may take. The agent is gone at the latest 10 seconds later. 1 to 600.',
  }),
  MORTISE_LOG_LEVEL: str({
    default: 'info',
    choices: ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'],
    desc: 'Least severe level that is logged. "debug" logs every operation.',
  }),
  MORTISE_METRICS_ADDRESS: ADDRESS({
    default: undefined,
    example: '127.0.0.1:9464',
    desc: 'Where metrics are served over HTTP: host:port or the path of a Unix socket. Off where not set. It has no authentication: keep it local.',
  }),
  MORTISE_AUDIT_MAP_SIZE: integer({ min: 2 ** 20, max: 1024 * GIB })({
    default: 16 * GIB,
    desc: 'Largest size of the audit store in bytes; address space, not memory. 1048576 to 1099511627776.',
  }),
  MORTISE_AUDIT_CHECKPOINT_RECORDS: integer({ min: 1, max: 1_000_000 })({
    default: 1000,
    desc: 'A signed checkpoint at the latest after this many records of a tenant. 1 to 1000000.',
  }),
  MORTISE_AUDIT_CHECKPOINT_SECONDS: integer({ min: 1, max: 3600 })({
    default: 60,
    desc: 'A signed checkpoint at the latest this long after a record. 1 to 3600.',
  }),
  MORTISE_POLICY_POLL_MS: integer({ min: 0, max: 3_600_000 })({
    default: 30_000,
    desc: 'How often the policy folder is read again; changes are also noticed at once and on SIGHUP. 0 never polls.',
  }),
  MORTISE_REGISTRY_URL: REGISTRY_URL({
    default: undefined,
    example: 'https://registry.example.com:7443',
    desc: 'The registry that policy and keys come from and records go to; replicas with commas between. Not set: the agent stands alone.',
  }),
  MORTISE_REGISTRY_DIR: ABSOLUTE_PATH({
    default: undefined,
    example: '<MORTISE_DATA_DIR>/registry',
    desc: "Folder of the host's credentials for the registry, as `agent enrol` writes it. Mode 0700.",
  }),
  MORTISE_REGISTRY_CERTIFICATE_FILE: ABSOLUTE_PATH({
    default: undefined,
    example: '/etc/mortise/tls.crt',
    desc: 'Certificate chain of a host that brings its own, in PEM; read again once a minute. Needs MORTISE_REGISTRY_KEY_FILE.',
  }),
  MORTISE_REGISTRY_KEY_FILE: ABSOLUTE_PATH({
    default: undefined,
    example: '/etc/mortise/tls.key',
    desc: 'Private key of that certificate, in PEM, mode 0400.',
  }),
  MORTISE_REGISTRY_REQUIRE_HYBRID: flag({
    default: true,
    desc: 'Whether the connection to the registry must use the key agreement X25519MLKEM768.',
  }),
  MORTISE_FALLBACK_SESSIONS: integer({ min: 0, max: 256 })({
    default: 2,
    desc: "Sessions of each token, that of the login included, that are kept once the registry's lease of them is over; also what an agent starts with while it does not know whether there is a budget. Below 2 the token is not used until the registry answers. 0 to 256.",
  }),
  MORTISE_KMS_SOCKET_PATH: SOCKET_PATH({
    default: undefined,
    example: '/run/mortise-kms/kms.sock',
    desc: 'Where the plugin for the Kubernetes API server (KMS v2) listens; a folder of its own is best. Off where not set.',
  }),
  MORTISE_KMS_SOCKET_GROUP: GROUP({
    default: undefined,
    example: 'kube-apiserver',
    desc: 'Group of that socket, for an API server that is not root. Its mode is 0660.',
  }),
  MORTISE_KMS_TENANT: TENANT({
    default: undefined,
    example: 'kubernetes',
    desc: 'Tenant of the key that the plugin encrypts with.',
  }),
  MORTISE_KMS_KEY: KEY_ID({
    default: undefined,
    example: 'etcd',
    desc: 'Id of that key. Once it has been another, do not set it back without rotating the key first.',
  }),
  MORTISE_KMS_PEERS: PEERS({
    default: undefined,
    example: 'uid:0',
    desc: 'Who may call the plugin: user and primary group ids of API servers, with commas between.',
  }),
  MORTISE_ALLOW_ROOT: flag({ default: false, desc: 'Whether the agent may run as root. For tests and trials only.' }),
  MORTISE_TOKENS_FILE: ABSOLUTE_PATH({
    default: undefined,
    example: '/etc/mortise/tokens.json',
    desc: 'The tokens of a host that has several, and which tenant is on which, as JSON (docs/hsm.md). In place of the PKCS11_ variables, but for PKCS11_KEK_LABEL_PREFIX.',
  }),
  PKCS11_LIBRARY_PATH: ABSOLUTE_PATH({
    default: '/usr/lib/softhsm/libsofthsm2.so',
    desc: 'The PKCS#11 module of the token. Only the token process loads it.',
  }),
  PKCS11_TOKEN_LABEL: LABEL({
    default: undefined,
    example: 'mortise',
    desc: 'Label of the token. Preferred over PKCS11_SLOT_INDEX: slot numbers move.',
  }),
  PKCS11_SLOT_INDEX: integer({ min: 0, max: 10_000 })({
    default: 0,
    desc: 'Which of the slots with a token, counted from 0. Only where PKCS11_TOKEN_LABEL is not set.',
  }),
  PKCS11_PIN_FILE: ABSOLUTE_PATH({
    default: undefined,
    example: '/etc/mortise/pin',
    desc: 'File with the PIN of the token\'s user. Where not set: the systemd credential "pkcs11-pin".',
  }),
  PKCS11_PIN_COMMAND: COMMAND({
    default: undefined,
    example: '["/usr/local/bin/read-pin","hsm"]',
    desc: 'A program that writes the PIN to its standard output, with its arguments, as a JSON list. In place of PKCS11_PIN_FILE.',
  }),
  PKCS11_PIN_COMMAND_SECONDS: integer({ min: 1, max: 120 })({
    default: 10,
    desc: 'Longest time that PKCS11_PIN_COMMAND may take. 1 to 120.',
  }),
  PKCS11_KEK_LABEL_PREFIX: matching(
    /^[A-Za-z0-9:._-]{1,64}$/,
    'must be 1 to 64 of A-Z a-z 0-9 : . _ -',
  )({
    default: 'mortise:kek:tenant',
    desc: 'Label of a tenant\'s key encryption key, before ":<tenant>:v<n>". Never change it on a token with keys.',
  }),
  PKCS11_SESSION_POOL_SIZE: integer({ min: 1, max: 256 })({
    default: 10,
    desc: 'Most sessions of the token, and so most calls in it at once. 1 to 256.',
  }),
  PKCS11_SESSION_TIMEOUT_SECONDS: integer({ min: 1, max: 600 })({
    default: 30,
    desc: 'Longest wait for a free session; a shorter deadline of the call comes first. 1 to 600.',
  }),
  PKCS11_CALL_SECONDS: integer({ min: 1, max: 600 })({
    default: 10,
    desc: 'Longest time of one call in the library, after which the token process is killed and started again; key generation may take twelve times as long. 1 to 600.',
  }),
  PKCS11_START_SECONDS: integer({ min: 1, max: 600 })({
    default: 30,
    desc: 'Longest time from the start of the token process to its login and self-test. 1 to 600.',
  }),
  PKCS11_RECOVERY_SECONDS: integer({ min: 1, max: 600 })({
    default: 2,
    desc: 'How soon a token that is back serves again: it is looked for every 0.15 to 0.3 of this, at random, without logging in. Higher where many hosts share an HSM. 1 to 600.',
  }),
  PKCS11_DISABLED_MECHANISMS: MECHANISMS({
    default: undefined,
    example: 'CKM_AES_GCM',
    desc: 'Mechanisms that the agent must not use although the token lists them, with commas between.',
  }),
  LISTEN_PID: integer({ min: 1, max: 2 ** 31 })({
    default: undefined,
    example: 'set by systemd',
    desc: 'Process that LISTEN_FDS is for (socket activation, sd_listen_fds(3)). Set by systemd.',
  }),
  LISTEN_FDS: integer({ min: 1, max: 1 })({
    default: undefined,
    example: 'set by systemd',
    desc: 'Number of sockets handed over; the agent takes one, in place of MORTISE_SOCKET_PATH. Set by systemd.',
  }),
  ...SYSTEMD,
};

export type VariableName = keyof typeof SPECS;
export type Environment = Settings<typeof SPECS>;

export const variables = (): readonly Variable<VariableName>[] => variablesOf(SPECS);

/** Reads the environment; what is wrong is in `problems`. */
export const readEnvironment = (raw: Readonly<Record<string, string | undefined>>) =>
  readSettings(SPECS, raw, /^(MORTISE|PKCS11)_/);

/** The environment of this process. */
export const processEnvironment = (): Readonly<Record<string, string | undefined>> => process.env;

export const defaultHostId = (): string => machineName('host');
