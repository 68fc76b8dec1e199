// An open policy room on a real folder and a real LMDB store, with a clock that tests set and everything it says kept.
import { createHmac, createSecretKey, randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { PolicyEvents, PolicyInput } from '../../../agent/policy/interface.ts';
import { openPolicy, Policy } from '../../../agent/policy/policy.ts';
import type { PolicyRecord } from '../../../agent/policy/store.ts';
import { makePolicyFolder, type PolicyFolder, type PolicyFolderInput } from '../../support/policy.ts';

export const DAY_MS = 24 * 3600 * 1000;
export const NOW = Date.UTC(2026, 10, 24, 8);

type Said = { [K in keyof PolicyEvents]: Parameters<PolicyEvents[K]>[0][] };

export interface Room extends AsyncDisposable {
  readonly folder: PolicyFolder;
  readonly dataDir: string;
  readonly storeDir: string;
  readonly said: Said;
  readonly records: PolicyRecord[];
  readonly clock: { time: number; now(): number };
  /** Set to make the next calls of the token or the audit log fail. */
  readonly faults: { mac?: Error | undefined; record?: Error | undefined };
  policy: Policy;
  /** Ends the agent and starts it again on the same folders. */
  restart(): Promise<Policy>;
}

const listen = (): { said: Said; events: PolicyEvents } => {
  const said: Said = { adopted: [], refused: [], anchorPinned: [], storeFailed: [], reloaded: [], recordFailed: [] };
  const events: PolicyEvents = {
    adopted: (event) => void said.adopted.push(event),
    refused: (event) => void said.refused.push(event),
    anchorPinned: (event) => void said.anchorPinned.push(event),
    storeFailed: (event) => void said.storeFailed.push(event),
    reloaded: (event) => void said.reloaded.push(event),
    recordFailed: (event) => void said.recordFailed.push(event),
  };
  return { said, events };
};

export const openRoom = async (
  input: PolicyFolderInput & {
    /** Without it only reload() reads the folder. */
    watch?: { intervalMs: number };
    beforeOpen?: (folder: PolicyFolder) => Promise<void>;
  } = {},
): Promise<Room> => {
  const folder = await makePolicyFolder({ now: NOW, ...input });
  await input.beforeOpen?.(folder);
  const dataDir = await mkdtemp(join(tmpdir(), 'mortise-data-'));
  const key = createSecretKey(randomBytes(32));
  const clock = { time: NOW, now: () => clock.time };
  const faults: Room['faults'] = {};
  const records: PolicyRecord[] = [];
  const { said, events } = listen();

  const open = async (): Promise<Policy> => {
    const parts: PolicyInput = {
      dir: folder.dir,
      dataDir,
      clock,
      events,
      reloadIntervalMs: input.watch?.intervalMs ?? 0,
      mac: async (data) => {
        if (faults.mac !== undefined) throw faults.mac;
        return createHmac('sha256', key).update(data).digest();
      },
      record: async (record) => {
        if (faults.record !== undefined) throw faults.record;
        records.push(record);
      },
    };
    if (input.watch !== undefined) return openPolicy(parts);
    const policy = new Policy(parts);
    await policy.reload();
    return policy;
  };

  const room: Room = {
    folder,
    dataDir,
    storeDir: join(dataDir, 'policy'),
    said,
    records,
    clock,
    faults,
    policy: await open(),
    restart: async () => {
      await room.policy.close();
      room.policy = await open();
      return room.policy;
    },
    [Symbol.asyncDispose]: async () => {
      await room.policy.close();
      await rm(dataDir, { recursive: true, force: true });
      await folder.remove();
    },
  };
  return room;
};

/** "allowed" or the code of the refusal. */
export const outcome = (policy: Policy, question: Parameters<Policy['decide']>[0]): string => {
  const decision = policy.decide(question);
  return decision.allowed ? 'allowed' : decision.code;
};

export const encrypt = (tenant: string, algorithm = 'AES-256', jose = 'A256GCMKW') =>
  ({ tenant, operation: 'encrypt', algorithm, jose, custody: 'hsm' }) as const;
