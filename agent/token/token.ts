// The token as the rest of the agent sees it. It takes plain values, checks them, and gives plain values or AgentErrors;
// the vendor's library runs in another process, which may die without taking the agent along.
import { randomBytes } from 'node:crypto';
import { forbiddenAlgorithm, type Purpose } from '../../proto/documents/algorithms.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { systemClock } from '../clock.ts';
import { AgentError, invalid } from '../errors.ts';
import { type Ability, type CanHold, canHold } from './abilities.ts';
import { Breaker } from './breaker.ts';
import { Dispatcher } from './dispatcher.ts';
import { vendorEnvironment } from './environment.ts';
import type { TokenEvents } from './events.ts';
import { contextBytes, idBytes, ivBytes, joseBytes, labelBytes, materialBytes } from './fields.ts';
import type { TokenCall } from './pending-call.ts';
import { u32 } from './protocol.ts';
import { parsePublicJwk } from './public-jwk.ts';
import { MAX_KEM_CIPHERTEXT_BYTES, MAX_RANDOM_BYTES, type RequestName } from './requests.ts';
import { selfTestFile } from './self-test-file.ts';
import type { StartConfig, TokenIdentity } from './start-message.ts';
import { Supervisor, type TokenState } from './supervisor.ts';
import { LIMITS, type TokenOptions } from './token-options.ts';
import {
  chooseWrapping,
  explained,
  newWrappingKeyId,
  unwrapBy,
  type WrapInput,
  type WrappingRequests,
  wrapBy,
} from './wrapping.ts';

export interface TokenInfo extends TokenIdentity {
  /** Name of the module's profile. */
  readonly profile: string;
  readonly notes: readonly string[];
  readonly mechanisms: readonly string[];
  /** Open sessions of workers. */
  readonly sessions: number;
  /** How it wraps key material, and what the better ways lack; or that it cannot. */
  readonly wrapping: string;
}

export interface TokenHealth {
  readonly healthy: boolean;
  readonly state: TokenState;
  /** For an operator: what is wrong and what to do. */
  readonly detail: string;
}

interface GcmInput {
  readonly iv: Buffer;
  readonly aad: Buffer;
  readonly data: Buffer;
}
export interface FoundKey {
  readonly tokenId: string;
  readonly publicJwk?: PublicJwk;
}

/** A key of the token as its attributes say. */
export interface KeyDescription {
  readonly label: string;
  /** Algorithm ids of its objects, sorted: of a composite two. */
  readonly algorithms: readonly string[];
  readonly purpose?: Purpose;
  /** It was generated in the token. */
  readonly isLocal: boolean;
  readonly publicJwk?: PublicJwk;
  /** Why it cannot be used; then nothing else is known but its label. */
  readonly fault?: string;
}

const PURPOSES: readonly Purpose[] = ['encrypt', 'sign', 'mac'];
const ID_BYTES = 16;
const LOGIN_SESSIONS = 1;
const OPEN_FACTOR = 3; // a session comes with its thread: longer than a call in it, shorter than a start

export class Token implements AsyncDisposable {
  readonly #dispatcher: Dispatcher;
  readonly #supervisor: Supervisor;
  readonly #breaker: Breaker;
  readonly #pool: number;
  #abilities: ReadonlyMap<string, Ability> = new Map();
  #abilitiesOf: unknown;

  constructor(options: TokenOptions) {
    const { clock = systemClock, sessions } = options;
    this.#pool = sessions;
    this.#breaker = new Breaker({ changed: (state) => options.events.tokenBreaker(state) });
    const events = this.#listening(options.events);
    const limits = { ...LIMITS, ...options.limits };
    const config: StartConfig = {
      library: options.library,
      slotIndex: options.slotIndex ?? 0,
      disabledMechanisms: options.disabledMechanisms ?? [],
      ...(options.tokenLabel !== undefined && { tokenLabel: options.tokenLabel }),
    };
    this.#dispatcher = new Dispatcher({
      sessions,
      acquireTimeoutMs: options.acquireTimeoutMs,
      boundPerTenant: limits.waitingPerTenant,
      idleSessionMs: limits.idleSessionMs,
      budgets: {
        operation: limits.operationMs,
        generate: limits.generateMs,
        open: Math.min(limits.startMs, OPEN_FACTOR * limits.operationMs),
      },
      clock,
      events,
      admit: () => this.#breaker.admit(),
      condemn: (reason) => this.#supervisor.condemn(reason),
    });
    if (options.sessionLimit !== undefined) void this.#dispatcher.limitSessions(options.sessionLimit - LOGIN_SESSIONS);
    this.#supervisor = new Supervisor({
      child: { config, sessions, environment: vendorEnvironment(options.environment), events },
      pin: options.pin,
      startTimeoutMs: limits.startMs,
      stopTimeoutMs: limits.stopMs,
      recoveryMs: limits.recoveryMs,
      dispatcher: this.#dispatcher,
      events,
      ...selfTestFile(options.selfTestFile),
    });
  }

  /**
   * At most so many sessions at the token from now on, that of the login included; resolves when that is so. Below two
   * there is no token process at all. Undefined: as many as the pool has.
   */
  async limitSessions(most: number | undefined): Promise<void> {
    if (most !== undefined && most < LOGIN_SESSIONS + 1) return this.#supervisor.pause();
    this.#supervisor.resume();
    await this.#dispatcher.limitSessions(most === undefined ? this.#pool : most - LOGIN_SESSIONS);
  }
  /** Ends the token process, which comes back within its limit: where sessions above it do not become idle in time. */
  restartProcess(reason: string): void {
    this.#supervisor.condemn(reason);
  }

  async start(): Promise<this> {
    await this.#supervisor.start();
    return this;
  }

  info(): TokenInfo {
    const ready = this.#supervisor.ready;
    if (ready === undefined) throw new Error('the token was never ready');
    const { identity, profile, mechanisms } = ready;
    return {
      ...identity,
      profile: profile.name,
      notes: profile.notes,
      mechanisms,
      sessions: this.#dispatcher.sessions,
      wrapping: this.#wrappingText(),
    };
  }

  /** Names of the abilities that self-tests have proved, sorted. */
  abilities(): readonly string[] {
    return [...this.#abilityMap().values()]
      .filter((row) => row.ok)
      .map((row) => row.name)
      .sort();
  }
  /** All abilities, with why not. */
  abilityReport(): readonly Ability[] {
    return [...this.#abilityMap().values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  health(): TokenHealth {
    const { state, failure, isCrashLooping, restarts } = this.#supervisor;
    if (state === 'ready' && !isCrashLooping) {
      const { sessions } = this.#dispatcher;
      const wraps = `wraps keys by ${this.#wrappingText()}`;
      return { healthy: true, state, detail: `ready, ${sessions} sessions, ${restarts} restarts, ${wraps}` };
    }
    if (state === 'paused') return { healthy: false, state, detail: 'there are no sessions for this host' };
    if (state === 'locked-out') return { healthy: false, state, detail: `locked out: ${failure?.message ?? ''}` };
    const loop = isCrashLooping ? 'crash loop: the token process keeps dying; see the log. ' : '';
    const detail = `${loop}${failure === undefined ? `the token process is ${state}` : failure.message}`;
    return { healthy: false, state, detail };
  }

  restarts(): number {
    return this.#supervisor.restarts;
  }
  /** Process id of the token process, for tests and doctor. */
  pid(): number | undefined {
    return this.#supervisor.pid;
  }
  /** Tries to log in again after `locked-out`, once the operator has corrected the PIN. */
  unlock(): void {
    this.#supervisor.unlock();
  }
  close(): Promise<void> {
    return this.#supervisor.close();
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  canHold(algorithm: string, purpose: Purpose): CanHold {
    return canHold(this.#abilityMap(), algorithm, purpose);
  }

  async generate(
    what: { readonly algorithm: string; readonly purpose: Purpose; readonly label: string; readonly tokenId?: string },
    call: TokenCall,
  ): Promise<FoundKey> {
    if (forbiddenAlgorithm(what.algorithm) !== undefined) throw new AgentError('ALGORITHM_FORBIDDEN');
    const can = this.canHold(what.algorithm, what.purpose);
    if (!can.ok) throw new AgentError('HSM_UNSUPPORTED', { cause: new Error(can.why) });
    const id = what.tokenId === undefined ? randomBytes(ID_BYTES) : idBytes(what.tokenId);
    const fields = [id, Buffer.from(what.algorithm), Buffer.from(what.purpose), labelBytes(what.label)];
    const [jwk] = await this.#ask('generate', fields, call);
    return found(id, jwk as Buffer);
  }

  /** Makes a token object of material that was made elsewhere. The request's copy of it is wiped. */
  async create(
    what: {
      readonly algorithm: string;
      readonly purpose: Purpose;
      readonly label: string;
      readonly tokenId: string;
      readonly material: readonly Buffer[];
    },
    call: TokenCall,
  ): Promise<FoundKey> {
    if (forbiddenAlgorithm(what.algorithm) !== undefined) throw new AgentError('ALGORITHM_FORBIDDEN');
    const can = this.canHold(what.algorithm, what.purpose);
    if (!can.ok) throw new AgentError('HSM_UNSUPPORTED', { cause: new Error(can.why) });
    const id = idBytes(what.tokenId);
    const material = materialBytes(what.material);
    try {
      const names = [Buffer.from(what.algorithm), Buffer.from(what.purpose), labelBytes(what.label)];
      const [jwk] = await this.#ask('create', [id, ...names, material], call);
      return found(id, jwk as Buffer);
    } finally {
      material.fill(0);
    }
  }

  async find(label: string, call: TokenCall): Promise<FoundKey | undefined> {
    const [id, jwk] = await this.#ask('find', [labelBytes(label)], call);
    return id === undefined || id.length === 0 ? undefined : found(id, jwk as Buffer);
  }

  /** Ids of the keys whose label begins so, sorted. Slow: the token looks at every object. */
  async list(labelPrefix: string, call: TokenCall): Promise<readonly string[]> {
    const packed = await this.#askForBytes('list', [labelBytes(labelPrefix)], call);
    const count = Math.floor(packed.length / ID_BYTES);
    return Array.from({ length: count }, (_, at) => packed.toString('hex', at * ID_BYTES, (at + 1) * ID_BYTES));
  }

  /** HSM_UNAVAILABLE where there is none. */
  async describe(tokenId: string, call: TokenCall): Promise<KeyDescription> {
    return described(await this.#ask('describe', [idBytes(tokenId)], call));
  }

  async destroy(tokenId: string, call: TokenCall): Promise<void> {
    const id = idBytes(tokenId);
    try {
      await this.#ask('destroy', [id], call);
    } finally {
      this.#dispatcher.forget(id); // modules may give the handle to the next object
    }
  }

  gcmEncrypt(tokenId: string, input: GcmInput, call: TokenCall): Promise<Buffer> {
    const fields = [idBytes(tokenId), ivBytes(input.iv), input.aad, input.data];
    return this.#askForSealed('gcmEncrypt', fields, input.iv, call);
  }
  gcmDecrypt(tokenId: string, input: GcmInput, call: TokenCall): Promise<Buffer> {
    return this.#askForBytes('gcmDecrypt', [idBytes(tokenId), ivBytes(input.iv), input.aad, input.data], call);
  }
  /** The CKA_ID for a new key that wraps key material, by the scheme that this token does best. */
  wrappingKeyId(): string {
    return newWrappingKeyId(this.#abilityMap());
  }
  async generateWrappingKey(
    { label, tokenId = this.wrappingKeyId() }: { readonly label: string; readonly tokenId?: string },
    call: TokenCall,
  ): Promise<FoundKey> {
    await this.#ask('generateWrappingKey', [idBytes(tokenId), labelBytes(label)], call);
    return { tokenId };
  }
  wrap(tokenId: string, input: WrapInput, call: TokenCall): Promise<Buffer> {
    return explained(tokenId, this.#abilityMap(), () => wrapBy(tokenId, input, this.#wrapping(tokenId, call)));
  }
  unwrap(tokenId: string, input: WrapInput, call: TokenCall): Promise<Buffer> {
    return explained(tokenId, this.#abilityMap(), () => unwrapBy(tokenId, input, this.#wrapping(tokenId, call)));
  }
  async sign(
    tokenId: string,
    jose: string,
    data: Buffer,
    call: TokenCall,
    context: Buffer = Buffer.alloc(0),
  ): Promise<Buffer> {
    return this.#askForBytes('sign', [idBytes(tokenId), joseBytes(jose), data, contextBytes(context)], call);
  }
  mac(tokenId: string, jose: string, data: Buffer, call: TokenCall): Promise<Buffer> {
    return this.#askForBytes('mac', [idBytes(tokenId), joseBytes(jose), data], call);
  }
  async oaepDecrypt(tokenId: string, ciphertext: Buffer, call: TokenCall, secretBytes = 0): Promise<Buffer> {
    if (ciphertext.length > 1024) throw new AgentError('INVALID_CIPHERTEXT');
    return this.#askForBytes('oaepDecrypt', [idBytes(tokenId), ciphertext, u32(secretBytes)], call);
  }
  async ecdh(tokenId: string, point: Buffer, call: TokenCall): Promise<Buffer> {
    if (point.length > 133) throw new AgentError('INVALID_CIPHERTEXT'); // P-521
    return this.#askForBytes('ecdh', [idBytes(tokenId), point], call);
  }
  async decapsulate(tokenId: string, ciphertext: Buffer, call: TokenCall): Promise<Buffer> {
    if (ciphertext.length > MAX_KEM_CIPHERTEXT_BYTES) throw new AgentError('INVALID_CIPHERTEXT');
    return this.#askForBytes('decapsulate', [idBytes(tokenId), ciphertext], call);
  }
  async rewrap(
    from: { readonly tokenId: string; readonly iv?: Buffer; readonly data: Buffer },
    to: { readonly tokenId: string; readonly iv: Buffer },
    bytes: number,
    call: TokenCall,
  ): Promise<Buffer> {
    if (from.data.length > 1024) throw new AgentError('INVALID_CIPHERTEXT');
    const source = [idBytes(from.tokenId), from.iv === undefined ? Buffer.alloc(0) : ivBytes(from.iv), from.data];
    const target = [idBytes(to.tokenId), ivBytes(to.iv), u32(bytes)];
    return this.#askForSealed('rewrap', [...source, ...target], to.iv, call);
  }
  async random(length: number, call: TokenCall): Promise<Buffer> {
    if (!Number.isSafeInteger(length) || length < 1 || length > MAX_RANDOM_BYTES) {
      throw invalid('length', `from 1 to ${MAX_RANDOM_BYTES}`);
    }
    return this.#askForBytes('random', [u32(length)], call);
  }

  #wrappingText(): string {
    const { scheme, why } = chooseWrapping(this.#abilityMap());
    return scheme === undefined ? `none: ${why}` : why;
  }

  #wrapping(tokenId: string, call: TokenCall): WrappingRequests {
    return {
      gcmEncrypt: (input) => this.gcmEncrypt(tokenId, input, call),
      gcmDecrypt: (input) => this.gcmDecrypt(tokenId, input, call),
      ask: (name, aad, data) => this.#askForBytes(name, [idBytes(tokenId), aad, data], call),
    };
  }

  async #askForBytes(name: RequestName, fields: readonly Buffer[], call: TokenCall): Promise<Buffer> {
    this.#requireUp();
    const [bytes] = await this.#dispatcher.submit(name, fields, call);
    return bytes as Buffer;
  }

  /** The iv is overwritten where the token made another one. */
  async #askForSealed(name: RequestName, fields: readonly Buffer[], iv: Buffer, call: TokenCall): Promise<Buffer> {
    this.#requireUp();
    const [sealed, made] = await this.#dispatcher.submit(name, fields, call);
    if (made !== undefined && made.length > 0) made.copy(iv);
    return sealed as Buffer;
  }

  async #ask(name: RequestName, fields: readonly Buffer[], call: TokenCall): Promise<Buffer[]> {
    this.#requireUp();
    return await this.#dispatcher.submit(name, fields, call);
  }

  #requireUp(): void {
    const { state, failure } = this.#supervisor;
    if (state === 'closing' || state === 'closed') throw new AgentError('SHUTTING_DOWN');
    // While a start that never failed is under way calls wait for it; after a failure they would only wait in vain.
    if (failure !== undefined) throw new AgentError('HSM_UNAVAILABLE', { cause: failure });
    if (state === 'paused') throw new AgentError('HSM_UNAVAILABLE', { cause: new Error('the token is paused') });
  }

  /** The same events, of which the breaker hears too. */
  #listening(events: TokenEvents): TokenEvents {
    return Object.assign(Object.create(events) as TokenEvents, {
      tokenCallFinished: (event: Parameters<TokenEvents['tokenCallFinished']>[0]): void => {
        this.#breaker.finished(event.outcome);
        events.tokenCallFinished(event);
      },
      tokenReady: (event: Parameters<TokenEvents['tokenReady']>[0]): void => {
        this.#breaker.tokenReady({ doubtful: this.#supervisor.isCrashLooping });
        events.tokenReady(event);
      },
    });
  }

  #abilityMap(): ReadonlyMap<string, Ability> {
    const { ready } = this.#supervisor;
    if (ready !== undefined && this.#abilitiesOf !== ready) {
      this.#abilitiesOf = ready;
      this.#abilities = new Map(ready.abilities.map((row) => [row.name, row]));
    }
    return this.#abilities;
  }
}

const found = (id: Buffer, jwk: Buffer): FoundKey => {
  const publicJwk = parsePublicJwk(jwk);
  return { tokenId: id.toString('hex'), ...(publicJwk !== undefined && { publicJwk }) };
};

const described = (fields: readonly Buffer[]): KeyDescription => {
  const [label, algorithms, use, isLocal, jwk, why] = fields as [Buffer, Buffer, Buffer, Buffer, Buffer, Buffer];
  const publicJwk = parsePublicJwk(jwk);
  const purpose = PURPOSES.find((name) => name === use.toString('latin1'));
  const fault = why.toString();
  return {
    label: label.toString(),
    algorithms: algorithms.toString('latin1').split(' '),
    ...(purpose !== undefined && { purpose }),
    isLocal: isLocal[0] === 1,
    ...(publicJwk !== undefined && { publicJwk }),
    ...(fault !== '' && { fault }),
  };
};
/** Starts the token process, logs in and tests the token. Rejects with TokenStartError, which says what to do. */
export const openToken = (options: TokenOptions): Promise<Token> => new Token(options).start();
