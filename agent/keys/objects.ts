// Token objects of key versions. Invariant: an object's id is chosen and on the disk (a note) before the token makes
// it, and the note goes in the transaction that stores a record naming it; so every object is named by a record or by a
// note. Notes are cleared by id, never by label: another host may use the same labels on a shared token.
import { randomBytes } from 'node:crypto';
import type { Purpose } from '../../proto/documents/algorithms.ts';
import { KEY_ID_PATTERN, type PublicJwk } from '../../proto/documents/key-record.ts';
import type { Clock } from '../clock.ts';
import type { Catalog } from './catalog.ts';
import { faultText, type KeyStore, type StoredRow } from './store.ts';
import { housekeepingCall, type KeysToken, type TokenCall, uncancelled } from './token.ts';

export interface ObjectEvents {
  /** An object that no record names was destroyed, or could not be and will be tried again. */
  orphanDestroyed(event: { tokenId: string; tenant: string; keyId: string }): void;
  orphanKept(event: { tokenId: string; tenant: string; keyId: string; cause: unknown }): void;
}

interface WantedObject {
  readonly tenant: string;
  readonly keyId: string;
  readonly version: number;
  readonly algorithm: string;
  readonly purpose: Purpose;
  readonly jose: string;
}

interface MadeObject {
  readonly tokenId: string;
  readonly publicJwk?: PublicJwk;
}

interface Note {
  readonly tenant: string;
  readonly keyId: string;
  readonly madeAt: number;
}

// Longer than any deadline of a call: a younger note may belong to a call under way.
const MIN_AGE_MS = 10 * 60_000;
const TOKEN_ID_BYTES = 16;
const MAX_VERSION = 0xffffffff;
const EVERY_TOKEN = '*'; // of a note that does not say whose its object is

export const newTokenId = (): string => randomBytes(TOKEN_ID_BYTES).toString('hex');

const labelPrefix = (tenant: string): string => `mortise:key:${tenant}:`;

/**
 * Label of a key version's object, for people, and for a catalogue that was lost: otherwise the agent finds objects by id.
 * The JOSE algorithm is what the object alone would not tell: which of several that RSA keys do, or that this is half a key.
 */
export const keyLabel = (tenant: string, keyId: string, version: number, jose: string): string =>
  `${labelPrefix(tenant)}${keyId}:v${version}:${jose}`;

/** Undefined where it is no label of this tenant. */
export const parseKeyLabel = (
  tenant: string,
  label: string,
): { readonly keyId: string; readonly version: number; readonly jose: string } | undefined => {
  const prefix = labelPrefix(tenant);
  const [, keyId = '', version, jose = ''] =
    (label.startsWith(prefix) && /^([^:]+):v([1-9][0-9]{0,9}):(.+)$/.exec(label.slice(prefix.length))) || [];
  return KEY_ID_PATTERN.test(keyId) && Number(version) <= MAX_VERSION
    ? { keyId, version: Number(version), jose }
    : undefined;
};

/** Ids of the objects that bear a label of this tenant. */
export const listKeyObjects = (token: KeysToken, tenant: string, call: TokenCall): Promise<readonly string[]> =>
  token.list(labelPrefix(tenant), call);

const parseNote = ({ value }: StoredRow): Note | undefined => {
  if (value === undefined) return undefined;
  const { tenant, keyId, madeAt } = JSON.parse(value.toString()) as Note; // our own bytes, authenticated
  return { tenant, keyId, madeAt };
};

export class TokenObjects {
  readonly #store: KeyStore;
  readonly #catalog: Catalog;
  readonly #token: KeysToken;
  readonly #clock: Clock;
  readonly #events: ObjectEvents;
  readonly #isSettled: (tenant: string) => boolean;
  /** Notes that an earlier process left: nothing of theirs can be under way. */
  readonly #leftOver = new Set<string>();

  constructor(options: {
    readonly store: KeyStore;
    readonly catalog: Catalog;
    readonly token: KeysToken;
    readonly clock: Clock;
    readonly events: ObjectEvents;
    /** Whether every record that this host has sent elsewhere is stored here if it was taken there. */
    readonly isSettled?: (tenant: string) => boolean;
  }) {
    this.#isSettled = options.isSettled ?? (() => true);
    this.#store = options.store;
    this.#catalog = options.catalog;
    this.#token = options.token;
    this.#clock = options.clock;
    this.#events = options.events;
  }

  /** Reads the store; once, before anything else. */
  load(): void {
    for (const { key: tokenId, fault } of this.#store.rows('notes')) {
      if (fault !== 'added') this.#leftOver.add(tokenId);
      else this.#events.orphanKept({ tokenId, tenant: '-', keyId: '-', cause: new Error(`note: ${faultText[fault]}`) });
    }
  }

  generate(what: WantedObject, call: TokenCall): Promise<MadeObject> {
    return this.#make(what, (object) => this.#token.generate(object, uncancelled(call)));
  }

  create(what: WantedObject & { readonly material: readonly Buffer[] }, call: TokenCall): Promise<MadeObject> {
    const { material } = what;
    return this.#make(what, (object) => this.#token.create({ ...object, material }, uncancelled(call)));
  }

  async #make(
    { tenant, keyId, version, algorithm, purpose, jose }: WantedObject,
    make: (object: { algorithm: string; purpose: Purpose; label: string; tokenId: string }) => Promise<MadeObject>,
  ): Promise<MadeObject> {
    const tokenId = newTokenId();
    this.#note(tokenId, { tenant, keyId, madeAt: this.#clock.now() });
    try {
      return await make({ algorithm, purpose, label: keyLabel(tenant, keyId, version, jose), tokenId });
    } catch (error) {
      // The token may have made it all the same. A token that is down cannot say: the note stays for the sweep.
      await this.discard(tokenId);
      throw error;
    }
  }

  /** Made for a change that was not completed; whoever has made it destroys it. */
  isNoted(tokenId: string): boolean {
    return this.#notes().some(({ key }) => key === tokenId);
  }

  async discard(tokenId: string): Promise<void> {
    const row = this.#notes().find(({ key }) => key === tokenId);
    if (row !== undefined) await this.#clear(tokenId, parseNote(row), housekeepingCall(this.#clock));
  }

  /** Destroys what notes name and no record does. Resolves with the number of notes that stay. */
  async sweep(call: TokenCall): Promise<number> {
    let left = 0;
    for (const row of this.#notes()) {
      const [tokenId, note] = [row.key, parseNote(row)];
      const old = note !== undefined && this.#clock.now() - note.madeAt >= MIN_AGE_MS;
      if (!old && !this.#leftOver.has(tokenId)) left += 1;
      else if (!(await this.#clear(tokenId, note, call))) left += 1;
    }
    return left;
  }

  /** All but those that somebody else has put there: they would have any object of the token destroyed. */
  #notes(): readonly StoredRow[] {
    return [...this.#store.rows('notes')].filter(({ fault }) => fault !== 'added');
  }

  #note(tokenId: string, note: Note): void {
    this.#store.write((writer) => writer.put('notes', tokenId, Buffer.from(JSON.stringify(note))));
  }

  async #clear(tokenId: string, note: Note | undefined, call: TokenCall): Promise<boolean> {
    const { tenant, keyId } = note ?? { tenant: '-', keyId: '-' };
    try {
      // Storing a record removes the note in the same transaction, so this cannot be; an object in use is worth asking.
      if (note !== undefined && this.#catalog.isCorrupt(tenant, keyId)) return false;
      // A record elsewhere may name it although this host does not know.
      if (note !== undefined && !this.#isSettled(tenant)) return false;
      const record = note && this.#catalog.get(tenant, keyId);
      if (!record?.versions.some((row) => row.tokenId === tokenId)) {
        await this.#token.destroy(tokenId, { ...call, owner: note?.tenant ?? EVERY_TOKEN });
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
