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
  type WatchCatalogResponse,
} from '../../proto/gen/mortise/registry/v1/catalog.ts';
import { answers } from './calls.ts';
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
  readonly #at = new Map<string, Position>();
  readonly #snapshots = new Set<string>();

  constructor(sink: CatalogSink) {
    this.#sink = sink;
    for (const position of sink.positions()) this.#at.set(position.tenant, position);
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
}

/** Until the stream ends. Rejects with a Refusal. */
export const followCatalog = async (client: Client, sink: CatalogSink, signal: AbortSignal): Promise<void> => {
  const feed = new CatalogFeed(sink);
  const { from } = feed;
  if (from.length === 0) return;
  sink.opened();
  for await (const answer of answers(client, CatalogServiceService.watchCatalog, { from }, signal)) feed.take(answer);
};
