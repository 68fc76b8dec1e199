// The one table of environment variables: name, kind, range, default, meaning. docs/registry.md prints it and a test
// compares the two. Invariant: process.env is read nowhere else in the registry, and a secret is never a variable.
import { str } from 'envalid';
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
} from '../../agent/config/settings.ts';

const ADDRESS = matching(
  /^([A-Za-z0-9.-]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5})$/,
  'must be "host:port", such as 0.0.0.0:7443',
);
const METRICS_ADDRESS = matching(
  /^(\/[^\0]{1,106}|[A-Za-z0-9.-]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5})$/,
  'must be "host:port", such as 127.0.0.1:9465, or the absolute path of a Unix socket',
);
const REPLICA = matching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, 'must be 1 to 63 of A-Z a-z 0-9 . _ -, no dot first');
const NAMES = matching(
  /^[A-Za-z0-9.:-]{1,253}(\s*,\s*[A-Za-z0-9.:-]{1,253}){0,31}$/,
  'must be DNS names and IP addresses with commas between',
);

const GIB = 1024 ** 3;
const DAY = 86_400;

/** An example is shown where there is no default. The text names the range; the validator enforces it. */
const SPECS = {
  REGISTRY_LISTEN_ADDRESS: ADDRESS({
    default: '0.0.0.0:7443',
    desc: 'Where agents and administrators connect: host:port. Port 0 takes any that is free.',
  }),
  REGISTRY_NAMES: NAMES({
    default: undefined,
    example: 'registry.example.com',
    desc: "DNS names and IP addresses that clients reach the registry by; they go into its certificate. Where not set: the machine's name, localhost, 127.0.0.1 and ::1.",
  }),
  REGISTRY_AUTHORITY_DIR: ABSOLUTE_PATH({
    default: '/var/lib/mortise-registry/authority',
    desc: 'Folder that `init` makes: CA, sealing and countersigning keys, trust anchor. Mode 0700. The same for all replicas.',
  }),
  REGISTRY_DATA_DIR: ABSOLUTE_PATH({
    default: '/var/lib/mortise-registry/data',
    desc: 'Folder of the embedded store. Mode 0700. Unused with PostgreSQL.',
  }),
  REGISTRY_DATABASE_URL_FILE: ABSOLUTE_PATH({
    default: undefined,
    example: '/etc/mortise/database-url',
    desc: 'File with the URL of a PostgreSQL database, password included. Where not set: the systemd credential "database-url" if there is one, else the embedded store.',
  }),
  REGISTRY_STORE_MAP_SIZE: integer({ min: 2 ** 20, max: 4096 * GIB })({
    default: 64 * GIB,
    desc: 'Largest size of the embedded store in bytes; address space, not memory. 1048576 to 4398046511104.',
  }),
  REGISTRY_REPLICA: REPLICA({
    default: undefined,
    example: 'the host name',
    desc: "Name of this replica in the registry's own audit log and in the list of hosts. Different on each replica.",
  }),
  REGISTRY_REQUIRE_HYBRID_TLS: flag({
    default: false,
    desc: 'Whether clients that do not offer X25519MLKEM768 are refused. Without it the group is preferred.',
  }),
  REGISTRY_TLS_CERTIFICATE_FILE: ABSOLUTE_PATH({
    default: undefined,
    example: '/etc/mortise/registry.pem',
    desc: "PEM chain of a server certificate of your own, root last. Where not set the registry's CA issues one at each start.",
  }),
  REGISTRY_TLS_KEY_FILE: ABSOLUTE_PATH({
    default: undefined,
    example: '/etc/mortise/registry.key',
    desc: 'File with the private key of REGISTRY_TLS_CERTIFICATE_FILE, PEM. Where not set: the systemd credential "registry-tls-key".',
  }),
  REGISTRY_CLIENT_ROOTS_FILE: ABSOLUTE_PATH({
    default: undefined,
    example: '/etc/mortise/client-roots.pem',
    desc: 'PEM of CAs whose certificates hosts may bring, with the SPIFFE id of the host as URI SAN.',
  }),
  REGISTRY_HOST_CERTIFICATE_SECONDS: integer({ min: 60, max: 90 * DAY })({
    default: DAY,
    desc: 'Life of a host certificate; it is renewed after two thirds of it. 60 to 7776000.',
  }),
  REGISTRY_ADMIN_CERTIFICATE_SECONDS: integer({ min: 60, max: 90 * DAY })({
    default: 30 * DAY,
    desc: "Life of an administrator's certificate. 60 to 7776000.",
  }),
  REGISTRY_HEARTBEAT_SECONDS: integer({ min: 1, max: 300 })({
    default: 10,
    desc: 'How often a host says that it is alive; one that is silent for three times as long counts as gone. 1 to 300.',
  }),
  REGISTRY_REFRESH_SECONDS: integer({ min: 1, max: 300 })({
    default: 10,
    desc: 'How often hosts are told that their policies still are the newest. 1 to 300.',
  }),
  REGISTRY_MAX_CONNECTIONS: integer({ min: 1, max: 65_536 })({
    default: 4096,
    desc: 'Connections open at once. 1 to 65536.',
  }),
  REGISTRY_MAX_CONNECTIONS_PER_CLIENT: integer({ min: 1, max: 1024 })({
    default: 16,
    desc: 'Connections open at once of one host or administrator, or of one address without a certificate. 1 to 1024.',
  }),
  REGISTRY_REFLECTION: flag({ default: true, desc: 'Whether the gRPC reflection service is offered.' }),
  REGISTRY_DRAIN_SECONDS: integer({ min: 1, max: 600 })({
    default: 20,
    desc: 'After SIGTERM, how long calls in flight may take. Streams end at once. 1 to 600.',
  }),
  REGISTRY_LOG_LEVEL: str({
    default: 'info',
    choices: ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'],
    desc: 'Least severe level that is logged. "debug" logs every call.',
  }),
  REGISTRY_METRICS_ADDRESS: METRICS_ADDRESS({
    default: undefined,
    example: '127.0.0.1:9465',
    desc: 'Where metrics are served over HTTP: host:port or the path of a Unix socket. Off where not set. It has no authentication: keep it local.',
  }),
  REGISTRY_ALLOW_ROOT: flag({
    default: false,
    desc: 'Whether the registry may run as root. For tests and trials only.',
  }),
  ...SYSTEMD,
};

export type VariableName = keyof typeof SPECS;
export type Environment = Settings<typeof SPECS>;

export const variables = (): readonly Variable<VariableName>[] => variablesOf(SPECS);

/** Reads the environment; what is wrong is in `problems`. */
export const readEnvironment = (raw: Readonly<Record<string, string | undefined>>) =>
  readSettings(SPECS, raw, /^REGISTRY_/);

/** The environment of this process. */
export const processEnvironment = (): Readonly<Record<string, string | undefined>> => process.env;

export const defaultReplica = (): string => machineName('registry');
