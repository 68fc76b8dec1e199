// Token objects of key versions. Invariant: an object's id is chosen and on the disk (a note) before the token makes
// it, and the note goes in the transaction that stores a record naming it; so every object is named by a record or by a
// note. Notes are cleared by id, never by label: another host may use the same labels on a shared token.
import { randomBytes } from 'node:crypto';
import type { Purpose } from '../../proto/documents/algorithms.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import type { Clock } from '../clock.ts';
import type { Catalog } from './catalog.ts';
import type { KeyStore } from './store.ts';
import { housekeepingCall, type KeysToken, type TokenCall, uncancelled } from './token.ts';

export interface ObjectEvents {
  /** An object that no record names was destroyed, or could not be and will be tried again. */
  orphanDestroyed(event: { tokenId: string; tenant: string; keyId: string }): void;
  orphanKept(event: { tokenId: string; tenant: string; keyId: string; cause: unknown }): void;
}

interface Note {
  readonly tenant: string;
  readonly keyId: string;
  readonly madeAt: number;
}

// Longer than any deadline of a call: a younger note may belong to a call under way.
const MIN_AGE_MS = 10 * 60_000;
const TOKEN_ID_BYTES = 16;

export const newTokenId = (): string => randomBytes(TOKEN_ID_BYTES).toString('hex');

/** Label of a key version's object. For people: the agent finds objects by id. */
export const keyLabel = (tenant: string, keyId: string, version: number): string =>
  `mortise:key:${tenant}:${keyId}:v${version}`;

const parseNote = (value: Buffer | undefined): Note | undefined => {
  if (value === undefined) return undefined;
  const { tenant, keyId, madeAt } = JSON.parse(value.toString()) as Note; // our own bytes, checksum verified
  return { tenant, keyId, madeAt };
};

export class TokenObjects {
  readonly #store: KeyStore;
  readonly #catalog: Catalog;
  readonly #token: KeysToken;
  readonly #clock: Clock;
  readonly #events: ObjectEvents;
  /** Notes that an earlier process left: nothing of theirs can be under way. */
  readonly #leftOver = new Set<string>();

  constructor(options: {
    readonly store: KeyStore;
    readonly catalog: Catalog;
    readonly token: KeysToken;
    readonly clock: Clock;
    readonly events: ObjectEvents;
  }) {
    this.#store = options.store;
    this.#catalog = options.catalog;
    this.#token = options.token;
    this.#clock = options.clock;
    this.#events = options.events;
    for (const { key } of this.#store.rows('notes')) this.#leftOver.add(key);
  }

  async generate(
    what: {
      readonly tenant: string;
      readonly keyId: string;
      readonly version: number;
      readonly algorithm: string;
      readonly purpose: Purpose;
    },
    call: TokenCall,
  ): Promise<{ readonly tokenId: string; readonly publicJwk?: PublicJwk }> {
    const { tenant, keyId, version, algorithm, purpose } = what;
    const tokenId = newTokenId();
    this.#note(tokenId, { tenant, keyId, madeAt: this.#clock.now() });
    const label = keyLabel(tenant, keyId, version);
    try {
      return await this.#token.generate({ algorithm, purpose, label, tokenId }, uncancelled(call));
    } catch (error) {
      // The token may have made it all the same. A token that is down cannot say: the note stays for the sweep.
      await this.discard(tokenId);
      throw error;
    }
  }

  async discard(tokenId: string): Promise<void> {
    const row = [...this.#store.rows('notes')].find(({ key }) => key === tokenId);
    if (row !== undefined) await this.#clear(tokenId, parseNote(row.value), housekeepingCall(this.#clock));
  }

  /** Destroys what notes name and no record does. Resolves with the number of notes that stay. */
  async sweep(call: TokenCall): Promise<number> {
    let left = 0;
    for (const { key: tokenId, value } of [...this.#store.rows('notes')]) {
      const note = parseNote(value);
      const old = note !== undefined && this.#clock.now() - note.madeAt >= MIN_AGE_MS;
      if (!old && !this.#leftOver.has(tokenId)) left += 1;
      else if (!(await this.#clear(tokenId, note, call))) left += 1;
    }
    return left;
  }

  #note(tokenId: string, note: Note): void {
    this.#store.write((writer) => writer.put('notes', tokenId, Buffer.from(JSON.stringify(note))));
  }

  async #clear(tokenId: string, note: Note | undefined, call: TokenCall): Promise<boolean> {
    const { tenant, keyId } = note ?? { tenant: '-', keyId: '-' };
    try {
      // Storing a record removes the note in the same transaction, so this cannot be; an object in use is worth asking.
      if (note !== undefined && this.#catalog.isCorrupt(tenant, keyId)) return false;
      const record = note && this.#catalog.get(tenant, keyId);
      if (!record?.versions.some((row) => row.tokenId === tokenId)) {
        await this.#token.destroy(tokenId, call);
        this.#events.orphanDestroyed({ tokenId, tenant, keyId });
      }
      this.#store.write((writer) => writer.remove('notes', tokenId));
      this.#leftOver.delete(tokenId);
      return true;
    } catch (cause) {
      this.#events.orphanKept({ tokenId, tenant, keyId, cause });
      return false;
    }
  }
}
