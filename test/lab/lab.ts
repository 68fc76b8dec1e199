// A laboratory in a folder of its own: a SoftHSM token, officers, the policies of two tenants, an issuer of tokens, and
// the environment of an agent. Idempotent: what is there stays, so that keys and audit log survive from run to run.
import { execFile } from 'node:child_process';
import { createHash, generateKeyPairSync, type JsonWebKey, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { importJWK, SignJWT } from 'jose';
import { SCOPES, type Scope } from '../../proto/documents/operations.ts';
import type { Issuer, PlatformPolicy, TenantPolicy } from '../../proto/documents/policy-types.ts';

const run = promisify(execFile);

export const ROOT = join(import.meta.dirname, '../..');
export const CLI_PROGRAM = join(ROOT, 'clients/cli/main.ts');
export const AGENT_PROGRAM = join(ROOT, 'agent/main.ts');
const SOFTHSM_LIBRARY = '/usr/lib/softhsm/libsofthsm2.so';
const TOKEN_LABEL = 'mortise-lab';
const OFFICERS = ['alice', 'bob', 'carol'] as const;
const ISSUER = 'https://issuer.lab.example';
const AUDIENCE = 'mortise';
const TOKEN_SECONDS = 24 * 3600;
const COMMAND_MS = 60_000; // a command that hangs fails the set-up
// sun_path of a Unix socket has 108 bytes (unix(7)).
const MAX_SOCKET_PATH = 107;

/** The tenant of the host itself: its own status and audit log, no keys. */
const HOST = '_platform';
/** Who may do what: administrators keep keys, applications use them. */
const ROLES = {
  admin: SCOPES.filter((scope) => !scope.startsWith('crypto.')),
  app: SCOPES.filter((scope) => scope.startsWith('crypto.') || scope === 'keys.read' || scope === 'agent.status'),
  operator: ['audit.read', 'agent.status'],
} as const satisfies Record<string, readonly Scope[]>;
export type Role = Exclude<keyof typeof ROLES, 'operator'>;
export const TENANTS = ['acme', 'globex'] as const;
export type Tenant = (typeof TENANTS)[number];
const PRINCIPALS = [
  ...TENANTS.flatMap((tenant) => [{ tenant, role: 'admin' } as const, { tenant, role: 'app' } as const]),
  { tenant: HOST, role: 'operator' },
] as const;

export interface Lab {
  readonly folder: string;
  readonly socketPath: string;
  readonly metricsSocketPath: string;
  readonly dataDir: string;
  readonly policyDir: string;
  /** The environment of the agent, readable as a settings file. */
  readonly agentEnv: Readonly<Record<string, string>>;
  /** File with the JWT of a tenant's principal. */
  tokenFile(tenant: Tenant, role: Role): string;
  /** File with the JWT of the host's operator. */
  readonly operatorTokenFile: string;
}

const once = async (path: string, make: () => Promise<void>): Promise<void> => {
  if (!existsSync(path)) await make();
};

const makeToken = async (folder: string): Promise<void> => {
  const conf = join(folder, 'softhsm2.conf');
  const pin = randomBytes(12).toString('hex');
  // What a run that was cut off left behind has a PIN that nobody knows.
  await rm(join(folder, 'softhsm'), { recursive: true, force: true });
  await mkdir(join(folder, 'softhsm'), { recursive: true, mode: 0o700 });
  await writeFile(
    conf,
    `directories.tokendir = ${join(folder, 'softhsm')}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n`,
  );
  // A throw-away laboratory token: softhsm2-util takes the PIN only as an argument.
  const args = ['--init-token', '--free', '--label', TOKEN_LABEL, '--so-pin', randomBytes(12).toString('hex')];
  await run('softhsm2-util', [...args, '--pin', pin], {
    env: { PATH: '/usr/bin:/bin', SOFTHSM2_CONF: conf },
    timeout: COMMAND_MS,
  });
  await writeFile(join(folder, 'pin'), `${pin}\n`, { mode: 0o600 });
};

const makeIssuer = async (path: string): Promise<void> => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk = { ...privateKey.export({ format: 'jwk' }), kid: 'lab-1', alg: 'ES256', use: 'sig' };
  await writeFile(path, JSON.stringify(jwk), { mode: 0o600 });
};

const issuerEntry = ({ d: _, ...publicJwk }: JsonWebKey): Issuer => ({
  issuer: ISSUER,
  audiences: [AUDIENCE],
  jwks: { keys: [publicJwk as Readonly<Record<string, string>>] },
  tenants: [...TENANTS, HOST],
  tenantClaim: 'tenant',
  scopesClaim: 'scope',
  maxLifetimeSeconds: TOKEN_SECONDS,
  singleUse: false,
});

const cli = (args: readonly string[]): Promise<unknown> =>
  run(process.execPath, [CLI_PROGRAM, ...args], { timeout: COMMAND_MS });

const edit = async <P extends PlatformPolicy | TenantPolicy>(path: string, changes: Partial<P>): Promise<void> => {
  const draft = JSON.parse(await readFile(path, 'utf8')) as P;
  await writeFile(path, `${JSON.stringify({ ...draft, ...changes }, null, 2)}\n`);
};

/** As people do it: init, edit the drafts, and two of three officers sign. */
const makePolicies = async (dir: string, issuer: JsonWebKey): Promise<void> => {
  const passphrase = join(dir, 'officers.passphrase');
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await writeFile(passphrase, `${randomBytes(18).toString('base64url')}\n`, { mode: 0o600 });
  await cli([
    ...['policy', 'init', '--dir', dir, '--force', '--threshold', '2', '--passphrase-file', passphrase],
    ...TENANTS.flatMap((tenant) => ['--tenant', tenant]),
    ...OFFICERS.flatMap((officer) => ['--officer', officer]),
  ]);
  const draft = (name: string): string => join(dir, 'drafts', name);
  await edit<PlatformPolicy>(draft('platform.json'), { issuers: [issuerEntry(issuer)] });
  // acme wants no RSA of 2048 bits, globex only what it uses: each narrows the platform's policy in its own way.
  await edit<TenantPolicy>(draft('tenants/acme.json'), { algorithms: { deny: ['RSA-2048'] } });
  await edit<TenantPolicy>(draft('tenants/globex.json'), { algorithms: { allow: ['AES-256', 'EC-P256'] } });
  const signers = OFFICERS.slice(0, 2).flatMap((name) => ['--officer', join(dir, 'officers', `${name}.keys.json`)]);
  const files = ['platform.json', ...TENANTS.map((tenant) => `tenants/${tenant}.json`)];
  for (const file of files) {
    await cli(['policy', 'sign', draft(file), '--dir', dir, '--force', '--passphrase-file', passphrase, ...signers]);
  }
};

const makeTokens = async (folder: string, issuer: JsonWebKey): Promise<void> => {
  const key = await importJWK(issuer as Parameters<typeof importJWK>[0], 'ES256');
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const now = Math.floor(Date.now() / 1000);
  for (const { tenant, role } of PRINCIPALS) {
    const token = await new SignJWT({ tenant, scope: ROLES[role].join(' ') })
      .setProtectedHeader({ alg: 'ES256', kid: 'lab-1', typ: 'JWT' })
      .setIssuer(ISSUER)
      .setAudience(AUDIENCE)
      .setSubject(`${role}@${tenant}`)
      .setIssuedAt(now)
      .setNotBefore(now)
      .setExpirationTime(now + TOKEN_SECONDS)
      .setJti(randomBytes(12).toString('hex'))
      .sign(key);
    await writeFile(join(folder, `${tenant}-${role}.jwt`), `${token}\n`, { mode: 0o600 });
  }
};

/** Beside everything else where the path fits a socket, else in the folder for temporary files. */
export const socketFolder = async (folder: string): Promise<string> => {
  const near = join(folder, 'run');
  const hash = createHash('sha256').update(folder).digest('hex').slice(0, 12);
  const place = join(near, 'metrics.sock').length <= MAX_SOCKET_PATH ? near : `/tmp/mortise-lab-${hash}`;
  await mkdir(place, { recursive: true, mode: 0o700 });
  return place;
};

const agentEnvironment = (lab: Omit<Lab, 'agentEnv' | 'tokenFile' | 'operatorTokenFile'>): Record<string, string> => ({
  MORTISE_SOCKET_PATH: lab.socketPath,
  MORTISE_SOCKET_MODE: '0600',
  MORTISE_METRICS_ADDRESS: lab.metricsSocketPath,
  MORTISE_DATA_DIR: lab.dataDir,
  MORTISE_POLICY_DIR: lab.policyDir,
  MORTISE_HOST_ID: 'lab',
  MORTISE_AUDIT_MAP_SIZE: String(2 ** 30),
  ...(process.getuid?.() === 0 && { MORTISE_ALLOW_ROOT: 'yes' }),
  PKCS11_LIBRARY_PATH: SOFTHSM_LIBRARY,
  PKCS11_TOKEN_LABEL: TOKEN_LABEL,
  PKCS11_PIN_FILE: join(lab.folder, 'pin'),
  SOFTHSM2_CONF: join(lab.folder, 'softhsm2.conf'),
});

/** Makes the laboratory, or what is missing of it. Tokens of principals are always fresh. */
export const prepareLab = async (folder: string): Promise<Lab> => {
  if (!existsSync(SOFTHSM_LIBRARY)) throw new Error(`${SOFTHSM_LIBRARY} is missing: run "npm run setup" first`);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const at = (name: string): string => join(folder, name);
  await once(at('pin'), () => makeToken(folder));
  await once(at('issuer.jwk'), () => makeIssuer(at('issuer.jwk')));
  const issuer = JSON.parse(await readFile(at('issuer.jwk'), 'utf8')) as JsonWebKey;
  const lastPolicy = at(`policies/policy/tenants/${TENANTS.at(-1)}.json`);
  await once(lastPolicy, () => makePolicies(at('policies'), issuer));
  await makeTokens(at('tokens'), issuer);
  await mkdir(at('data'), { recursive: true, mode: 0o700 });
  const sockets = await socketFolder(folder);
  const lab = {
    folder,
    socketPath: join(sockets, 'agent.sock'),
    metricsSocketPath: join(sockets, 'metrics.sock'),
    dataDir: at('data'),
    policyDir: at('policies/policy'),
  };
  const agentEnv = agentEnvironment(lab);
  const settings = Object.entries(agentEnv).map(([name, value]) => `${name}=${value}\n`);
  await writeFile(at('agent.env'), settings.join(''), { mode: 0o600 });
  return {
    ...lab,
    agentEnv,
    tokenFile: (tenant, role) => at(`tokens/${tenant}-${role}.jwt`),
    operatorTokenFile: at(`tokens/${HOST}-operator.jwt`),
  };
};
