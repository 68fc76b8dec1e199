// Hands the audit logs in to the registry's ledger, all of them on one stream, each in order. Invariant: what is under way
// is bounded by a few batches, whatever waits; a record counts as handed in when the registry has acknowledged it.
import type { Client, ClientDuplexStream } from '@grpc/grpc-js';
import {
  type AppendRequest,
  type AppendResponse,
  LedgerServiceService,
  type LogAcknowledged,
  type LogRefused,
} from '../../proto/gen/mortise/registry/v1/ledger.ts';
import { LedgerLog } from './ledger-log.ts';
import type { LedgerSource, UplinkEvents } from './ports.ts';
import { asRefusal, Refusal } from './refusal.ts';
import { silence } from './silence.ts';

export type LedgerEvents = Pick<UplinkEvents, 'ledgerRefused' | 'ledgerRewound' | 'ledgerAcknowledged'>;

const MAX_IN_FLIGHT = 4; // of the 16 that the registry takes; a batch may have 1 MiB
const COALESCE_MS = 10; // records of a busy moment go together
const ANSWER_MS = 60_000; // a registry that takes batches and does not answer for this long is gone

class LedgerFeed {
  readonly #stream: ClientDuplexStream<AppendRequest, AppendResponse>;
  readonly #source: LedgerSource;
  readonly #events: LedgerEvents;
  readonly #logs = new Map<string, LedgerLog>();
  readonly #sealed = new Set<number>();
  #wake = Promise.withResolvers<void>();
  /** Acknowledgements are taken in their order, one after another. */
  #taking: Promise<void> = Promise.resolve();
  #failure: Refusal | undefined;
  #over = false;

  constructor(client: Client, source: LedgerSource, events: LedgerEvents) {
    this.#source = source;
    this.#events = events;
    const { path, requestSerialize, responseDeserialize } = LedgerServiceService.append;
    this.#stream = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
    this.#stream.on('data', (response: AppendResponse) => this.#answer(response));
    this.#stream.on('error', (error) => this.#end(asRefusal(error)));
    this.#stream.on('end', () => this.#end(new Refusal('REGISTRY_UNAVAILABLE', 'the registry ended the stream')));
  }

  async run(signal: AbortSignal): Promise<void> {
    using watchdog = silence(signal);
    const abort = (): void => {
      this.#stream.cancel();
      this.#end(undefined);
    };
    watchdog.signal.addEventListener('abort', abort, { once: true });
    if (watchdog.signal.aborted) abort();
    let soon: NodeJS.Timeout | undefined;
    const stop = this.#source.onChange(() => {
      soon ??= setTimeout(() => {
        soon = undefined;
        this.#wake.resolve();
      }, COALESCE_MS);
    });
    try {
      while (!this.#over) {
        const wake = this.#wake.promise;
        if (!(await this.#sendNext())) {
          await wake;
          this.#wake = Promise.withResolvers();
        }
        if (this.#inFlight > 0) watchdog.expect(ANSWER_MS);
        else watchdog.rest();
      }
    } catch (cause) {
      this.#end(asRefusal(cause));
    } finally {
      stop();
      clearTimeout(soon);
      this.#stream.cancel();
      await this.#taking;
    }
    watchdog.throwIfSilent();
    if (this.#failure !== undefined && !signal.aborted) throw this.#failure;
  }

  get #inFlight(): number {
    return [...this.#logs.values()].reduce((sum, log) => sum + log.inFlight, 0);
  }

  #end(failure: Refusal | undefined): void {
    this.#failure ??= failure;
    this.#over = true;
    this.#wake.resolve();
  }

  /** Sends one thing that waits, in turn of the logs; false where nothing can be sent now. */
  async #sendNext(): Promise<boolean> {
    for (const { tenant, origin, size } of this.#source.logs()) {
      if (this.#logs.has(origin)) continue;
      this.#logs.set(origin, new LedgerLog({ tenant, origin, source: this.#source }));
      const { publicJwk } = this.#source;
      await this.#write({ item: { $case: 'open', value: { origin, publicJwk, size: BigInt(size) } } });
      return true;
    }
    if (this.#inFlight >= MAX_IN_FLIGHT) return false;
    for (const log of this.#logs.values()) {
      const next = await log.next();
      if (next === undefined) continue;
      // The next turn begins behind this log.
      this.#logs.delete(log.origin);
      this.#logs.set(log.origin, log);
      for (const epoch of next.epochs) await this.#seal(epoch);
      await this.#write({ item: { $case: 'batch', value: next.batch } });
      return true;
    }
    return false;
  }

  async #seal(epoch: number): Promise<void> {
    if (this.#sealed.has(epoch)) return;
    const jwe = await this.#source.sealedMacKey(epoch);
    await this.#write({ item: { $case: 'macKey', value: { epoch, jwe } } });
    this.#sealed.add(epoch);
  }

  async #write(request: AppendRequest): Promise<void> {
    if (this.#over || this.#stream.write(request)) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#stream.once('drain', resolve);
    this.#stream.once('close', resolve);
    await promise;
  }

  #answer({ result }: AppendResponse): void {
    if (result?.$case === 'acknowledged') {
      const { value } = result;
      this.#taking = this.#taking.then(() => this.#take(value)).catch((cause: unknown) => this.#end(asRefusal(cause)));
    } else if (result?.$case === 'refused') this.#refuse(result.value);
  }

  async #take({ origin, size: bytes, checkpoint }: LogAcknowledged): Promise<void> {
    const log = this.#logs.get(origin);
    if (log === undefined || log.isRefused) return;
    const size = Number(bytes);
    const { tenant } = log;
    if (log.isOpen) log.acknowledged();
    else {
      const known = this.#source.log(tenant)?.acknowledged ?? 0;
      if (size < known) this.#events.ledgerRewound({ tenant, acknowledged: known, size });
      log.open(size);
    }
    await this.#source.acknowledge(tenant, size, checkpoint);
    const covered = /^[^\n]*\n(\d{1,15})\n/.exec(checkpoint)?.[1];
    if (covered !== undefined) log.countersigned(Number(covered));
    this.#events.ledgerAcknowledged({ tenant, records: size });
    this.#wake.resolve();
  }

  #refuse({ origin, code, index, message }: LogRefused): void {
    const log = this.#logs.get(origin);
    if (log === undefined) return;
    log.refuse();
    this.#events.ledgerRefused({ tenant: log.tenant, code, index: Number(index), reason: message.slice(0, 300) });
    this.#wake.resolve();
  }
}

/** Until the stream ends. Rejects with a Refusal. */
export const handIn = (
  client: Client,
  source: LedgerSource,
  events: LedgerEvents,
  signal: AbortSignal,
): Promise<void> => new LedgerFeed(client, source, events).run(signal);
