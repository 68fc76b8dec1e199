// The heartbeat of a session with the registry: says what this host has applied, hears commands. Invariant: the first
// message has everything, a later one what changed since, and none is later than the registry asked for.
import type { Client, ClientDuplexStream } from '@grpc/grpc-js';
import {
  type HeartbeatRequest,
  HeartbeatRequest as HeartbeatRequestMessage,
  type HeartbeatResponse,
  type HeartbeatWelcome,
  HostsServiceService,
} from '../../proto/gen/mortise/registry/v1/hosts.ts';
import type { HostState } from './ports.ts';
import { asRefusal, Refusal } from './refusal.ts';

export interface HeartbeatOptions {
  readonly client: Client;
  readonly version: string;
  readonly startedAt: number;
  readonly state: () => HostState;
  /** The registry asks for something; the stream goes on. */
  readonly renew: (reason: string) => void;
  readonly goAway: (graceSeconds: number) => void;
}

const WELCOME_MS = 10_000;
const COALESCE_MS = 20; // what changes together is told together
const DEFAULT_INTERVAL_S = 15;
const MAX_DETAIL = 255;

/** What of a list is new or other than told before. */
class Told<T, V> {
  readonly #known = new Map<string, V>();
  readonly #keyIn: (row: T) => string;
  readonly #valueIn: (row: T) => V;

  constructor(keyIn: (row: T) => string, valueIn: (row: T) => V) {
    this.#keyIn = keyIn;
    this.#valueIn = valueIn;
  }

  news(rows: readonly T[]): T[] {
    return rows.filter((row) => {
      const [key, value] = [this.#keyIn(row), this.#valueIn(row)];
      const isNews = this.#known.get(key) !== value;
      this.#known.set(key, value);
      return isNews;
    });
  }
}

type Row<K extends keyof HostState> = HostState[K][number];

const tenantOf = ({ tenant }: { readonly tenant: string }): string => tenant;

export class Heartbeat {
  /** Settles at the first answer. */
  readonly welcomed: Promise<HeartbeatWelcome>;
  /** Resolves with why the stream ended; never rejects. */
  readonly ended: Promise<Refusal>;
  readonly #options: HeartbeatOptions;
  readonly #stream: ClientDuplexStream<HeartbeatRequest, HeartbeatResponse>;
  readonly #told = {
    policies: new Told(tenantOf as (row: Row<'policies'>) => string, ({ version, digest }) => `${version} ${digest}`),
    catalogs: new Told(tenantOf as (row: Row<'catalogs'>) => string, ({ position }) => position),
    backlogs: new Told(tenantOf as (row: Row<'backlogs'>) => string, ({ records }) => records),
    parts: new Told(
      ({ part }: Row<'parts'>) => part,
      ({ healthy, detail }) => `${healthy} ${detail}`,
    ),
  };
  #interval: NodeJS.Timeout | undefined;
  #soon: NodeJS.Timeout | undefined;
  #over = false;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
    const { path, requestSerialize, responseDeserialize } = HostsServiceService.heartbeat;
    this.#stream = options.client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
    const welcome = Promise.withResolvers<HeartbeatWelcome>();
    const end = Promise.withResolvers<Refusal>();
    this.welcomed = welcome.promise;
    this.ended = end.promise;
    welcome.promise.catch(() => undefined); // whoever waits is told; `ended` tells everybody
    const finish = (why: Refusal): void => {
      this.#over = true;
      clearTimeout(patience);
      clearInterval(this.#interval);
      clearTimeout(this.#soon);
      welcome.reject(why);
      end.resolve(why);
    };
    const patience = setTimeout(() => {
      finish(new Refusal('REGISTRY_UNAVAILABLE', 'the registry does not answer'));
      this.#stream.cancel();
    }, WELCOME_MS);
    this.#stream.on('data', (response: HeartbeatResponse) => {
      const { command } = response;
      if (command?.$case === 'welcome') {
        clearTimeout(patience);
        const seconds = command.value.intervalSeconds || DEFAULT_INTERVAL_S;
        this.#interval ??= setInterval(() => this.#beat(), seconds * 1000);
        welcome.resolve(command.value);
      } else if (command?.$case === 'revoked') finish(new Refusal('HOST_REVOKED', command.value.reason));
      else if (command?.$case === 'renew') options.renew(command.value.reason);
      else if (command?.$case === 'goAway') options.goAway(command.value.graceSeconds);
    });
    this.#stream.on('error', (error) => finish(asRefusal(error)));
    this.#stream.on('end', () => finish(new Refusal('REGISTRY_UNAVAILABLE', 'the registry ended the heartbeat')));
    this.#write({ agentVersion: options.version, startTime: new Date(options.startedAt) });
  }

  /** Something was applied, or waits: tells it in a moment. */
  changed(): void {
    if (this.#over) return;
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      this.#beat();
    }, COALESCE_MS);
  }

  close(): void {
    this.#stream.cancel();
  }

  #beat(): void {
    this.#write({});
  }

  #write(first: { agentVersion?: string; startTime?: Date }): void {
    if (this.#over) return;
    const { policies, catalogs, backlogs, parts } = this.#options.state();
    this.#stream.write(
      HeartbeatRequestMessage.fromPartial({
        ...first,
        policies: this.#told.policies.news(policies).map(({ version, since, ...row }) => ({
          ...row,
          version: BigInt(version),
          since: new Date(since),
        })),
        catalogs: this.#told.catalogs.news(catalogs).map(({ tenant, position }) => ({
          tenant,
          position: BigInt(position),
        })),
        backlogs: this.#told.backlogs
          .news(backlogs)
          .map(({ tenant, records }) => ({ tenant, records: BigInt(records) })),
        parts: this.#told.parts.news(parts).map((row) => ({ ...row, detail: row.detail.slice(0, MAX_DETAIL) })),
      }),
    );
  }
}
