// The registry's services in this process, as far as an agent needs them: real TLS and gRPC, state in memory. Tests stop
// and start it on its port, and see what hosts have handed in and told.
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  status,
} from '@grpc/grpc-js';
import {
  type Credentials,
  type EnrolRequest,
  type HeartbeatRequest,
  type HeartbeatResponse,
  HostsServiceService,
  type RenewRequest,
} from '../../proto/gen/mortise/registry/v1/hosts.ts';
import {
  type AppendRequest,
  type AppendResponse,
  LedgerServiceService,
} from '../../proto/gen/mortise/registry/v1/ledger.ts';
import {
  PoliciesServiceService,
  type SignedPolicy,
  type WatchPoliciesRequest,
  type WatchPoliciesResponse,
} from '../../proto/gen/mortise/registry/v1/policies.ts';
import { type FakeHost, refusal, unary, unimplemented } from './registry-answers.ts';
import { type Authority, derOf, makeAuthority, TRUST_DOMAIN } from './registry-authority.ts';
import { FakeCatalog } from './registry-catalog.ts';
import { FakeLedger } from './registry-ledger.ts';
import { parsePolicyJws } from './registry-policy.ts';

type Beat = ServerDuplexStream<HeartbeatRequest, HeartbeatResponse>;

export class FakeRegistry implements AsyncDisposable {
  readonly ledger = new FakeLedger();
  readonly catalog = new FakeCatalog();
  readonly authority: Authority;
  readonly hosts = new Map<string, FakeHost>();
  /** From when on hosts are told to renew, milliseconds from the issue. */
  renewAfterMs = 3_600_000;
  readonly #folder: string;
  readonly #anchor: Buffer;
  readonly #policies = new Map<string, SignedPolicy>();
  readonly #watchers = new Set<ServerWritableStream<WatchPoliciesRequest, WatchPoliciesResponse>>();
  readonly #beats = new Map<string, Beat>();
  readonly #waiters: (() => void)[] = [];
  #server: Server | undefined;
  #port = 0;

  private constructor(folder: string, authority: Authority, anchor: Buffer) {
    this.#folder = folder;
    this.authority = authority;
    this.#anchor = anchor;
  }

  static async make(anchor: Buffer): Promise<FakeRegistry> {
    const folder = await mkdtemp(join(tmpdir(), 'mortise-registry-'));
    const registry = new FakeRegistry(folder, await makeAuthority(folder), anchor);
    await registry.start();
    return registry;
  }

  get url(): string {
    return `https://localhost:${this.#port}`;
  }

  get folder(): string {
    return this.#folder;
  }

  /** A one-time token for a host. */
  admit(host: string, tenants: readonly string[]): string {
    const root = createHash('sha256').update(derOf(this.authority.rootPem)).digest('base64url');
    const token = `mortise-enrol-v1.${randomBytes(6).toString('base64url')}.${randomBytes(24).toString('base64url')}.${root}`;
    this.hosts.set(host, { tenants: [...tenants].sort(), token, revoked: undefined, told: [] });
    return token;
  }

  publish(jws: Buffer): void {
    const policy = parsePolicyJws(jws);
    this.#policies.set(policy.tenant, policy);
    for (const watcher of this.#watchers) watcher.write(this.#update([policy]));
  }

  revoke(host: string, reason: string): void {
    const entry = this.hosts.get(host);
    if (entry !== undefined) entry.revoked = reason;
    this.#beats.get(host)?.write({ command: { $case: 'revoked', value: { reason } } });
    this.#beats.get(host)?.end();
  }

  tellToRenew(host: string): void {
    this.#beats.get(host)?.write({ command: { $case: 'renew', value: { reason: 'test' } } });
  }

  isConnected(host: string): boolean {
    return this.#beats.has(host);
  }

  /** Resolves when `fits` holds; looked at after each heartbeat. */
  async until(fits: () => boolean, what: string): Promise<void> {
    const patience = AbortSignal.timeout(30_000);
    while (!fits()) {
      await new Promise<void>((resolve, reject) => {
        this.#waiters.push(resolve);
        patience.addEventListener('abort', () => reject(new Error(`the registry never heard: ${what}`)), {
          once: true,
        });
      });
    }
  }

  async start(): Promise<void> {
    const { rootPem, server } = this.authority;
    const pair = { private_key: Buffer.from(server.key), cert_chain: Buffer.from(server.chain) };
    const credentials = ServerCredentials.createSsl(Buffer.from(rootPem), [pair], true);
    // Who enrols has no certificate yet: each call looks for itself.
    Object.assign(credentials, { _getConstructorOptions: () => ({ requestCert: true, rejectUnauthorized: false }) });
    const grpc = new Server({ 'grpc.max_receive_message_length': 5 * 1024 * 1024 });
    this.#serve(grpc);
    this.#port = await new Promise<number>((resolve, reject) => {
      grpc.bindAsync(`127.0.0.1:${this.#port}`, credentials, (error, port) => (error ? reject(error) : resolve(port)));
    });
    this.#server = grpc;
  }

  /** As killed: connections are cut. */
  stop(): void {
    this.#server?.forceShutdown();
    this.#server = undefined;
    this.#watchers.clear();
    this.#beats.clear();
    this.catalog.disconnect();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stop();
    await rm(this.#folder, { recursive: true, force: true });
  }

  #serve(grpc: Server): void {
    grpc.addService(HostsServiceService, {
      enrol: unary((call: ServerUnaryCall<EnrolRequest, unknown>) => this.#enrol(call.request)),
      renew: unary(async (call: ServerUnaryCall<RenewRequest, unknown>) => {
        const { host, entry } = this.#who(call);
        void entry;
        return { credentials: await this.#credentials(host, call.request.certificateRequest) };
      }),
      heartbeat: (call: Beat) => this.#beat(call),
    });
    grpc.addService(PoliciesServiceService, {
      watchPolicies: (call: ServerWritableStream<WatchPoliciesRequest, WatchPoliciesResponse>) => {
        const who = this.#admitStream(call);
        if (who === undefined) return;
        const wanted = [...this.#policies.values()].filter(
          ({ tenant }) => tenant === '_platform' || who.entry.tenants.includes(tenant),
        );
        const known = new Map(call.request.known.map((row) => [row.tenant, row.digest]));
        call.write(this.#update(wanted.filter(({ tenant, digest }) => known.get(tenant) !== digest)));
        this.#watchers.add(call);
        call.on('cancelled', () => this.#watchers.delete(call));
      },
      getPolicy: unimplemented,
      getPolicyHistory: unimplemented,
    });
    grpc.addService(LedgerServiceService, {
      append: (call: ServerDuplexStream<AppendRequest, AppendResponse>) => {
        const who = this.#admitStream(call);
        if (who === undefined) return;
        let turn: Promise<void> = Promise.resolve();
        call.on('data', (request: AppendRequest) => {
          turn = turn.then(async () => {
            const answer = await this.ledger.answer(who.host, request);
            if (answer !== undefined) call.write(answer);
          });
          turn.catch((error: Error) => call.emit('error', refusal('INTERNAL', error.message)));
        });
        call.on('end', () => call.end());
      },
      queryRecords: unimplemented,
      exportRecords: unimplemented,
      verifyLedger: unimplemented,
      listLogs: unimplemented,
      getReceipt: unimplemented,
    });
    this.catalog.serve(grpc, (call) => this.#who(call));
  }

  #update(policies: readonly SignedPolicy[]): WatchPoliciesResponse {
    const platformFirst = [...policies].sort((a, b) => (a.tenant < b.tenant ? -1 : 1));
    return { policies: platformFirst, snapshotComplete: true, asOf: new Date(), refreshSeconds: 1 };
  }

  async #enrol({ token, certificateRequest }: EnrolRequest) {
    const found = [...this.hosts].find(([, entry]) => entry.token === token);
    if (found === undefined) throw refusal('ENROLMENT_REFUSED', 'no such token', status.UNAUTHENTICATED);
    const [name, { tenants }] = found;
    return { kind: 'host', name, tenants, credentials: await this.#credentials(name, certificateRequest) };
  }

  async #credentials(host: string, csr: Uint8Array): Promise<Credentials> {
    const certificate = await this.authority.issue(csr, host);
    const root = derOf(this.authority.rootPem);
    return {
      certificateChain: [derOf(certificate), root],
      renewTime: new Date(Date.now() + this.renewAfterMs),
      expireTime: new Date(Date.now() + 2 * 86_400_000),
      registryRoots: [root],
      trustDomain: TRUST_DOMAIN,
      trustAnchor: this.#anchor,
      sealingJwk: this.ledger.sealingJwk,
      cosigner: this.ledger.cosigner,
    };
  }

  #who(call: { getAuthContext(): { sslPeerCertificate?: { subjectaltname?: string } } }): {
    host: string;
    entry: FakeHost;
  } {
    const names = call.getAuthContext().sslPeerCertificate?.subjectaltname ?? '';
    const host = /\/mortise\/host\/([^,]+)/.exec(names)?.[1] ?? '';
    const entry = this.hosts.get(host);
    if (entry === undefined) throw refusal('UNAUTHENTICATED', 'no such host', status.UNAUTHENTICATED);
    if (entry.revoked !== undefined) throw refusal('HOST_REVOKED', entry.revoked, status.PERMISSION_DENIED);
    return { host, entry };
  }

  #admitStream(call: { emit(event: 'error', error: unknown): boolean; getAuthContext(): object }) {
    try {
      return this.#who(call);
    } catch (error) {
      call.emit('error', error);
      return undefined;
    }
  }

  #beat(call: Beat): void {
    const who = this.#admitStream(call);
    if (who === undefined) return;
    const { host, entry } = who;
    const older = this.#beats.get(host);
    this.#beats.set(host, call);
    older?.emit('error', refusal('HEARTBEAT_REPLACED', 'another heartbeat', status.ABORTED));
    call.write({
      command: {
        $case: 'welcome',
        value: { tenants: [...entry.tenants], intervalSeconds: 1, time: new Date(), replica: 'fake' },
      },
    });
    call.on('data', (request: HeartbeatRequest) => {
      entry.told.push(request);
      this.catalog.applied(host, request.catalogs);
      for (const wake of this.#waiters.splice(0)) setImmediate(wake);
    });
    const gone = (): void => {
      if (this.#beats.get(host) === call) this.#beats.delete(host);
    };
    call.on('cancelled', gone);
    call.on('end', () => call.end());
  }
}
