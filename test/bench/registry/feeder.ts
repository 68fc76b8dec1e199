// Child of the registry's bench: hosts that hand in audit logs over gRPC, as fast as they are acknowledged, each with as
// many batches under way as an agent has. Records are made before the clock runs.
import { createPublicKey, type JsonWebKey, randomUUID } from 'node:crypto';
import type { Client } from '@grpc/grpc-js';
import { LedgerServiceService } from '../../../proto/gen/mortise/registry/v1/ledger.ts';
import { LedgerHost } from '../../support/ledger-host.ts';
import { connectTo, duplex, enrolWith } from '../../support/registry-client.ts';
import { answerQuestions } from '../remote.ts';
import { sharedNow, TENANT } from './light-host.ts';

export type FeederQuestion =
  | {
      readonly ask: 'enrol';
      readonly port: number;
      readonly roots: readonly string[];
      readonly host: string;
      readonly token: string;
    }
  | { readonly ask: 'make'; readonly hosts: readonly string[]; readonly records: number }
  /** Answers in how many milliseconds everything was acknowledged. */
  | { readonly ask: 'feed'; readonly hosts: readonly string[] };

const BATCH = 512;
const IN_FLIGHT = 4;

interface Feeding {
  readonly client: Client;
  readonly log: LedgerHost;
  readonly stream: ReturnType<typeof openStream>;
  handedIn: number;
}

const openStream = (client: Client) => duplex(client, LedgerServiceService.append);
const feedings = new Map<string, Feeding>();

const feedingOf = (host: string): Feeding => {
  const feeding = feedings.get(host);
  if (feeding === undefined) throw new Error(`${host} is not enrolled`);
  return feeding;
};

const enrol = async ({ port, roots, host, token }: FeederQuestion & { ask: 'enrol' }): Promise<void> => {
  const certified = await enrolWith(port, { token, roots });
  const client = connectTo(port, certified);
  const log = new LedgerHost({ host, tenant: TENANT, epoch: Math.floor(Date.now() / 1000) });
  const stream = openStream(client);
  const sealingJwk = JSON.parse(certified.response.credentials?.sealingJwk ?? '{}') as JsonWebKey;
  const jwe = await log.sealedMacKey(createPublicKey({ key: sealingJwk, format: 'jwk' }));
  stream.write({ item: { $case: 'macKey', value: { epoch: log.epoch, jwe } } });
  stream.write({ item: { $case: 'open', value: { origin: log.origin, publicJwk: log.jwk, size: 0n } } });
  await stream.next();
  feedings.set(host, { client, log, stream, handedIn: 0 });
};

const make = ({ log }: Feeding, records: number): void => {
  for (let count = 0; count < records; count += 1) {
    log.add({
      principal: `svc-${count % 200}`,
      key: `key-${count % 1000}/1`,
      operation: (['encrypt', 'decrypt', 'sign', 'verify', 'mac'] as const)[count % 5] ?? 'sign',
      correlationId: randomUUID(),
      time: new Date().toISOString().replace('Z', '000Z'),
      detail: '{"uid":1000,"pid":4242,"durationMicros":412}',
    });
  }
};

/** One checkpoint to a batch: more than a busy agent makes, which makes one a second. */
const batchesOf = async (feeding: Feeding) => {
  const { log } = feeding;
  const batches = [];
  for (let from = feeding.handedIn; from < log.records.length; from += BATCH) {
    const to = Math.min(from + BATCH, log.records.length);
    const { origin, records, checkpoints } = log.batch(from, to, [await log.checkpoint(to)]);
    batches.push({ origin, from: BigInt(from), records: [...records], checkpoints: [...checkpoints] });
  }
  feeding.handedIn = log.records.length;
  return batches;
};

const feed = async (stream: Feeding['stream'], batches: Awaited<ReturnType<typeof batchesOf>>): Promise<void> => {
  let sent = 0;
  const send = (): void => {
    const value = batches[sent];
    sent += 1;
    if (value !== undefined) stream.write({ item: { $case: 'batch', value } });
  };
  for (let first = 0; first < IN_FLIGHT; first += 1) send();
  for (const { from } of batches) {
    const { result } = await stream.next();
    if (result?.$case !== 'acknowledged')
      throw new Error(`the batch from ${from} was not taken: ${JSON.stringify(result?.value.origin)}`);
    send();
  }
};

answerQuestions(async (question: FeederQuestion) => {
  switch (question.ask) {
    case 'enrol':
      return enrol(question);
    case 'make':
      for (const host of question.hosts) make(feedingOf(host), question.records);
      return undefined;
    case 'feed': {
      const all = await Promise.all(
        question.hosts.map(async (host) => ({ host, batches: await batchesOf(feedingOf(host)) })),
      );
      const from = sharedNow();
      await Promise.all(all.map(({ host, batches }) => feed(feedingOf(host).stream, batches)));
      return sharedNow() - from;
    }
  }
});
