// A real registry process for the bench, over either store, with as many light hosts as are asked for. Invariant: nothing
// of it is left behind.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makePolicyFolder, type PolicyFolder } from '../../support/policy.ts';
import { startPostgres, type TestDatabase, type TestPostgres } from '../../support/postgres.ts';
import { RegistryProcess } from '../../support/registry-process.ts';
import { TENANT } from './light-host.ts';

export const STORES = ['LMDB', 'PostgreSQL'] as const;
export type StoreName = (typeof STORES)[number];

/** As one would set it for a server of this size; the tests' own have next to no memory. */
const SETTINGS = [
  ...['shared_buffers=4GB', 'max_wal_size=8GB', 'work_mem=16MB', 'max_connections=100'],
  // Pages that are written whole after a checkpoint are most of the WAL of random index entries.
  ...['wal_compression=lz4', 'checkpoint_timeout=15min'],
];

export const startDatabase = (): Promise<TestPostgres> => startPostgres({ settings: SETTINGS });

export class BenchRegistry implements AsyncDisposable {
  readonly process: RegistryProcess;
  readonly policies: PolicyFolder;
  readonly folder: string;
  readonly database: TestDatabase | undefined;

  private constructor(parts: {
    process: RegistryProcess;
    policies: PolicyFolder;
    folder: string;
    database: TestDatabase | undefined;
  }) {
    this.process = parts.process;
    this.policies = parts.policies;
    this.folder = parts.folder;
    this.database = parts.database;
  }

  /** With the tenant and a published policy. Intervals are the program's own. */
  static async start(postgres?: TestPostgres): Promise<BenchRegistry> {
    const folder = await mkdtemp(join(tmpdir(), 'mortise-bench-registry-'));
    const policies = await makePolicyFolder({ tenants: [TENANT] });
    const database = await postgres?.database();
    const urlFile = join(folder, 'url');
    if (database !== undefined) await writeFile(urlFile, database.url, { mode: 0o400 });
    const process = await RegistryProcess.make(join(policies.dir, 'trust-anchor.json'), {
      REGISTRY_HEARTBEAT_SECONDS: '10',
      REGISTRY_REFRESH_SECONDS: '10',
      REGISTRY_MAX_CONNECTIONS_PER_CLIENT: '128', // while they enrol, all hosts are one address without certificates
      ...(database !== undefined && { REGISTRY_DATABASE_URL_FILE: urlFile }),
    });
    const registry = new BenchRegistry({ process, policies, folder, database });
    await process.admit('first', [TENANT]);
    await registry.publish();
    return registry;
  }

  /** What the policy folder has now. */
  async publish(): Promise<void> {
    await this.process.publish(await readFile(join(this.policies.dir, 'platform.json')));
  }

  /** Resident memory, KiB. */
  async resident(): Promise<number> {
    const text = await readFile(`/proc/${this.process.pid}/smaps_rollup`, 'utf8');
    return Number(/^Rss:\s+(\d+) kB/m.exec(text)?.[1]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process[Symbol.asyncDispose]();
    await this.policies.remove();
    await rm(this.folder, { recursive: true, force: true });
  }
}
