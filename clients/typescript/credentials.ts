// The bearer token of the caller. Invariant: the provider runs when a token is needed and none usable is at hand, once
// for all calls that wait for it; a token is never logged nor part of an error.
import { MortiseError } from './errors.ts';
import { TokenFile } from './token-file.ts';

/** A bearer token, a file of one, or a function that gets one. White space round it is dropped. */
export type TokenSource = string | TokenFile | (() => Promise<string> | string);

// Renewed this long before `exp`, so that a token does not expire on its way.
const RENEW_BEFORE_MS = 5000;

/** `exp` of a JWT in milliseconds since 1970, or undefined where it cannot be read: then only TOKEN_EXPIRED tells. */
const expiryOf = (token: string): number | undefined => {
  try {
    const claims: unknown = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());
    const exp = (claims as { exp?: unknown } | null)?.exp;
    return typeof exp === 'number' ? exp * 1000 : undefined;
  } catch {
    return undefined; // an opaque token
  }
};

export class Credentials {
  readonly #source: TokenSource | undefined;
  readonly #reuse: boolean;
  #held: { token: string; expiresAt: number | undefined } | undefined;
  #pending: Promise<string> | undefined;

  constructor(options: { source: TokenSource | undefined; reuse: boolean }) {
    this.#source = options.source;
    this.#reuse = options.reuse;
  }

  /** The token for one attempt; undefined where the client has none and the peer's uid has to do. */
  token(): string | undefined | Promise<string> {
    const source = this.#source;
    if (source === undefined || typeof source === 'string') return source?.trim();
    if (source instanceof TokenFile) return source.read();
    if (!this.#reuse) return this.#provide(source);
    const held = this.#held;
    if (held !== undefined && (held.expiresAt === undefined || Date.now() < held.expiresAt - RENEW_BEFORE_MS)) {
      return held.token;
    }
    this.#pending ??= this.#renew(source).finally(() => {
      this.#pending = undefined;
    });
    return this.#pending;
  }

  /** Drops a token that the agent calls expired; says whether a fresh one can be had. */
  expire(token: string | undefined): boolean {
    if (this.#source instanceof TokenFile) {
      this.#source.forget();
      return true;
    }
    if (typeof this.#source !== 'function') return false;
    if (this.#held?.token === token) this.#held = undefined;
    return true;
  }

  async #renew(source: () => Promise<string> | string): Promise<string> {
    const token = await this.#provide(source);
    this.#held = { token, expiresAt: expiryOf(token) };
    return token;
  }

  async #provide(source: () => Promise<string> | string): Promise<string> {
    try {
      return (await source()).trim();
    } catch (cause) {
      throw new MortiseError('UNAUTHENTICATED', { message: 'the token provider failed', cause });
    }
  }
}
