// The keys room over a real LMDB folder, with everything around it in the test's hands: the clock, the audit log, the
// policy's answers, and a token in software whose faults are scripted.

import { randomBytes, randomUUID } from 'node:crypto';
import type { TestContext } from 'node:test';
import { open } from 'lmdb';
import { PostQuantum } from '../../../agent/crypto/post-quantum/post-quantum.ts';
import { PublicKeyCache } from '../../../agent/crypto/software-verify.ts';
import { AgentError } from '../../../agent/errors.ts';
import type { Central } from '../../../agent/keys/central.ts';
import { type Keys, type KeysEvents, openKeys } from '../../../agent/keys/keys.ts';
import type { Ports } from '../../../agent/operations/perform.ts';
import type { AuditEvent } from '../../../agent/operations/ports/audit.ts';
import type { Call } from '../../../agent/operations/ports/call.ts';
import type { Decision, PolicyQuestion } from '../../../agent/operations/ports/policy.ts';
import type { TokenPort } from '../../../agent/operations/ports/token.ts';
import type { Purpose } from '../../../proto/documents/algorithms.ts';
import { SCOPES, type Scope } from '../../../proto/documents/operations.ts';
import { FakeToken } from '../../fakes/token.ts';
import { temporaryFolder } from '../../support/folder.ts';
import { TEST_SEALING_KEY } from '../../support/sealing-key.ts';

export interface Policy {
  /** Refuses a question by a code, where it is defined. */
  refuse(question: PolicyQuestion): 'POLICY_DENIED' | 'FIPS_ONLY' | undefined;
  defaults: Partial<Record<Purpose, string>>;
  limits: { softUses?: number; hardUses?: number; softAge?: number; hardAge?: number };
  destroyWait: number;
  sunsets?: Readonly<Record<string, { warnAfter: number; refuseAfter: number }>>;
  /** Absent: content keys are not kept. */
  dataKeys?: { maxAgeSeconds: number; maxUses: number; maxBytes: number } | undefined;
  /** Absent: nor are private bytes. */
  unwrappedKeys?: { maxAgeSeconds: number; maxUses: number; maxKeys: number } | undefined;
}

export interface World {
  readonly path: string;
  readonly token: TokenPort;
  readonly postQuantum: PostQuantum;
  readonly policy: Policy;
  /** Every audit record, in order. */
  readonly records: AuditEvent[];
  /** Every event of the room, by name. */
  readonly events: { readonly name: keyof KeysEvents; readonly event: Readonly<Record<string, unknown>> }[];
  now: number;
  /** While set, the audit log refuses. */
  auditFails: boolean;
  keys: Keys;
  ports: Ports;
  call(options?: { tenant?: string; principal?: string; scopes?: readonly Scope[] }): Call;
  /** Closes the room, or leaves it as a killed process would, and opens it again. */
  reopen(how?: 'closed'): Promise<void>;
  seen(name: keyof KeysEvents): readonly Readonly<Record<string, unknown>>[];
}

const EVENT_NAMES = [
  'storeFailed',
  'storeBegunAnew',
  'corruptRecord',
  'created',
  'rotated',
  'stateChanged',
  'corruptKeks',
  'kekCreated',
  'kekDestroyed',
  'kekDestructionDelayed',
  'orphanDestroyed',
  'orphanKept',
  'blobRefused',
  'kekRotated',
  'kekKept',
  'destroyed',
  'destructionDelayed',
  'dataKeyLookedUp',
  'unwrappedKeyLookedUp',
  'replicated',
  'shared',
  'unshared',
] as const satisfies readonly (keyof KeysEvents)[];

export const HOUR = 3_600_000;

const eventsInto = (list: World['events']): KeysEvents =>
  Object.fromEntries(
    EVENT_NAMES.map((name) => [name, (event: Readonly<Record<string, unknown>>) => void list.push({ name, event })]),
  ) as unknown as KeysEvents;

const portsOf = (world: World): Ports => ({
  policy: {
    decide: (question): Decision => {
      const code = world.policy.refuse(question);
      return code === undefined
        ? { allowed: true, rule: 'test.allow', warnings: [] }
        : { allowed: false, rule: 'test.deny', code, explanation: 'the test says no' };
    },
    defaultAlgorithm: (_, purpose) => world.policy.defaults[purpose],
    keyLimits: () => world.policy.limits,
    destroyWait: () => world.policy.destroyWait,
    whenAuditUnavailable: () => 'refuse',
    compositeVerification: () => 'all',
    checkSignatures: () => false,
    localStreamKeys: () => false,
    sunset: (_, { algorithm }) => world.policy.sunsets?.[algorithm],
  },
  keys: world.keys.catalog,
  vault: world.keys.vault,
  objects: world.keys.objects,
  token: world.token,
  random: { take: async (length) => randomBytes(length), fresh: async (length) => randomBytes(length) },
  dataKeys: world.keys.dataKeys,
  importKeys: world.keys.importKeys,
  publicKeys: new PublicKeyCache(),
  postQuantum: world.postQuantum,
  audit: auditOf(world),
  rateLimit: { take: () => {} },
  clock: { now: () => world.now },
  events: { finished: () => {}, auditSuspended: () => {}, wrongResult: () => {} },
});

const auditOf = (world: World) => ({
  append: async (event: AuditEvent): Promise<string> => {
    if (world.auditFails) throw new AgentError('AUDIT_UNAVAILABLE');
    return `h-1/1/${world.records.push(event)}`;
  },
});

/** A token in software that cannot hold some algorithms, as real ones. */
export class LackingToken extends FakeToken {
  readonly #lacks: ReadonlySet<string>;

  constructor(...lacks: readonly string[]) {
    super();
    this.#lacks = new Set(lacks);
  }

  override canHold(id: string, purpose: Purpose): ReturnType<TokenPort['canHold']> {
    return this.#lacks.has(id) ? { ok: false, why: 'it has no such mechanism' } : super.canHold(id, purpose);
  }
}

export const openWorld = (
  t: TestContext,
  options: { readonly token?: TokenPort; readonly path?: string; readonly central?: Central } = {},
): World => {
  const token = options.token ?? new FakeToken();
  const postQuantum = new PostQuantum({ clock: { now: () => Date.now() } });
  t.after(() => postQuantum.close());
  const world = {
    path: options.path ?? temporaryFolder(t),
    token,
    postQuantum,
    policy: {
      refuse: () => undefined,
      defaults: { encrypt: 'AES-256', sign: 'EC-P256', mac: 'HMAC-SHA256' },
      limits: {},
      destroyWait: HOUR,
    },
    records: [],
    events: [],
    now: Date.now(),
    auditFails: false,
    call: ({ tenant = 'acme', principal = 'alice', scopes = SCOPES } = {}) => ({
      correlationId: randomUUID(),
      caller: { tenant, principal, scopes: new Set(scopes), authenticatedBy: 'peer' },
      peer: { uid: 1000, gid: 1000, pid: 4242 },
      deadline: Math.max(Date.now(), world.now) + 30_000,
      signal: new AbortController().signal,
    }),
    reopen: async (how) => {
      if (how === 'closed') await world.keys.close();
      openRoom();
    },
    seen: (name) => world.events.filter((row) => row.name === name).map((row) => row.event),
  } as Partial<World> as World;
  const openRoom = (): void => {
    const { path } = world;
    world.keys = openKeys({
      path,
      ...(options.central !== undefined && { central: options.central }),
      kekLabelPrefix: 'test:kek',
      clock: { now: () => world.now },
      token,
      audit: auditOf(world),
      events: eventsInto(world.events),
      dataKeyRules: () => world.policy.dataKeys,
      unwrappedKeyRules: () => world.policy.unwrappedKeys,
      derive: (algorithm, seed, call) => postQuantum.derive(algorithm, seed, call),
    });
    world.keys.unlock(TEST_SEALING_KEY);
    world.ports = portsOf(world);
  };
  openRoom();
  t.after(() => world.keys.close());
  return world;
};

/** Changes the stored bytes of a row behind the room's back, undefined for no row; leaves the room closed. */
export const changeStored = async (
  world: World,
  key: string,
  change: (bytes: Buffer) => Buffer | undefined,
  tableName = 'records',
): Promise<void> => {
  await world.keys.close();
  const root = open<Buffer, string>({ path: world.path, maxDbs: 8, encoding: 'binary' });
  const table = root.openDB<Buffer, string>(tableName, { encoding: 'binary' });
  const changed = change(Buffer.from(table.get(key) ?? []));
  await (changed === undefined ? table.remove(key) : table.put(key, changed));
  await root.close();
};

/** The stored bytes of a row; leaves the room closed. */
export const readStored = async (world: World, key: string, tableName = 'records'): Promise<Buffer> => {
  let bytes: Buffer = Buffer.alloc(0);
  await changeStored(
    world,
    key,
    (value) => {
      bytes = value;
      return value;
    },
    tableName,
  );
  return bytes;
};

/** Flips one bit of a stored record. */
export const damageRecord = (world: World, key: string): Promise<void> =>
  changeStored(world, key, (bytes) => {
    const at = bytes.length - 20;
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    return bytes;
  });
