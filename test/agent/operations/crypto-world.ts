// The ports of the cryptographic use cases around any token: a catalogue in memory, a policy that allows what it is not
// told to refuse, and an audit trail that can be read back.
import { createPrivateKey, createPublicKey, randomBytes } from 'node:crypto';
import { PostQuantum } from '../../../agent/crypto/post-quantum/post-quantum.ts';
import { RandomPool } from '../../../agent/crypto/random.ts';
import { PublicKeyCache } from '../../../agent/crypto/software-verify.ts';
import { AgentError } from '../../../agent/errors.ts';
import { seedRow } from '../../../agent/keys/seeds.ts';
import type { Ports } from '../../../agent/operations/perform.ts';
import type { AuditEvent } from '../../../agent/operations/ports/audit.ts';
import type { Call } from '../../../agent/operations/ports/call.ts';
import type { PolicyQuestion } from '../../../agent/operations/ports/policy.ts';
import type { TokenCall, TokenPort } from '../../../agent/operations/ports/token.ts';
import type { HeldSeed } from '../../../agent/operations/ports/vault.ts';
import { algorithm, type Purpose } from '../../../proto/documents/algorithms.ts';
import { compositePublicJwk } from '../../../proto/documents/composite-keys.ts';
import type { CompositeVerification } from '../../../proto/documents/composite-verification.ts';
import { FN_DSA_SIGNATURES } from '../../../proto/documents/fn-dsa.ts';
import type { KeyRecord, KeyVersionRecord, PublicJwk } from '../../../proto/documents/key-record.ts';
import { SCOPES } from '../../../proto/documents/operations.ts';
import { PQ_KEMS } from '../../../proto/documents/pq-kems.ts';
import { PQ_SIGNATURES } from '../../../proto/documents/pq-signatures.ts';

export const aCall = (tenant = 'acme', change: Partial<Call> = {}): Call => ({
  correlationId: 'c-1',
  caller: { tenant, principal: 'app', scopes: new Set(SCOPES), authenticatedBy: 'jwt' },
  peer: { uid: 1000, gid: 1000, pid: 42 },
  deadline: Date.now() + 60_000,
  signal: new AbortController().signal,
  ...change,
});

export interface NewKey {
  readonly keyId: string;
  readonly algorithm: string;
  readonly purpose: Purpose;
  readonly jose?: string;
  readonly tenant?: string;
  readonly custody?: 'hsm' | 'wrapped' | 'split';
  /** Private bytes of a wrapped key of a KEM that are known; drawn where absent. */
  readonly seed?: Buffer;
  /** A key that is in the token already. */
  readonly made?: { readonly tokenId: string; readonly publicJwk?: PublicJwk };
}

type RestOfVersion = Pick<KeyVersionRecord, 'version' | 'algorithm' | 'jose' | 'state' | 'createdAt'>;

export class CryptoWorld {
  readonly records: AuditEvent[] = [];
  readonly questions: PolicyQuestion[] = [];
  readonly seeds = new Map<string, Buffer>();
  /** Answers a policy question with a refusal, or undefined to allow it. */
  refuses: (question: PolicyQuestion) => 'POLICY_DENIED' | undefined = () => undefined;
  uses = 0;
  /** Versions that have read something, in order. */
  readonly processed: string[] = [];
  /** Policy's rule for the halves of composite signatures. */
  compositeRule: CompositeVerification = 'all';
  checkSignatures = false;
  localStreamKeys = false;
  wrongResults = 0;
  readonly ports: Ports;
  readonly pool: RandomPool;
  readonly postQuantum = new PostQuantum({ clock: { now: () => Date.now() } });
  readonly #token: TokenPort;
  readonly #keys = new Map<string, KeyRecord>();

  constructor(token: TokenPort) {
    this.#token = token;
    const clock = { now: () => Date.now() };
    this.pool = new RandomPool({ token, clock, events: { randomSourceFailed: () => undefined } });
    this.ports = {
      clock,
      token,
      random: this.pool,
      publicKeys: new PublicKeyCache(),
      postQuantum: this.postQuantum,
      dataKeys: { toEncrypt: () => undefined, toDecrypt: () => undefined },
      policy: {
        decide: (question: PolicyQuestion) => {
          this.questions.push(question);
          const code = this.refuses(question);
          return code === undefined
            ? { allowed: true, rule: 'test', warnings: [] }
            : { allowed: false, rule: 'test', code, explanation: 'refused by the test' };
        },
        whenAuditUnavailable: () => 'refuse',
        compositeVerification: () => this.compositeRule,
        checkSignatures: () => this.checkSignatures,
        localStreamKeys: () => this.localStreamKeys,
      },
      keys: {
        get: (tenant: string, keyId: string) => this.#keys.get(`${tenant}/${keyId}`),
        use: async () => {
          this.uses += 1;
          return this.uses;
        },
        uses: () => this.uses,
        processed: (_: string, keyId: string, version: number) => void this.processed.push(`${keyId}/${version}`),
      },
      vault: {
        withSeed: async <T>(
          key: KeyRecord,
          version: KeyVersionRecord,
          _: TokenCall,
          use: (seed: Buffer, held: HeldSeed) => T,
        ) => {
          const seed = this.seeds.get(`${key.keyId}/${version.version}`);
          if (seed === undefined) throw new AgentError('HSM_UNAVAILABLE');
          return use(Buffer.from(seed), { isKept: false, expand: (_, make) => make() });
        },
      },
      audit: { append: async (event: AuditEvent) => `h-1/1/${this.records.push(event)}` },
      rateLimit: { take: () => undefined },
      events: {
        finished: () => undefined,
        auditSuspended: () => undefined,
        wrongResult: () => {
          this.wrongResults += 1;
        },
      },
    } as unknown as Ports;
  }

  get lastRecord(): AuditEvent {
    const record = this.records.at(-1);
    if (record === undefined) throw new Error('nothing was recorded');
    return record;
  }

  key(keyId: string, tenant = 'acme'): KeyRecord {
    const key = this.#keys.get(`${tenant}/${keyId}`);
    if (key === undefined) throw new Error(`no key ${keyId}`);
    return key;
  }

  version(keyId: string, number = 1): KeyVersionRecord {
    const version = this.key(keyId).versions.find((row) => row.version === number);
    if (version === undefined) throw new Error(`no version ${number} of ${keyId}`);
    return version;
  }

  change(keyId: string, change: Partial<KeyRecord>, tenant = 'acme'): void {
    this.#keys.set(`${tenant}/${keyId}`, { ...this.key(keyId, tenant), ...change });
  }

  async add(what: NewKey): Promise<KeyRecord> {
    const tenant = what.tenant ?? 'acme';
    const now = Date.now();
    const key: KeyRecord = {
      tenant,
      keyId: what.keyId,
      purpose: what.purpose,
      state: 'ACTIVE',
      labels: {},
      limits: {},
      grants: [],
      versions: [await this.#version(what, 1)],
      createdAt: now,
      updatedAt: now,
      revision: 1,
    };
    this.#keys.set(`${tenant}/${what.keyId}`, key);
    return key;
  }

  /** Makes a new primary version, of another algorithm where one is given. */
  async rotate(keyId: string, to: Partial<NewKey> = {}): Promise<void> {
    const key = this.key(keyId, to.tenant);
    const last = key.versions.at(-1) as KeyVersionRecord;
    const what = { keyId, purpose: key.purpose, algorithm: last.algorithm, jose: last.jose, ...to };
    const next = await this.#version(what, last.version + 1);
    const retired = key.versions.map((row) => ({ ...row, state: 'RETIRED' as const }));
    this.change(keyId, { versions: [...retired, next], revision: key.revision + 1 }, key.tenant);
  }

  async #version(what: NewKey, version: number): Promise<KeyVersionRecord> {
    const jose = what.jose ?? algorithm(what.algorithm)?.jose[what.purpose]?.[0];
    if (jose === undefined) throw new Error(`${what.algorithm} does not serve ${what.purpose}`);
    const rest = { version, algorithm: what.algorithm, jose, state: 'PRIMARY' as const, createdAt: Date.now() };
    const pq = PQ_SIGNATURES.get(what.algorithm) ?? FN_DSA_SIGNATURES.get(what.algorithm);
    const isComposite = algorithm(what.algorithm)?.components !== undefined;
    const isPostQuantum = isComposite || pq !== undefined || PQ_KEMS.has(what.algorithm);
    if (isPostQuantum && what.custody === 'hsm') return this.#generated(what, rest);
    if (pq !== undefined) {
      const seed = randomBytes(pq.seedBytes);
      const { material, publicJwk } = await this.postQuantum.derive(what.algorithm, seed, {
        tenant: 'acme',
        deadline: Date.now() + 60_000,
        signal: new AbortController().signal,
      });
      this.seeds.set(`${what.keyId}/${version}`, material);
      return { ...rest, custody: 'wrapped', publicJwk };
    }
    if (isComposite || PQ_KEMS.has(what.algorithm) || what.algorithm === 'X25519') return this.#seeded(what, rest);
    if (what.custody === 'wrapped') {
      const seed = randomBytes(32);
      this.seeds.set(`${what.keyId}/${version}`, seed);
      const pkcs8 = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]);
      const publicKey = createPublicKey(createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' }));
      return { ...rest, custody: 'wrapped', publicJwk: publicKey.export({ format: 'jwk' }) as PublicJwk };
    }
    return this.#generated(what, rest);
  }

  async #generated(what: NewKey, rest: RestOfVersion): Promise<KeyVersionRecord> {
    const label = `test:${what.keyId}:v${rest.version}:${randomBytes(4).toString('hex')}`;
    const call = { tenant: 'acme', deadline: Date.now() + 60_000, signal: new AbortController().signal };
    const { tokenId, publicJwk } =
      what.made ?? (await this.#token.generate({ algorithm: what.algorithm, purpose: what.purpose, label }, call));
    const jwk = publicJwk?.['kty'] === 'AKP' ? { ...publicJwk, alg: rest.jose } : publicJwk;
    return { ...rest, custody: 'hsm', tokenId, ...(jwk !== undefined && { publicJwk: jwk }) };
  }

  /** A key of a KEM or a composite as `makeVersion` makes it, with the seed in the world instead of under a KEK. */
  async #seeded(what: NewKey, rest: RestOfVersion): Promise<KeyVersionRecord> {
    const components = algorithm(what.algorithm)?.components;
    const custody =
      what.custody ?? (algorithm(what.algorithm)?.custody.find((row) => row !== 'hsm') as 'wrapped' | 'split');
    const row = seedRow(what.algorithm, custody as 'wrapped' | 'split');
    if (row?.publicJwk === undefined) throw new Error(`${what.algorithm} cannot be held ${custody}`);
    const seed = what.seed ?? randomBytes(row.seedBytes);
    this.seeds.set(`${what.keyId}/${rest.version}`, seed);
    const pqc = row.publicJwk(seed);
    if (custody === 'wrapped' || components === undefined) {
      return { ...rest, custody, publicJwk: pqc['kty'] === 'AKP' ? { ...pqc, alg: rest.jose } : pqc };
    }
    const label = `test:${what.keyId}:v${rest.version}:${randomBytes(4).toString('hex')}`;
    const call = { tenant: 'acme', deadline: Date.now() + 60_000, signal: new AbortController().signal };
    const object = { algorithm: components.classical, purpose: what.purpose, label };
    const { tokenId, publicJwk } = what.made ?? (await this.#token.generate(object, call));
    const joined = compositePublicJwk(rest.jose, { pqc, classical: publicJwk as PublicJwk });
    return { ...rest, custody, tokenId, publicJwk: joined };
  }
}

const none = Buffer.alloc(0);
/** Request parts that most tests leave alone. */
export const NO_AAD = { associatedData: none } as const;
