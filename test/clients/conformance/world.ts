// What the cases are run against: one real agent, one scripted one, and a file for tokens.
import assert from 'node:assert/strict';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { type RunningAgent, startAgent } from '../../support/agent.ts';
import { agentFailure, StubAgent } from '../stub-agent.ts';

type Json = Readonly<Record<string, unknown>>;

interface ScriptedAnswer {
  readonly message?: Json;
  readonly error?: Parameters<typeof agentFailure>[0];
  readonly retry_after_ms?: number;
  readonly metadata?: Record<string, string>;
  readonly fields?: { field: string; description: string }[];
  readonly status?: keyof typeof status;
  readonly silence?: true;
}

const bytesInside = (message: Json): unknown =>
  Object.fromEntries(
    Object.entries(message).map(([name, value]) => {
      const text = (value as { base64?: unknown } | null)?.base64;
      return [name, typeof text === 'string' ? Buffer.from(text, 'base64') : value];
    }),
  );

const give = (answer: ScriptedAnswer): unknown => {
  if (answer.silence) return new Promise(() => undefined); // until the caller's deadline
  if (answer.error !== undefined) {
    const { metadata, fields, retry_after_ms: retryAfterMs } = answer;
    throw agentFailure(answer.error, {
      ...(metadata && { metadata }),
      ...(fields && { fields }),
      ...(retryAfterMs !== undefined && { retryAfterMs }),
    });
  }
  if (answer.status !== undefined) throw Object.assign(new Error('scripted'), { code: status[answer.status] });
  return bytesInside(answer.message as Json);
};

export class World implements AsyncDisposable {
  readonly live: RunningAgent;
  readonly #scripted: StubAgent;
  readonly #folder: string;
  #callsBefore = 0;

  private constructor(live: RunningAgent, scripted: StubAgent) {
    this.live = live;
    this.#scripted = scripted;
    this.#folder = mkdtempSync(join(tmpdir(), 'mortise-conformance-'));
  }

  static async make(): Promise<World> {
    return new World(await startAgent({ tenants: ['acme', 'globex'] }), await new StubAgent().start());
  }

  /** Options of `connect` as a runner gets them. */
  connect({ token, token_file: file, socket, ...options }: Json): Json {
    return {
      ...options,
      ...(token !== undefined && { token: typeof token === 'string' ? token : this.#token(token as Json) }),
      ...(file !== undefined && { token_file: file === true ? this.#tokenFile : join(this.#folder, 'nothing') }),
      ...(socket !== undefined && {
        socket: 'scripted' in (socket as object) ? this.#scripted.socketPath : join(this.#folder, 'no.sock'),
      }),
    };
  }

  /** Replaces the file as Kubernetes does: by a rename, never in place. */
  writeToken(claims: Json): void {
    writeFileSync(`${this.#tokenFile}.new`, `${this.#token(claims)}\n`, { mode: 0o600 });
    renameSync(`${this.#tokenFile}.new`, this.#tokenFile);
  }

  /** What the scripted agent answers from now on. */
  script(answers: Readonly<Record<string, readonly ScriptedAnswer[]>>): void {
    this.#callsBefore = this.#scripted.calls.length;
    for (const [rpc, list] of Object.entries(answers)) {
      let next = 0;
      this.#scripted.answers[rpc] = () => {
        const answer = list[Math.min(next, list.length - 1)] as ScriptedAnswer;
        next += 1;
        return give(answer);
      };
    }
  }

  checkCalls(calls: Readonly<Record<string, number>>, where: string): void {
    const seen = this.#scripted.calls.slice(this.#callsBefore);
    for (const [rpc, count] of Object.entries(calls)) {
      assert.equal(seen.filter(({ method }) => method === rpc).length, count, `${where}: calls of ${rpc}`);
    }
  }

  async restart(): Promise<void> {
    await this.live.end();
    await this.live.start();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scripted[Symbol.asyncDispose]();
    await this.live.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  get #tokenFile(): string {
    return join(this.#folder, 'token');
  }

  #token({ as: principal, tenant = 'acme', scopes, lifetime_s: lifetimeSeconds }: Json): string {
    return this.live.issuer.issue({
      tenant: tenant as string,
      principal: principal as string,
      ...(scopes !== undefined && { scopes: scopes as string[] }),
      ...(lifetimeSeconds !== undefined && { lifetimeSeconds: lifetimeSeconds as number }),
    });
  }
}
