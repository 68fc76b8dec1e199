// Several operations in one call. The operations are made by the same methods as on the client; here they are gathered
// instead of sent. Invariant: each of them settles with its own answer, or with the reason why there was none.
import type { PipelineAnswer, PipelineCall } from '../../proto/gen/mortise/agent/v1/pipeline.ts';
import { checkCall } from './call-metadata.ts';
import { CryptoOperations } from './crypto.ts';
import { asMortiseError, MortiseError, operationError } from './errors.ts';
import { KeyOperations } from './keys.ts';
import type { RequestOf, ResponseOf, UnaryName } from './methods.ts';
import type { CallOptions, Calls } from './transport.ts';

/** The operations that a batch can hold. Their options `deadlineMs` and `correlationId` count, `signal` does not. */
export class BatchOperations extends CryptoOperations {
  /** Lifecycle of keys. */
  readonly keys: KeyOperations;

  /** Use `client.batch`. */
  constructor(calls: Calls) {
    super(calls);
    this.keys = new KeyOperations(calls);
  }
}

/** What became of each operation, in their order: fulfilled with its value, or rejected with a MortiseError. */
export type BatchResults<Operations extends readonly unknown[]> = {
  -readonly [At in keyof Operations]: PromiseSettledResult<Awaited<Operations[At]>>;
};

interface Waiting {
  readonly name: UnaryName;
  readonly correlationId: string;
  resolve(value: unknown): void;
  reject(error: MortiseError): void;
}

class Gathered implements Calls {
  readonly calls: PipelineCall[] = [];
  readonly #waiting: Waiting[] = [];
  #isSent = false;

  async call<Name extends UnaryName>(
    name: Name,
    request: RequestOf<Name>,
    { correlationId = '', deadlineMs = 0 }: CallOptions = {},
  ): Promise<ResponseOf<Name>> {
    if (this.#isSent) throw new MortiseError('INVALID_REQUEST', { message: 'the batch was sent already' });
    if (correlationId !== '') checkCall(undefined, correlationId);
    return new Promise((resolve, reject) => {
      const call = { $case: name, value: request } as PipelineCall['request'];
      const sequence = this.calls.length + 1;
      this.calls.push({ sequence, correlationId, timeoutMs: Math.ceil(deadlineMs), request: call });
      this.#waiting.push({ name, correlationId, resolve: resolve as Waiting['resolve'], reject });
    });
  }

  send(): readonly PipelineCall[] {
    this.#isSent = true;
    return this.calls;
  }

  settle(answers: readonly PipelineAnswer[], batchId: string): void {
    for (const [at, { name, correlationId, resolve, reject }] of this.#waiting.entries()) {
      const answer = answers[at]?.answer;
      if (answer?.$case === name) resolve(answer.value);
      else if (answer?.$case === 'error') reject(operationError(answer.value, correlationId || batchId));
      else reject(new MortiseError('INTERNAL', { message: 'the agent gave no answer to this operation' }));
    }
  }

  fail(error: MortiseError): void {
    for (const { reject } of this.#waiting) reject(error);
  }
}

/** Sends what `make` asks for in one call. Rejects where the call as a whole fails. */
export const runBatch = async <const Operations extends readonly Promise<unknown>[]>(
  transport: Calls,
  make: (operations: BatchOperations) => Operations,
  options: CallOptions & { readonly correlationId: string },
): Promise<BatchResults<Operations>> => {
  const gathered = new Gathered();
  const results = Promise.allSettled(make(new BatchOperations(gathered)));
  const calls = gathered.send();
  try {
    if (calls.length > 0) {
      const { answers } = await transport.call('batch', { calls: [...calls] }, options);
      gathered.settle(answers, options.correlationId);
    }
  } catch (thrown) {
    const error = asMortiseError(thrown, options.correlationId);
    gathered.fail(error);
    throw error;
  }
  return (await results) as unknown as BatchResults<Operations>;
};
