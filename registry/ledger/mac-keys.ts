// The MAC keys of hosts: sealed to the registry on the wire and in the store, open only in memory. Invariant: a key is
// that of the host and epoch that its seal names, and an epoch has one key.
import { createSecretKey, type KeyObject } from 'node:crypto';
import { calculateJwkThumbprint, compactDecrypt, type JWK } from 'jose';
import { RegistryError } from '../errors.ts';
import { LogRefusal } from './refusal.ts';
import type { MacKeyStore } from './store.ts';

const KEY_BYTES = 32;
const MAX_JWE = 4096;
const MAX_OPEN = 4096; // keys in memory; a host of ten years of daily starts has as many

export class MacKeys {
  readonly #store: MacKeyStore;
  readonly #sealingKey: KeyObject;
  readonly #open = new Map<string, KeyObject>();

  constructor(options: { readonly store: MacKeyStore; readonly sealingKey: KeyObject }) {
    this.#store = options.store;
    this.#sealingKey = options.sealingKey;
  }

  /** Keeps a key that a host hands over. Throws INVALID_REQUEST, or LogRefusal where the epoch has another key. */
  async take(host: string, epoch: number, jwe: string): Promise<void> {
    if (!Number.isInteger(epoch) || epoch < 0 || epoch > 0xffff_ffff || jwe.length > MAX_JWE) throw unsealable();
    const key = await this.#unseal(host, epoch, jwe);
    const stored = await this.#store.insertMacKey(host, epoch, jwe);
    if (stored === jwe) return this.#keep(host, epoch, key);
    const known = await this.#unseal(host, epoch, stored);
    this.#keep(host, epoch, known);
    if (!known.equals(key)) throw new LogRefusal('LEDGER_FORKED', 0, `epoch ${epoch} of ${host} has another MAC key`);
  }

  async of(host: string, epoch: number): Promise<KeyObject | undefined> {
    const open = this.#open.get(`${host}/${epoch}`);
    if (open !== undefined) return open;
    const stored = await this.#store.macKey(host, epoch);
    if (stored === undefined) return undefined;
    const key = await this.#unseal(host, epoch, stored);
    this.#keep(host, epoch, key);
    return key;
  }

  #keep(host: string, epoch: number, key: KeyObject): void {
    if (this.#open.size >= MAX_OPEN) this.#open.clear();
    this.#open.set(`${host}/${epoch}`, key);
  }

  async #unseal(host: string, epoch: number, jwe: string): Promise<KeyObject> {
    const allowed = { keyManagementAlgorithms: ['ECDH-ES+A256KW'], contentEncryptionAlgorithms: ['A256GCM'] };
    let opened: Awaited<ReturnType<typeof compactDecrypt>>;
    try {
      opened = await compactDecrypt(jwe, this.#sealingKey, allowed);
    } catch (cause) {
      throw unsealable(cause);
    }
    const { plaintext, protectedHeader } = opened;
    try {
      const { kid } = protectedHeader;
      const own = await calculateJwkThumbprint(this.#sealingKey.export({ format: 'jwk' }) as JWK);
      if (protectedHeader['mortise'] !== `${host}/${epoch}` || kid !== own) throw unsealable();
      if (plaintext.length !== KEY_BYTES) throw unsealable();
      return createSecretKey(plaintext);
    } finally {
      plaintext.fill(0);
    }
  }
}

const unsealable = (cause?: unknown): RegistryError =>
  new RegistryError('INVALID_REQUEST', {
    message: 'mac_key: not a MAC key of this host and epoch, sealed to this registry',
    fields: [{ field: 'mac_key', description: 'cannot be unsealed, or is of another host or epoch' }],
    ...(cause !== undefined && { cause }),
  });
