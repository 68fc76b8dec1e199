// LedgerService.Append: proto to plain and back.
import type { AppendRequest, AppendResponse } from '../../../proto/gen/mortise/registry/v1/ledger.ts';
import { invalid } from '../../errors.ts';
import { type Call, hostOf } from '../caller.ts';
import type { Answer, IngestPort } from './ledger-ports.ts';

const safe = (value: bigint, field: string): number => {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw invalid(field, 'too large');
  return Number(value);
};

const messageOf = (answer: Answer): AppendResponse => {
  if (answer.kind === 'acknowledged') {
    const { origin, size, checkpoint } = answer;
    return { result: { $case: 'acknowledged', value: { origin, size: BigInt(size), checkpoint } } };
  }
  const { origin, code, index, size, message } = answer;
  const value = { origin, code, index: BigInt(index), size: BigInt(size), message };
  return { result: { $case: 'refused', value } };
};

const answersTo = async (
  session: ReturnType<IngestPort['session']>,
  { item }: AppendRequest,
): Promise<readonly Answer[]> => {
  switch (item?.$case) {
    case 'macKey':
      return session.macKey(item.value.epoch, item.value.jwe);
    case 'open':
      return [await session.open(item.value.origin, item.value.publicJwk, safe(item.value.size, 'open.size'))];
    case 'batch': {
      const { origin, from, records, checkpoints } = item.value;
      const plain = records.map(({ record, mac }) => ({ record: Buffer.from(record), mac: Buffer.from(mac) }));
      const batch = { origin, from: safe(from, 'batch.from'), records: plain, checkpoints };
      const answer = await session.batch(batch);
      return answer === undefined ? [] : [answer];
    }
    case undefined:
      throw invalid('item', 'is needed');
  }
};

/** One message after the other: a batch is answered before the next one is looked at. */
export async function* append(
  ingest: IngestPort,
  call: Call,
  requests: AsyncIterable<AppendRequest>,
): AsyncGenerator<AppendResponse> {
  const session = ingest.session(hostOf(call).name);
  for await (const request of requests) {
    for (const answer of await answersTo(session, request)) yield messageOf(answer);
  }
}
