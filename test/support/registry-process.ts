// The registry's program as a process of its own, over its embedded store: made by `init`, administered through its API
// by the first administrator, killed and started again on its port.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import type { Client } from '@grpc/grpc-js';
import { fetchRoot } from '../../agent/uplink/channel.ts';
import { AdminServiceService } from '../../proto/gen/mortise/registry/v1/admin.ts';
import type { Credentials } from '../../proto/gen/mortise/registry/v1/hosts.ts';
import { connectTo, enrolWith, pemOf, reasonOf, unary } from './registry-client.ts';

const MAIN = join(import.meta.dirname, '../../registry/main.ts');
const PATIENCE_MS = 30_000;

const SCOPES = [
  'tenants.manage',
  'hosts.read',
  'hosts.manage',
  'policy.read',
  'policy.publish',
  'catalog.read',
  'catalog.rebuild',
  'audit.read',
  'audit.read-any',
  'registry.status',
];

export class RegistryProcess implements AsyncDisposable {
  readonly folder: string;
  readonly #env: Record<string, string>;
  readonly #listens: string;
  /** Lines that it has logged since its first start. */
  readonly logs: Readonly<Record<string, unknown>>[] = [];
  #process: ChildProcess | undefined;
  #ended: Promise<void> = Promise.resolve();
  #port = 0;
  #admin: Client | undefined;
  #pinned: Credentials | undefined;

  private constructor(folder: string, env: Readonly<Record<string, string>>) {
    this.folder = folder;
    this.#listens = env['REGISTRY_LISTEN_ADDRESS']?.split(':')[0] ?? '127.0.0.1';
    this.#env = {
      PATH: process.env['PATH'] ?? '/usr/bin:/bin',
      REGISTRY_AUTHORITY_DIR: join(folder, 'authority'),
      REGISTRY_DATA_DIR: join(folder, 'data'),
      REGISTRY_HEARTBEAT_SECONDS: '1',
      REGISTRY_REFRESH_SECONDS: '1',
      REGISTRY_ALLOW_ROOT: 'yes',
      ...env,
    };
  }

  /** A registry of this trust anchor, with its first administrator, serving. */
  static async make(trustAnchor: string, env: Readonly<Record<string, string>> = {}): Promise<RegistryProcess> {
    const registry = new RegistryProcess(await mkdtemp(join(tmpdir(), 'mortise-registry-')), env);
    try {
      await registry.#init(trustAnchor);
      return registry;
    } catch (error) {
      await registry[Symbol.asyncDispose]();
      throw error;
    }
  }

  get url(): string {
    return `https://localhost:${this.#port}`;
  }

  /** What was pinned when the administrator was enrolled: roots, sealing key, cosigner. */
  get pinned(): Credentials {
    if (this.#pinned === undefined) throw new Error('the registry has no administrator yet');
    return this.#pinned;
  }

  /** host:port, as the command line takes it. */
  get address(): string {
    return `localhost:${this.#port}`;
  }

  /** A one-time token of an administrator called "person", for the command line. */
  get tokenFile(): string {
    return join(this.folder, 'person.token');
  }

  get admin(): Client {
    if (this.#admin === undefined) throw new Error('the registry has no administrator yet');
    return this.#admin;
  }

  /** A one-time token for a host; tenants are made where they are not there. */
  async admit(host: string, tenants: readonly string[]): Promise<string> {
    for (const tenant of tenants) {
      await unary(this.admin, AdminServiceService.createTenant, { tenant, displayName: '' });
    }
    const request = { host, tenants: [...tenants], tokenSeconds: 600, bringsCertificate: false, reinstate: false };
    const { token } = await unary(this.admin, AdminServiceService.createHost, request);
    return token?.token ?? '';
  }

  async publish(jws: Buffer): Promise<void> {
    await unary(this.admin, AdminServiceService.publishPolicy, { jws, acceptConflicts: false });
  }

  async revoke(host: string, reason: string): Promise<void> {
    await unary(this.admin, AdminServiceService.revokeHost, { host, reason });
  }

  /** `env`: what differs at this start. */
  async start({ env: own = {} }: { readonly env?: Readonly<Record<string, string>> } = {}): Promise<void> {
    const env = { ...this.#env, REGISTRY_LISTEN_ADDRESS: `${this.#listens}:${this.#port}`, ...own };
    const child = spawn(process.execPath, [MAIN, 'serve'], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#process = child;
    let said = '';
    this.#ended = new Promise((resolve) => child.once('close', () => resolve()));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const patience = setTimeout(() => reject(new Error(`the registry was not READY:\n${said}`)), PATIENCE_MS);
    void this.#ended.then(() => reject(new Error(`the registry ended:\n${said}`)));
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (text) => {
      said += `${text}\n`;
      const line = JSON.parse(text) as { msg?: string; address?: string };
      this.logs.push(line);
      if (line.msg === 'registry is READY') resolve(Number(line.address?.split(':').at(-1)));
    });
    try {
      this.#port = await promise;
    } finally {
      clearTimeout(patience);
    }
  }

  /** Where its store is. */
  get dataDir(): string {
    return join(this.folder, 'data');
  }

  /** PEM. */
  get roots(): readonly string[] {
    return this.pinned.registryRoots.map(pemOf);
  }

  get port(): number {
    return this.#port;
  }

  get pid(): number {
    if (this.#process?.pid === undefined) throw new Error('the registry does not run');
    return this.#process.pid;
  }

  /** Stops it as if it hung, or lets it go on. */
  hang(hangs: boolean): void {
    this.#process?.kill(hangs ? 'SIGSTOP' : 'SIGCONT');
  }

  /** Another replica of it, over the same database and authority. */
  async replica(name: string): Promise<RegistryProcess> {
    const replica = new RegistryProcess(await mkdtemp(join(tmpdir(), 'mortise-registry-')), {
      ...this.#env,
      REGISTRY_REPLICA: name,
    });
    await replica.start();
    return replica;
  }

  /** Kills it, or ends it by another signal; resolves when it is gone. */
  async stop(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.#process?.kill(signal);
    await this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#admin?.close();
    await this.stop();
    await rm(this.folder, { recursive: true, force: true });
  }

  async #init(trustAnchor: string): Promise<void> {
    const tokenFile = join(this.folder, 'admin-token');
    const args = ['init', '--trust-domain', 'registry.test', '--trust-anchor', trustAnchor, '--token-file', tokenFile];
    await this.#run(args);
    await this.#serveWith(tokenFile);
  }

  async #run(args: readonly string[]): Promise<void> {
    await promisify(execFile)(process.execPath, [MAIN, ...args], { env: this.#env, timeout: PATIENCE_MS });
  }

  /**
   * Loses the store (the folder, or what `lose` puts in its place): the authority stays, and with it the root; administrators,
   * tenants and hosts are to be made anew.
   */
  async loseStore(lose = () => rm(this.dataDir, { recursive: true })): Promise<void> {
    await this.stop();
    this.#admin?.close();
    await lose();
    await rm(this.tokenFile, { force: true });
    const tokenFile = join(this.folder, 'first-admin-token');
    await rm(tokenFile, { force: true });
    await this.#run(['first-admin', '--token-file', tokenFile]);
    await this.#serveWith(tokenFile);
  }

  async #serveWith(tokenFile: string): Promise<void> {
    await this.start();
    const token = (await readFile(tokenFile, 'utf8')).trim();
    const sha256 = Buffer.from(token.split('.').at(-1) ?? '', 'base64url');
    const root = await fetchRoot({ host: 'localhost', port: this.#port }, { sha256, requireHybrid: true });
    const first = await enrolWith(this.#port, { token, roots: [root] });
    const asRoot = connectTo(this.#port, first);
    try {
      // The first administrator manages administrators; who runs the registry's business is another.
      const name = 'operator';
      const request = { name, scopes: SCOPES, tenants: [], tokenSeconds: 600 };
      const made = await unary(asRoot, AdminServiceService.createAdmin, request).catch((error: unknown) => {
        throw new Error(`no administrator: ${reasonOf(error)}`, { cause: error });
      });
      const operator = await enrolWith(this.#port, { token: made.token?.token ?? '', roots: [root] });
      this.#admin = connectTo(this.#port, operator);
      this.#pinned = operator.response.credentials;
      const person = await unary(asRoot, AdminServiceService.createAdmin, { ...request, name: 'person' });
      await writeFile(this.tokenFile, person.token?.token ?? '', { mode: 0o600 });
    } finally {
      asRoot.close();
    }
  }
}
