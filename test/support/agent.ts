// A real agent process for tests and the demo: a throw-away SoftHSM token, a policy folder signed by a real officer, a
// data folder, a socket, and an issuer of JWTs that the policy trusts. Nothing of it survives `stop`.
import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync, randomUUID, sign } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { SCOPES } from '../../proto/documents/operations.ts';
import type { PlatformPolicy, TenantPolicy } from '../../proto/documents/policy-types.ts';
import { makePolicyFolder, type PolicyFolder } from './policy.ts';
import { makeSoftHsm, type SoftHsm } from './softhsm.ts';

const SOURCES: Program = { node: process.execPath, main: join(import.meta.dirname, '../../agent/main.ts') };
const ISSUER = 'https://issuer.test';
const AUDIENCE = 'mortise';
// The shell's process id becomes the agent's.
const AS_SYSTEMD = 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$NODE" "$MAIN" serve';
const PATIENCE_MS = 30_000; // a line that does not come fails the test rather than hang it

export interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

export interface TokenClaims {
  readonly tenant: string;
  readonly principal?: string;
  readonly scopes?: readonly string[];
  readonly lifetimeSeconds?: number;
  /** Claims that differ from those of a good token. */
  readonly claims?: Readonly<Record<string, unknown>>;
}

export interface Issuer {
  /** A signed JWT (ES256). */
  issue(claims: TokenClaims): string;
  readonly publicJwk: Readonly<Record<string, unknown>>;
}

/** What is run: this Node and the sources, or what was packaged. */
export interface Program {
  readonly node: string;
  readonly main: string;
}

export interface AgentOptions {
  readonly program?: Program;
  readonly tenants?: readonly string[];
  /** Fields of the platform policy that differ from the default template; issuers are added to. */
  readonly platform?: Partial<PlatformPolicy>;
  readonly tenantPolicies?: Readonly<Record<string, Partial<TenantPolicy>>>;
  /** Environment variables of the agent that differ. */
  readonly env?: Readonly<Record<string, string>>;
  /** Folder for the data; by default one in the agent's temporary folder. */
  readonly dataDir?: string;
  /** False where the test starts the process itself, with `start`. */
  readonly started?: boolean;
  /** Token, issuer and policy of another agent, which this one shares and does not remove. */
  readonly shared?: Pick<RunningAgent, 'token' | 'issuer' | 'policy'>;
  /** Echo the agent's log to standard error. */
  readonly echo?: boolean;
  /** What the process is started by, as `ip netns exec`: it must become the agent (exec), not have it as a child. */
  readonly launcher?: readonly string[];
}

export interface RunningAgent extends AsyncDisposable {
  readonly socket: string;
  readonly dataDir: string;
  readonly folder: string;
  readonly policy: PolicyFolder;
  readonly token: SoftHsm;
  /** Environment of the agent process, complete. */
  readonly env: Readonly<Record<string, string>>;
  readonly issuer: Issuer;
  /** Lines that the agent has logged since its first start. */
  readonly logs: readonly LogLine[];
  /** What it wrote to standard error. */
  stderr(): string;
  /** Id of the agent process; throws where it does not run. */
  readonly pid: number;
  /** Id of the present token process, from the log. */
  tokenPid(): number;
  /** Value of `authorization` for a principal of a tenant, with all scopes unless said otherwise. */
  bearer(tenant: string, claims?: Omit<TokenClaims, 'tenant'>): string;
  /** Starts the process again over the same folders; resolves when it is READY. */
  start(env?: Readonly<Record<string, string>>): Promise<void>;
  /** Spawns it without waiting; with `fd` as systemd does that hands over a listening socket. */
  spawn(env?: Readonly<Record<string, string>>, options?: { readonly fd?: number }): ChildProcess;
  /** The first line from `from` on that fits, waiting for it if need be; rejects when it does not come. */
  logged(fits: (line: LogLine) => boolean, from?: number): Promise<LogLine>;
  /** SIGTERM, or another signal; resolves with the exit code once it is gone. */
  end(signal?: NodeJS.Signals): Promise<number | null>;
  /** Ends what runs and removes everything. */
  stop(): Promise<void>;
}

/** Resolves when a process that is not our child has ended (a zombie has); there is no event for it. */
export const processGone = async (pid: number): Promise<void> => {
  const state = (): string => {
    try {
      return /\) (\S)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1] ?? '';
    } catch {
      return 'gone';
    }
  };
  while (!['gone', 'Z', 'X'].includes(state())) await sleep(5);
};

/** An ES256 key pair whose tokens the policy of `makeAgentPolicy` accepts. */
export const makeIssuer = (issuer = ISSUER): Issuer => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const kid = randomUUID();
  const segment = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  return {
    publicJwk: { ...publicKey.export({ format: 'jwk' }), kid, alg: 'ES256', use: 'sig' },
    issue: ({ tenant, principal = 'app', scopes = SCOPES, lifetimeSeconds = 600, claims = {} }) => {
      const now = Math.floor(Date.now() / 1000);
      const body = {
        iss: issuer,
        aud: AUDIENCE,
        sub: principal,
        tenant,
        scope: scopes.join(' '),
        jti: randomUUID(),
        iat: now,
        nbf: now,
        exp: now + lifetimeSeconds,
        ...claims,
      };
      const input = `${segment({ alg: 'ES256', typ: 'JWT', kid })}.${segment(body)}`;
      const signature = sign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' });
      return `${input}.${signature.toString('base64url')}`;
    },
  };
};

/** A policy folder whose platform policy trusts the issuer for all of its tenants. */
export const makeAgentPolicy = (
  issuer: Issuer,
  options: Pick<AgentOptions, 'tenants' | 'platform' | 'tenantPolicies'> & { readonly dir?: string } = {},
): Promise<PolicyFolder> => {
  const { tenants = ['acme', 'globex'], platform = {}, tenantPolicies = {}, dir } = options;
  const trusted = {
    issuer: ISSUER,
    audiences: [AUDIENCE],
    jwks: { keys: [issuer.publicJwk] },
    tenants: [...tenants, '_platform'],
    tenantClaim: 'tenant',
    scopesClaim: 'scope',
    maxLifetimeSeconds: 3600,
    singleUse: false,
  };
  return makePolicyFolder({
    tenants,
    tenantPolicies,
    ...(dir !== undefined && { dir }),
    platform: { ...platform, issuers: [trusted as never, ...(platform.issuers ?? [])] },
  });
};

/** Makes everything that an agent needs, and by default starts it and waits until it is READY. */
export const startAgent = async (options: AgentOptions = {}): Promise<RunningAgent> => {
  const folder = await mkdtemp(join(tmpdir(), 'mortise-agent-'));
  const token = options.shared?.token ?? (await makeSoftHsm());
  const issuer = options.shared?.issuer ?? makeIssuer();
  const policy = options.shared?.policy ?? (await makeAgentPolicy(issuer, options));
  const run = join(folder, 'run');
  const dataDir = options.dataDir ?? join(folder, 'data');
  await mkdir(run, { mode: 0o755 });
  const env = {
    PATH: process.env['PATH'] ?? '/usr/bin:/bin',
    ...token.env,
    MORTISE_DATA_DIR: dataDir,
    MORTISE_POLICY_DIR: policy.dir,
    MORTISE_SOCKET_PATH: join(run, 'agent.sock'),
    MORTISE_HOST_ID: 'test-host',
    MORTISE_ALLOW_ROOT: 'yes',
    PKCS11_LIBRARY_PATH: token.library,
    PKCS11_TOKEN_LABEL: token.label,
    PKCS11_PIN_FILE: token.pinFile,
    ...options.env,
  };
  const agent = new AgentProcess({
    folder,
    token,
    issuer,
    policy,
    dataDir,
    env,
    program: options.program ?? SOURCES,
    echo: options.echo ?? false,
    launcher: options.launcher ?? [],
    shares: options.shared !== undefined,
  });
  if (options.started === false) return agent;
  try {
    await agent.start();
    return agent;
  } catch (error) {
    await agent.stop();
    throw error;
  }
};

interface Parts {
  readonly program: Program;
  readonly folder: string;
  readonly token: SoftHsm;
  readonly issuer: Issuer;
  readonly policy: PolicyFolder;
  readonly dataDir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly echo: boolean;
  readonly launcher: readonly string[];
  /** Token and policy are another agent's. */
  readonly shares: boolean;
}

class AgentProcess implements RunningAgent {
  readonly folder: string;
  readonly token: SoftHsm;
  readonly issuer: Issuer;
  readonly policy: PolicyFolder;
  readonly dataDir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly logs: LogLine[] = [];
  readonly #program: Program;
  readonly #echo: boolean;
  readonly #launcher: readonly string[];
  readonly #shares: boolean;
  readonly #waiters = new Set<() => void>();
  #process: ChildProcess | undefined;
  #ended: Promise<number | null> = Promise.resolve(null);
  #stderr = '';

  constructor(parts: Parts) {
    this.folder = parts.folder;
    this.token = parts.token;
    this.issuer = parts.issuer;
    this.policy = parts.policy;
    this.dataDir = parts.dataDir;
    this.env = parts.env;
    this.#program = parts.program;
    this.#echo = parts.echo;
    this.#launcher = parts.launcher;
    this.#shares = parts.shares;
  }

  get socket(): string {
    return this.env['MORTISE_SOCKET_PATH'] as string;
  }

  get pid(): number {
    if (this.#process?.pid === undefined) throw new Error('the agent does not run');
    return this.#process.pid;
  }

  stderr(): string {
    return this.#stderr;
  }

  tokenPid(): number {
    const line = this.logs.findLast(({ msg }) => msg === 'token is ready');
    if (line === undefined) throw new Error('the token was never ready');
    return line['pid'] as number;
  }

  bearer(tenant: string, claims: Omit<TokenClaims, 'tenant'> = {}): string {
    return `Bearer ${this.issuer.issue({ tenant, ...claims })}`;
  }

  spawn(env: Readonly<Record<string, string>> = {}, { fd }: { readonly fd?: number } = {}): ChildProcess {
    const { node, main } = this.#program;
    const command = fd === undefined ? [node, main, 'serve'] : ['/bin/sh', '-c', AS_SYSTEMD];
    const [program = '', ...args] = [...this.#launcher, ...command];
    const child = spawn(program, args, {
      env: { ...this.env, ...env, NODE: node, MAIN: main },
      stdio: ['ignore', 'pipe', 'pipe', ...(fd === undefined ? [] : [fd])],
      cwd: this.folder,
    });
    this.#process = child;
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => this.#take(line));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
      if (this.#echo) process.stderr.write(text);
    });
    this.#ended = once(child, 'close').then(([code]) => {
      if (this.#process === child) this.#process = undefined;
      for (const look of this.#waiters) look();
      return code as number | null;
    });
    return child;
  }

  async start(env: Readonly<Record<string, string>> = {}): Promise<void> {
    const from = this.logs.length;
    this.spawn(env);
    await this.logged(({ msg }) => msg === 'agent is READY', from);
  }

  logged(fits: (line: LogLine) => boolean, from = 0): Promise<LogLine> {
    const { promise, resolve, reject } = Promise.withResolvers<LogLine>();
    const said = (): string =>
      `${this.logs
        .slice(-20)
        .map((line) => JSON.stringify(line))
        .join('\n')}\n${this.#stderr}`;
    const timer = setTimeout(() => {
      this.#waiters.delete(look);
      reject(new Error(`not logged within ${PATIENCE_MS} ms; the last lines are:\n${said()}`));
    }, PATIENCE_MS);
    let next = from;
    const look = (): void => {
      for (; next < this.logs.length; next += 1) {
        const line = this.logs[next] as LogLine;
        if (fits(line)) {
          this.#waiters.delete(look);
          clearTimeout(timer);
          resolve(line);
          return;
        }
      }
      if (this.#process !== undefined) return;
      this.#waiters.delete(look);
      clearTimeout(timer);
      reject(new Error(`the agent ended without the expected line:\n${said()}`));
    };
    this.#waiters.add(look);
    look();
    return promise;
  }

  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    this.#process?.kill(signal);
    return this.#ended;
  }

  async stop(): Promise<void> {
    await this.end();
    if (!this.#shares) {
      await this.token.dispose();
      await this.policy.remove();
    }
    await rm(this.folder, { recursive: true, force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  #take(text: string): void {
    if (this.#echo) process.stderr.write(`${text}\n`);
    let line: LogLine;
    try {
      line = JSON.parse(text) as LogLine;
    } catch {
      line = { level: 'none', msg: text }; // a test that looks for lines that are not JSON sees it
    }
    this.logs.push(line);
    for (const look of [...this.#waiters]) look();
  }
}
