// An agent with two tokens under load: `acme` and `globex` are on a SoftHSM behind the shim, which is told to misbehave;
// `initech`, and the agent itself, on a SoftHSM of their own, which must feel nothing of it. Every answer is kept, to be held
// against the audit trail in the end.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AuditRecord, MortiseClient } from '../../../clients/typescript/index.ts';
import { type Answer, allRecords, assertRecorded, clientOf, codeOf } from '../../e2e/load.ts';
import { type LogLine, type RunningAgent, startAgent } from '../../support/agent.ts';
import { makePkcs11Shim, type Pkcs11Shim } from '../../support/pkcs11-shim.ts';
import { makeSoftHsm, type SoftHsm } from '../../support/softhsm.ts';

export const BEHIND_SHIM = ['acme', 'globex'] as const;
const TENANTS = [...BEHIND_SHIM, 'initech'] as const;
export type Tenant = (typeof TENANTS)[number];

const PATIENCE_MS = 30_000;
const PAUSE_MS = 20; // of a caller after an error, so that a token that is away is not called in a busy loop
const message = Buffer.from('done in spite of it');

/** What a caller may be told while its token misbehaves: try again. */
export const RETRYABLE: ReadonlySet<string> = new Set(['ok', 'HSM_UNAVAILABLE', 'HSM_BUSY', 'DEADLINE_EXCEEDED']);

type Act = (client: MortiseClient, correlationId: string) => Promise<unknown>;

/** One kind of operation for each way into the library; each checks its result. */
export const OPERATIONS: Readonly<Record<string, { readonly operation: string; readonly act: Act }>> = {
  sign: {
    operation: 'sign',
    act: (client, correlationId) => client.sign('signer', { message }, { correlationId }),
  },
  signWrapped: {
    operation: 'sign',
    act: (client, correlationId) => client.sign('wrapped', { message }, { correlationId }),
  },
  mac: {
    operation: 'mac',
    act: (client, correlationId) => client.mac('mac', message, { correlationId }),
  },
  encrypt: {
    operation: 'encrypt',
    act: (client, correlationId) => client.encrypt('files', message, { correlationId }),
  },
  random: {
    operation: 'generate-random',
    act: (client, correlationId) => client.generateRandom(32, { correlationId }),
  },
};

export interface Stand extends AsyncDisposable {
  readonly agent: RunningAgent;
  readonly shim: Pkcs11Shim;
  readonly hsm: SoftHsm;
  readonly clients: Readonly<Record<Tenant, MortiseClient>>;
  /** Clients that repeat. */
  readonly patient: Readonly<Record<Tenant, MortiseClient>>;
  readonly answers: Readonly<Record<Tenant, readonly Answer[]>>;
  /** One call of a tenant, noted like those of the load. Gives the outcome. */
  once(tenant: Tenant, operation: string, act: Act): Promise<string>;
  /** JWEs of each tenant, by key: what decrypts by AES-GCM, ECDH and RSA. */
  readonly sealed: Readonly<Record<Tenant, Readonly<Record<string, string>>>>;
  /** Resolves when each tenant behind the shim has had so many more of an outcome. */
  more(count: number, outcome?: string, tenants?: readonly Tenant[]): Promise<void>;
  /** Milliseconds until each tenant behind the shim has been served again. */
  untilServed(): Promise<number>;
  /** The next line of the token behind the shim. */
  logged(msg: string, from: number): Promise<LogLine>;
  killToken(): void;
  /** Ends the load and holds everything against the bars that hold for every fault. */
  settle(): Promise<void>;
}

const entry = (name: string, library: string, hsm: SoftHsm, tenants: unknown, more: object = {}): object => ({
  name,
  library,
  label: hsm.label,
  pin: { file: hsm.pinFile },
  sessions: 3,
  sessionTimeoutSeconds: 5,
  callSeconds: 1,
  startSeconds: 10,
  environment: { SOFTHSM2_CONF: hsm.confPath },
  tenants,
  ...more,
});

/** Keys to encrypt to. Whose token does no AES-GCM has no `files`. */
const SEALING = { files: 'AES-256', agreed: 'EC-P256', oaep: 'RSA-2048' } as const;
type Sealing = keyof typeof SEALING;
const EVERY = Object.keys(SEALING) as Sealing[];

const makeKeys = async (client: MortiseClient, sealing: readonly Sealing[]): Promise<Record<string, string>> => {
  await client.keys.create({ keyId: 'signer', purpose: 'sign', algorithm: 'EC-P256' });
  await client.keys.create({ keyId: 'wrapped', purpose: 'sign', algorithm: 'ML-DSA-44' });
  await client.keys.create({ keyId: 'mac', purpose: 'mac', algorithm: 'HMAC-SHA256' });
  const sealed: Record<string, string> = {};
  for (const keyId of sealing) {
    await client.keys.create({ keyId, purpose: 'encrypt', algorithm: SEALING[keyId] });
    sealed[keyId] = (await client.encrypt(keyId, message)).jwe;
  }
  return sealed;
};

/** Each operation has one record of its end, and it was answered no better than it is recorded. */
const assertOnce = (tenant: string, records: readonly AuditRecord[], answers: readonly Answer[]): void => {
  const ends = Map.groupBy(
    records.filter(({ outcome }) => outcome !== 'intent'),
    ({ correlationId, operation }) => `${correlationId} ${operation}`,
  );
  const twice = answers.filter((row) => (ends.get(`${row.correlationId} ${row.operation}`)?.length ?? 0) > 1);
  assert.deepEqual(twice, [], `${twice.length} operations of ${tenant} have two ends`);
};

class FaultStand implements Stand {
  readonly agent: RunningAgent;
  readonly shim: Pkcs11Shim;
  readonly hsm: SoftHsm;
  readonly clients: Record<Tenant, MortiseClient>;
  readonly patient: Record<Tenant, MortiseClient>;
  readonly answers: Record<Tenant, Answer[]> = { acme: [], globex: [], initech: [] };
  readonly sealed: Record<Tenant, Record<string, string>> = { acme: {}, globex: {}, initech: {} };
  readonly #healthy: SoftHsm;
  readonly #pid: number;
  readonly #pauseMs: number;
  readonly #sealing: readonly Sealing[];
  readonly #waiting = new Set<() => void>();
  readonly #running: Promise<void>[] = [];
  #stopped = false;

  constructor(parts: {
    agent: RunningAgent;
    shim: Pkcs11Shim;
    hsm: SoftHsm;
    healthy: SoftHsm;
    pauseMs: number;
    sealing: readonly Sealing[];
  }) {
    this.agent = parts.agent;
    this.shim = parts.shim;
    this.hsm = parts.hsm;
    this.#healthy = parts.healthy;
    this.#pid = parts.agent.pid;
    this.#pauseMs = parts.pauseMs;
    this.#sealing = parts.sealing;
    const each = (retry?: false) =>
      Object.fromEntries(
        TENANTS.map((tenant) => [tenant, clientOf(this.agent, tenant, retry === false ? { retry } : {})]),
      ) as Record<Tenant, MortiseClient>;
    this.clients = each(false);
    this.patient = each();
  }

  async begin(): Promise<this> {
    for (const tenant of TENANTS) {
      this.sealed[tenant] = await makeKeys(this.patient[tenant], this.#sealing);
      for (const [name, { operation, act }] of Object.entries(OPERATIONS))
        if (name !== 'encrypt' || this.#sealing.includes('files')) this.#run(tenant, operation, act);
      for (const keyId of Object.keys(this.sealed[tenant]))
        this.#run(tenant, 'decrypt', this.decrypting(tenant, keyId));
    }
    return this;
  }

  decrypting(tenant: Tenant, keyId: string): Act {
    return async (client, correlationId) => {
      const { plaintext } = await client.decrypt(this.sealed[tenant][keyId] as string, { correlationId });
      assert.deepEqual(Buffer.from(plaintext), message);
    };
  }

  async once(tenant: Tenant, operation: string, act: Act): Promise<string> {
    const correlationId = randomUUID();
    let outcome = 'ok';
    try {
      await act(this.clients[tenant], correlationId);
    } catch (error) {
      outcome = codeOf(error);
    }
    this.answers[tenant].push({ correlationId, operation, outcome });
    for (const look of [...this.#waiting]) look();
    return outcome;
  }

  #run(tenant: Tenant, operation: string, act: Act): void {
    const caller = async (): Promise<void> => {
      while (!this.#stopped) {
        const outcome = await this.once(tenant, operation, act);
        await sleep(outcome === 'ok' ? this.#pauseMs : PAUSE_MS);
      }
    };
    const running = caller();
    running.catch(() => undefined); // `settle` is told
    this.#running.push(running);
  }

  more(wanted: number, outcome = 'ok', tenants: readonly Tenant[] = BEHIND_SHIM): Promise<void> {
    const count = (tenant: Tenant): number => this.answers[tenant].filter((row) => row.outcome === outcome).length;
    const goals = tenants.map((tenant) => [tenant, count(tenant) + wanted] as const);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const look = (): void => {
      if (goals.every(([tenant, goal]) => count(tenant) >= goal)) end(resolve);
    };
    const end = (settle: () => void): void => {
      clearTimeout(timer);
      this.#waiting.delete(look);
      settle();
    };
    const timer = setTimeout(() => {
      const last = this.agent.logs.slice(-15).map((line) => JSON.stringify(line).slice(0, 400));
      const said = `waited ${PATIENCE_MS} ms for ${wanted} more "${outcome}" of ${tenants}:\n${last.join('\n')}`;
      end(() => reject(new Error(said)));
    }, PATIENCE_MS);
    this.#waiting.add(look);
    return promise;
  }

  async untilServed(): Promise<number> {
    const startedAt = performance.now();
    await this.more(1);
    return Math.round(performance.now() - startedAt);
  }

  logged(msg: string, from: number): Promise<LogLine> {
    return this.agent.logged((line) => line.msg === msg && line['token'] === 'shimmed', from);
  }

  killToken(): void {
    const line = this.agent.logs.findLast(({ msg, token }) => msg === 'token is ready' && token === 'shimmed');
    process.kill(line?.['pid'] as number, 'SIGKILL');
  }

  async settle(): Promise<void> {
    await this.stopLoad();
    await Promise.all(this.#running);
    assert.equal(this.agent.pid, this.#pid, 'the agent is the same process');
    for (const tenant of TENANTS) {
      const records = await allRecords(this.patient[tenant]);
      assertRecorded(this.answers[tenant], records);
      assertOnce(tenant, records, this.answers[tenant]);
      const { intact, findings } = await this.patient[tenant].audit.verify();
      assert.deepEqual([intact, findings], [true, []]);
    }
    const other = this.answers.initech.filter(({ outcome }) => outcome !== 'ok');
    assert.deepEqual(other, [], 'the tenant of the other token felt it');
  }

  async stopLoad(): Promise<void> {
    this.#stopped = true;
    await Promise.allSettled(this.#running);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopLoad();
    for (const client of [...Object.values(this.clients), ...Object.values(this.patient)]) client.close();
    await this.agent.stop();
    this.shim.close();
    await this.hsm.dispose();
    await this.#healthy.dispose();
  }
}

/** Starts all of it; the load runs until `settle`. */
export const startFaultStand = async (
  options: Pick<NonNullable<Parameters<typeof startAgent>[0]>, 'platform'> & {
    /** Of each caller between two calls that were served. */
    readonly pauseMs?: number;
    readonly recoverySeconds?: number;
    /** Mechanisms that the token behind the shim is not asked for. */
    readonly disabledMechanisms?: readonly string[];
    /** Which keys to encrypt to each tenant has; all without it. */
    readonly sealing?: readonly Sealing[];
  } = {},
): Promise<FaultStand> => {
  const { pauseMs = 1, recoverySeconds = 2, disabledMechanisms = [], sealing = EVERY, ...agentOptions } = options;
  const [hsm, healthy] = [await makeSoftHsm(), await makeSoftHsm()];
  const shim = await makePkcs11Shim({ folder: join(hsm.folder, 'shim'), real: hsm.library, pin: hsm.pin });
  const path = join(healthy.folder, 'tokens.json');
  const tokens = [
    entry('healthy', healthy.library, healthy, 'others'),
    entry('shimmed', shim.library, hsm, BEHIND_SHIM, { recoverySeconds, disabledMechanisms }),
  ];
  await writeFile(path, JSON.stringify({ schema: 'mortise.tokens/v1', agent: 'healthy', tokens }), { mode: 0o600 });
  const agent = await startAgent({
    ...agentOptions,
    tenants: TENANTS,
    env: {
      MORTISE_TOKENS_FILE: path,
      PKCS11_LIBRARY_PATH: '',
      PKCS11_TOKEN_LABEL: '',
      PKCS11_PIN_FILE: '',
      SOFTHSM2_CONF: '',
    },
  });
  const stand = new FaultStand({ agent, shim, hsm, healthy, pauseMs, sealing });
  try {
    await agent.logged(({ msg, token }) => msg === 'token is ready' && token === 'shimmed');
    return await stand.begin();
  } catch (error) {
    await stand[Symbol.asyncDispose]();
    throw error;
  }
};
