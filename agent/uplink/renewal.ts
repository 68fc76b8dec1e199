// Keeps the host's certificate good: asks for the next one in time, and notices one that somebody has put in its place.
// Invariant: one renewal at a time, and none of a certificate that is another authority's.
import type { Client } from '@grpc/grpc-js';
import { renew } from './enrol.ts';
import { type Identity, type IdentityFiles, readIdentity } from './identity.ts';
import type { UplinkEvents } from './ports.ts';

export interface RenewalOptions {
  readonly files: IdentityFiles;
  readonly events: Pick<UplinkEvents, 'renewed' | 'renewFailed'>;
  readonly signal: AbortSignal;
  /** The identity of the session of now, and its connection; undefined where there is none. */
  readonly present: () => { readonly identity: Identity; readonly client: Client } | undefined;
  /** There is another certificate: the session is to be replaced. */
  readonly replaced: () => void;
}

const LOOK_MS = 60_000;

export class Renewal {
  readonly #options: RenewalOptions;
  #running = false;

  constructor(options: RenewalOptions) {
    this.#options = options;
  }

  /** Looks now and once a minute; gives back what stops it. */
  watch(): () => void {
    const timer = setInterval(() => void this.#look(), LOOK_MS);
    void this.#look();
    return () => clearInterval(timer);
  }

  /** Asks for the next certificate now. Never rejects: it is tried again at the next look. */
  async renew(): Promise<void> {
    const { files, events, signal, present, replaced } = this.#options;
    const { identity, client } = present() ?? {};
    if (identity?.renewAt === undefined || client === undefined || this.#running) return;
    this.#running = true;
    try {
      const { dir, host } = files;
      await renew(client, { dir, host, present: identity, signal });
      events.renewed({ expireAt: (await readIdentity(files)).expireAt });
      replaced();
    } catch (cause) {
      if (!signal.aborted) events.renewFailed({ cause, expireAt: identity.expireAt });
    } finally {
      this.#running = false;
    }
  }

  async #look(): Promise<void> {
    const { identity } = this.#options.present() ?? {};
    if (identity === undefined) return;
    if (identity.renewAt !== undefined && Date.now() >= identity.renewAt) {
      await this.renew();
      return;
    }
    const stored = await readIdentity(this.#options.files).catch(() => undefined); // being replaced: look again later
    if (stored !== undefined && stored.chain !== identity.chain) this.#options.replaced();
  }
}
