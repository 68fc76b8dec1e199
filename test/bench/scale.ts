// Does an operation cost more where there is much of everything? Three agents, alike but for what they hold: nothing,
// 2,000 keys on the token under 10,000 key records, 5 million audit records. The stores are filled by the product's own
// code before the agent starts over them.
import { join } from 'node:path';
import { prepareDataFolder } from '../../agent/assembly/data-folder.ts';
import { openAuditLog } from '../../agent/audit/log.ts';
import { openTokenKeys } from '../../agent/audit/token-keys.ts';
import { type KeysEvents, openKeys } from '../../agent/keys/keys.ts';
import { openSealingKey } from '../../agent/keys/sealing-key.ts';
import type { Token } from '../../agent/token/token.ts';
import type { KeyRecord } from '../../proto/documents/key-record.ts';
import type { RunningAgent } from '../support/agent.ts';
import { ignoredTokenEvents, openSoftHsmToken } from '../support/token.ts';
import { type BarResult, judge } from './bars.ts';
import { BenchAgent, type Cell, Direct, makeKeys, measure } from './lab.ts';
import { Remote } from './remote.ts';
import { type Findings, type Settings, thousands } from './run.ts';
import { median, ratios, spreadOf } from './statistics.ts';
import type { WorkName } from './work.ts';

const SIZES = {
  full: { keys: 2_000, keyRecords: 10_000, auditRecords: 5_000_000 },
  quick: { keys: 200, keyRecords: 1_000, auditRecords: 100_000 },
};
type Sizes = (typeof SIZES)['full'];

const WORK: readonly WorkName[] = ['ecdsa', 'encrypt'];
const AT_ONCE = 4096; // appends that wait together: eight groups of the log

const ignored = <Events extends object>(): Events => new Proxy({} as Events, { get: () => () => undefined });

const whileTokenIsOpen = async (agent: RunningAgent, act: (token: Token) => Promise<void>): Promise<void> => {
  await prepareDataFolder(agent.dataDir);
  await using token = await openSoftHsmToken(agent.token, {}, ignoredTokenEvents);
  await act(token);
};

const fillKeys = async (agent: RunningAgent, { keys, keyRecords }: Sizes): Promise<void> => {
  await using direct = await Direct.start(agent, { processes: 1 });
  const tokenIds = await direct.fill('mortise:key:bench:filler-', keys);
  await whileTokenIsOpen(agent, async (token) => {
    const events = ignored<KeysEvents>();
    const room = openKeys({
      path: join(agent.dataDir, 'keys'),
      kekLabelPrefix: 'mortise:kek:tenant',
      clock: { now: () => Date.now() },
      token,
      audit: { append: async () => {} },
      events,
    });
    const host = agent.env['MORTISE_HOST_ID'] as string;
    room.unlock(await openSealingKey({ token, host, now: () => Date.now(), events, store: room.store }));
    for (let index = 0; index < keyRecords; index += 1) await room.catalog.insert(fillerKey(index, tokenIds));
    await room.close();
  });
};

/** Records beyond the keys on the token are of keys that were destroyed long ago. */
const fillerKey = (index: number, tokenIds: readonly string[]): KeyRecord => {
  const now = Date.now();
  const tokenId = tokenIds[index];
  const version = { version: 1, algorithm: 'AES-256', jose: 'A256GCMKW', custody: 'hsm', createdAt: now } as const;
  return {
    tenant: 'bench',
    keyId: `filler-${index}`,
    purpose: 'encrypt',
    state: tokenId === undefined ? 'DESTROYED' : 'ACTIVE',
    labels: {},
    limits: {},
    grants: [],
    versions: [tokenId === undefined ? { ...version, state: 'DESTROYED' } : { ...version, state: 'PRIMARY', tokenId }],
    createdAt: now,
    updatedAt: now,
    revision: 1,
  };
};

const fillAuditLog = (agent: RunningAgent, { auditRecords }: Sizes): Promise<void> =>
  whileTokenIsOpen(agent, async (token) => {
    const host = agent.env['MORTISE_HOST_ID'] as string;
    const clock = { now: (): number => Date.now() };
    const log = await openAuditLog({
      path: join(agent.dataDir, 'audit'),
      host,
      clock,
      durability: () => 'committed',
      token: await openTokenKeys({ token, host, now: clock.now }),
      events: ignored(),
    });
    const entry = {
      tenant: 'bench',
      principal: 'app',
      key: 'ec/1',
      algorithm: 'ES256',
      operation: 'sign',
      outcome: 'ok',
      correlationId: '00000000-0000-4000-8000-000000000000',
      detail: { uid: 0, pid: 1 },
    };
    for (let left = auditRecords; left > 0; left -= AT_ONCE) {
      await Promise.all(Array.from({ length: Math.min(left, AT_ONCE) }, () => log.append(entry)));
    }
    await log.close();
  });

/** CPU of agent and token process for one operation: steadier than the rate, and what a scan would show in. */
const cpuOf = ({ agentCpu, tokenCpu }: Cell): number => agentCpu + tokenCpu;
const rateOf = ({ load }: Cell): number => load.rate;

export const measureScale = async ({ rounds, cellMs, quick, say }: Settings): Promise<Findings> => {
  const sizes = quick ? SIZES.quick : SIZES.full;
  await using few = await BenchAgent.start();
  await using many = await BenchAgent.start({ fill: (agent) => fillKeys(agent, sizes) });
  say(`scale: ${thousands(sizes.keys)} keys made, ${thousands(sizes.keyRecords)} key records`);
  await using long = await BenchAgent.start({ fill: (agent) => fillAuditLog(agent, sizes) });
  say(`scale: ${thousands(sizes.auditRecords)} audit records`);
  await using client = new Remote('client.ts');
  const agents = { few, many, long };
  for (const on of Object.values(agents)) await makeKeys(client, on, ['bench']);
  const rows: string[][] = [];
  const worst: { ratios: number[]; costs: number[] } = { ratios: [], costs: [] };
  for (const work of WORK) {
    const cells = { few: [] as Cell[], many: [] as Cell[], long: [] as Cell[] };
    // Round 0 does not count: each session of the token searches for a key once, which takes as long as it has keys.
    for (let round = 0; round <= rounds; round += 1) {
      for (const name of ['few', 'many', 'long'] as const) {
        const cell = await measure(client, agents[name], { work, door: 'pipeline', inFlight: 64, ms: cellMs });
        if (round > 0) cells[name].push(cell);
      }
    }
    for (const [name, title] of [
      ['many', `${thousands(sizes.keys)} keys, ${thousands(sizes.keyRecords)} key records`],
      ['long', `${thousands(sizes.auditRecords)} audit records`],
    ] as const) {
      const byTime = ratios(cells.few.map(rateOf), cells[name].map(rateOf));
      const byCpu = ratios(cells[name].map(cpuOf), cells.few.map(cpuOf));
      rows.push([
        `${work}, ${title}`,
        thousands(median(cells.few.map(rateOf))),
        thousands(median(cells[name].map(rateOf))),
        median(byTime).toFixed(2),
        spreadOf(byTime)
          .map((value) => value.toFixed(2))
          .join('–'),
        median(byCpu).toFixed(2),
      ]);
      if (median(byTime) > (worst.ratios.length === 0 ? 0 : median(worst.ratios))) {
        worst.ratios = byTime;
        worst.costs = cells[name].map((cell) => 1e6 / rateOf(cell));
      }
    }
  }
  say(`scale: worst ratio ${median(worst.ratios).toFixed(2)}`);
  return { bars: [barOf(worst, quick, sizes)], tables: [tableOf(rows)] };
};

const barOf = (worst: { ratios: number[]; costs: number[] }, quick: boolean, sizes: Sizes): BarResult =>
  judge('scale', worst.costs, worst.ratios, {
    note: quick
      ? `scaled down: ${thousands(sizes.keys)} keys, ${thousands(sizes.keyRecords)} key records, ${thousands(sizes.auditRecords)} audit records`
      : 'the worst of four ratios of time per operation',
  });

const tableOf = (rows: readonly (readonly string[])[]) => ({
  title: 'Cost per operation with much in the stores (Pipeline, 64 in flight)',
  head: ['work, and what the second agent holds', 'empty, /s', 'full, /s', 'time ÷ time', 'spread', 'CPU ÷ CPU'],
  rows,
  notes: ['CPU is that of agent and token process together.'],
});
