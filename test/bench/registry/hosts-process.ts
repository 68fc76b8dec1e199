// Child of the registry's bench: some hundred light hosts in one process.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { encodeKeyRecord } from '../../../proto/documents/key-record-parse.ts';
import { CatalogServiceService } from '../../../proto/gen/mortise/registry/v1/catalog.ts';
import { aRecord } from '../../support/key-records.ts';
import { answerQuestions } from '../remote.ts';
import { LightHost, sharedNow, TENANT } from './light-host.ts';

export type Question =
  | {
      readonly ask: 'enrol';
      readonly folder: string;
      readonly port: number;
      readonly hosts: readonly { readonly host: string; readonly token: string }[];
    }
  | { readonly ask: 'connect' }
  /** When a policy version, or a position of the catalogue, arrived at each. */
  | { readonly ask: 'arrivals'; readonly of: 'policies' | 'positions'; readonly at: number }
  /** A change of one key by the first host; answers when it was sent, and its position. */
  | { readonly ask: 'revoke'; readonly revision: number }
  /** When each was back after that moment, and the attempts that failed since. */
  | { readonly ask: 'returns'; readonly after: number }
  | { readonly ask: 'close' };

const WAIT_MS = 120_000;
const AT_ONCE = 16;
let hosts: LightHost[] = [];

const until = async (what: string, holds: () => boolean): Promise<void> => {
  for (const end = Date.now() + WAIT_MS; !holds(); await sleep(10)) {
    if (Date.now() > end) throw new Error(`never came about: ${what}`);
  }
};

const inTurns = async <T>(rows: readonly T[], work: (row: T) => Promise<void>): Promise<void> => {
  const left = [...rows];
  const worker = async (): Promise<void> => {
    for (let row = left.shift(); row !== undefined; row = left.shift()) await work(row);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
};

const revoke = async (revision: number): Promise<{ sentAt: number; position: number }> => {
  const state = revision % 2 === 0 ? 'REVOKED' : 'ACTIVE';
  const value = encodeKeyRecord(
    aRecord({ tenant: TENANT, keyId: `bench-${Math.ceil(revision / 2)}`, state, revision: 2 - (revision % 2) }),
  );
  const entry = { tenant: TENANT, entry: { $case: 'keyRecord' as const, value } };
  const sentAt = sharedNow();
  const expectedRevision = BigInt(1 - (revision % 2));
  const first = hosts[0] as LightHost;
  const { at } = await first.uplink.call(CatalogServiceService.putEntry, {
    entry,
    expectedRevision,
    correlationId: '',
  });
  return { sentAt, position: Number(at?.position) };
};

answerQuestions(async (question: Question) => {
  switch (question.ask) {
    case 'enrol': {
      const { folder, port } = question;
      await inTurns(question.hosts, async ({ host, token }) => {
        const dir = join(folder, host);
        await mkdir(dir, { mode: 0o700 });
        hosts.push(await LightHost.enrol({ host, dir, address: { host: 'localhost', port }, token }));
      });
      return hosts.length;
    }
    case 'connect':
      await inTurns(hosts, (host) => host.connect());
      return hosts.length;
    case 'arrivals': {
      const { of, at } = question;
      await until(`${of} ${at} at every host`, () => hosts.every((host) => host[of].has(at)));
      return hosts.map((host) => host[of].get(at));
    }
    case 'revoke':
      return revoke(question.revision);
    case 'returns': {
      const { after } = question;
      const back = (host: LightHost): number | undefined => host.connections.find((at) => at > after);
      await until('every host back', () => hosts.every((host) => back(host) !== undefined));
      return {
        returns: hosts.map(back),
        failures: hosts.map((host) => host.losses.filter(({ at }) => at > after && at < (back(host) as number)).length),
        codes: hosts.flatMap((host) => host.losses.filter(({ at }) => at > after).map(({ code }) => code)),
      };
    }
    case 'close':
      await Promise.all(hosts.map((host) => host.close()));
      hosts = [];
      return undefined;
  }
});
