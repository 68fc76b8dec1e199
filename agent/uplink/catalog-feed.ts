// Follows the catalogue of the tenants of this host, and hands each change on in order. Invariant: a change is handed on
// only if it follows the one before it, by position and by the hash over all changes; what does not is never applied.
import { createHash } from 'node:crypto';
import type { Client } from '@grpc/grpc-js';
import {
  type CatalogChange,
  CatalogEntry,
  type CatalogPosition,
  CatalogServiceService,
  KekState,
  RebuildState,
  type WatchCatalogResponse,
} from '../../proto/gen/mortise/registry/v1/catalog.ts';
import { answers } from './calls.ts';
import { tellKnown } from './catalog-rebuild.ts';
import type { CatalogSink, EntryChange, Position } from './ports.ts';
import { Refusal } from './refusal.ts';

const START = Buffer.alloc(32);

const positionOf = ({ tenant, position, head }: CatalogPosition): Position => ({
  tenant,
  position: Number(position),
  head: position === 0n ? START : Buffer.from(head),
});

const broken = (tenant: string, why: string): Refusal =>
  new Refusal(
    'CATALOG_BROKEN',
    `the registry's catalogue of ${tenant} does not follow from what this host knows: ${why}`,
  );

const stateOf = (state: KekState): 'live' | 'idle' | 'destroyed' => {
  if (state === KekState.LIVE) return 'live';
  return state === KekState.DESTROYED ? 'destroyed' : 'idle';
};

const changeOf = (tenant: string, { entry }: CatalogChange): EntryChange => {
  const { entry: value } = entry ?? {};
  if (entry?.tenant !== tenant || value === undefined) throw broken(tenant, 'an entry without a tenant or a value');
  if (value.$case === 'keyRecord') return { kind: 'key', bytes: Buffer.from(value.value) };
  const { version, tokenId, state, revision } = value.value;
  const kek = {
    version,
    tokenId: Buffer.from(tokenId).toString('hex'),
    state: stateOf(state),
    revision: Number(revision),
  };
  return { kind: 'kek', kek };
};

/** Where the catalogue stands after a change that follows `before`. */
const follow = (before: Position, { at, entry }: CatalogChange): Position => {
  const { tenant } = before;
  if (at === undefined || entry === undefined) throw broken(tenant, 'a change without a position');
  const next = positionOf(at);
  if (next.position !== before.position + 1) throw broken(tenant, `${next.position} after ${before.position}`);
  const digest = createHash('sha256').update(CatalogEntry.encode(entry).finish()).digest();
  const head = createHash('sha256').update(before.head).update(digest).digest();
  if (!head.equals(next.head)) throw broken(tenant, `another head at ${next.position}`);
  return next;
};

class CatalogFeed {
  readonly #sink: CatalogSink;
  readonly #rebuild: (tenant: string, rebuild: Buffer) => void;
  readonly #applied = new Map<string, string>();
  readonly #at = new Map<string, Position>();
  readonly #snapshots = new Set<string>();

  constructor(sink: CatalogSink, rebuild: (tenant: string, rebuild: Buffer) => void) {
    this.#sink = sink;
    this.#rebuild = rebuild;
    for (const position of sink.positions()) {
      this.#at.set(position.tenant, position);
      if (position.rebuild !== undefined) this.#applied.set(position.tenant, position.rebuild);
    }
  }

  get rebuilds(): Record<string, Buffer> {
    return Object.fromEntries([...this.#applied].map(([tenant, id]) => [tenant, Buffer.from(id, 'hex')]));
  }

  get from(): CatalogPosition[] {
    return [...this.#at.values()].map(({ tenant, position, head }) => ({
      tenant,
      position: BigInt(position),
      head: position === 0 ? Buffer.alloc(0) : head,
    }));
  }

  take(answer: WatchCatalogResponse): void {
    const { tenant, rewound, snapshotBegin, snapshotComplete } = answer;
    const before = this.#at.get(tenant);
    if (before === undefined) return; // not asked for
    if (rewound !== undefined) {
      const registry = Number(rewound.registry?.position ?? 0n);
      this.#sink.rewound(tenant, { registry, reason: 'it does not have the position that this host has applied' });
      return;
    }
    if (answer.rebuilt !== undefined) {
      const { rebuild, state } = answer.rebuilt;
      if (state === RebuildState.OPEN) this.#rebuild(tenant, Buffer.from(rebuild));
      else this.#rebuilt(tenant, Buffer.from(rebuild).toString('hex'));
      return;
    }
    if (snapshotBegin) this.#snapshots.add(tenant);
    const inSnapshot = this.#snapshots.has(tenant);
    const changes = answer.changes.map((change) => changeOf(tenant, change));
    let at: Position | undefined;
    if (inSnapshot) at = answer.at && positionOf(answer.at);
    else at = answer.changes.reduce(follow, before);
    this.#sink.apply(tenant, { changes, at, inSnapshot, isFirst: snapshotBegin, isComplete: snapshotComplete });
    if (at !== undefined) this.#at.set(tenant, at);
    if (snapshotComplete) this.#snapshots.delete(tenant);
  }

  /** Once for each rebuild: a registry that names one twice was taken back since. */
  #rebuilt(tenant: string, rebuild: string): void {
    if (this.#applied.get(tenant) === rebuild) throw broken(tenant, 'it was rebuilt once more without a new rebuild');
    this.#applied.set(tenant, rebuild);
    this.#at.set(tenant, { tenant, position: 0, head: START });
    this.#sink.rebuilt(tenant, rebuild);
  }
}

/** Until the stream ends. Rejects with a Refusal. */
export const followCatalog = async (client: Client, sink: CatalogSink, signal: AbortSignal): Promise<void> => {
  const telling = new AbortController();
  const until = AbortSignal.any([signal, telling.signal]);
  const told: Promise<void>[] = [];
  let failure: unknown;
  const feed = new CatalogFeed(sink, (tenant, rebuild) => {
    // Beside the stream, which other tenants need; where it fails all is told again on the next one.
    const one = tellKnown(client, sink, { tenant, rebuild, signal: until }).catch((thrown: unknown) => {
      failure ??= thrown;
      telling.abort();
    });
    told.push(one);
  });
  const { from, rebuilds } = feed;
  if (from.length === 0) return;
  sink.opened();
  try {
    const request = { from, rebuilds };
    for await (const answer of answers(client, CatalogServiceService.watchCatalog, request, until)) feed.take(answer);
  } finally {
    telling.abort();
    await Promise.all(told);
  }
  if (failure !== undefined && !signal.aborted) throw failure;
};
