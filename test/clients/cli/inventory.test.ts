// mortise inventory: what it says of each version, as a table, as JSON and as a CycloneDX document, however many keys.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { cbomOf } from '../../../clients/cli/inventory/cbom.ts';
import { inventory, type KeyEntry } from '../../../clients/cli/inventory/entries.ts';
import { jsonOf, tableOf } from '../../../clients/cli/inventory/text.ts';
import type { Key, MortiseClient } from '../../../clients/typescript/index.ts';
import { ALGORITHMS, type Purpose } from '../../../proto/documents/algorithms.ts';
import { cycloneDxFaults } from '../../support/cyclonedx.ts';
import { StubAgent } from '../stub-agent.ts';
import { runCli, temporaryFolder } from './run-cli.ts';

const TIME = new Date('2026-10-01T10:00:00Z');
const NOW = new Date('2026-11-24T00:00:00Z');
const NONE = { lastApplyTime: undefined, lastProcessTime: undefined, sunsetWarnTime: undefined, sunsetTime: undefined };

const aKey = (change: Partial<Key> = {}): Key => ({
  keyId: 'orders',
  tenant: 'acme',
  purpose: 'encrypt',
  state: 'ACTIVE',
  labels: {},
  limits: {},
  grants: [],
  versions: [],
  createTime: TIME,
  updateTime: TIME,
  activationTime: undefined,
  destroyTime: undefined,
  revision: 1,
  uses: 0,
  ...change,
});
const aVersion = (change: Partial<Key['versions'][number]> = {}): Key['versions'][number] => ({
  version: 1,
  algorithm: 'AES-256',
  joseAlgorithm: 'A256GCMKW',
  state: 'PRIMARY',
  custody: 'hsm',
  origin: 'generated',
  createTime: TIME,
  uses: 0,
  ...NONE,
  ...change,
});

/** One key of each algorithm and purpose, in each state that a key can have. */
const everything = (): readonly Key[] => {
  const states = [
    'ACTIVE',
    'PRE_ACTIVE',
    'SUSPENDED',
    'EXPIRED',
    'REVOKED',
    'PENDING_DESTRUCTION',
    'DESTROYED',
  ] as const;
  return ALGORITHMS.flatMap(({ id, jose, custody }) =>
    Object.entries(jose).map(([purpose, names]) => ({
      id,
      purpose: purpose as Purpose,
      jose: names[0] as string,
      custody,
    })),
  ).map(({ id, purpose, jose, custody }, at) => {
    const algorithm = { algorithm: id, joseAlgorithm: jose, custody: custody[0] as 'hsm' };
    return aKey({
      keyId: `k${at}`,
      purpose,
      state: states[at % states.length] as 'ACTIVE',
      limits: { hardExpiry: TIME },
      activationTime: TIME,
      versions: [
        aVersion({ ...algorithm, state: 'RETIRED', lastProcessTime: TIME }),
        aVersion({ ...algorithm, version: 2, sunsetWarnTime: TIME, sunsetTime: NOW, lastApplyTime: TIME, uses: 3 }),
      ],
    });
  });
};

const clientOf = (keys: readonly Key[], seen?: { listed: number }): MortiseClient =>
  ({
    keys: {
      list: async function* () {
        for (const key of keys) {
          if (seen !== undefined) seen.listed += 1;
          yield key;
        }
      },
    },
  }) as unknown as MortiseClient;
const gathered = async <T>(from: AsyncIterable<T>): Promise<readonly T[]> => {
  const all: T[] = [];
  for await (const one of from) all.push(one);
  return all;
};
const collected = async (texts: AsyncIterable<string>): Promise<string> => (await gathered(texts)).join('');

test('the table says of each version what it is exposed to, when it was last used, and when it ends', async () => {
  const key = aKey({
    versions: [
      aVersion({ algorithm: 'RSA-2048', state: 'RETIRED', uses: 12, lastApplyTime: TIME, lastProcessTime: NOW }),
      aVersion({
        version: 2,
        algorithm: 'RSA-3072',
        sunsetWarnTime: TIME,
        sunsetTime: new Date('2031-01-01T00:00:00Z'),
      }),
    ],
  });
  const suspended = aKey({
    keyId: 'sig',
    purpose: 'sign',
    state: 'SUSPENDED',
    versions: [aVersion({ algorithm: 'EC-P256', sunsetWarnTime: TIME, sunsetTime: TIME })],
  });
  const text = await collected(tableOf(inventory(clientOf([key, suspended]), {}, {}), NOW));
  const rows = text.split('\n').map((line) => line.split(/ {2,}/));
  assert.deepEqual(rows.slice(0, 4), [
    ['KEY', 'VERSION', 'STATE', 'ALGORITHM', 'CUSTODY', 'USES', 'LAST USE', 'QUANTUM RISK', 'SUNSET'],
    ['orders', '1', 'RETIRED', 'RSA-2048', 'hsm', '12', '2026-11-24T00:00:00Z', 'harvest-now', '-'],
    ['orders', '2', 'PRIMARY', 'RSA-3072', 'hsm', '0', '-', 'harvest-now', 'warns, ends 2031-01-01'],
    ['sig', '1', 'SUSPENDED', 'EC-P256', 'hsm', '0', '-', 'forge-later', 'ended 2026-10-01'],
  ]);
  assert.match(text, /^2 keys, 3 versions$/m);
  assert.match(text, /harvest-now\): 2 versions\n.*forge-later\): 1 versions\npast their sunset: 1 versions/);
});

test('a key id from another side cannot move the cursor', async () => {
  const key = aKey({ keyId: 'a\u001b[2Jb', versions: [aVersion()] });
  assert.ok(!(await collected(tableOf(inventory(clientOf([key]), {}, {}), NOW))).includes('\u001b'));
});

test('as a CBOM every algorithm, custody and state validates against the schema of CycloneDX 1.6', async () => {
  const keys = everything();
  const text = await collected(cbomOf(inventory(clientOf(keys), {}, {}), { tenant: 'acme', now: NOW }));
  const bom = JSON.parse(text) as {
    components: {
      'bom-ref': string;
      cryptoProperties: { relatedCryptoMaterialProperties?: { algorithmRef: string } };
    }[];
    dependencies: { ref: string; dependsOn: string[] }[];
  };
  assert.deepEqual(cycloneDxFaults(bom), []);
  const refs = new Set(bom.components.map((component) => component['bom-ref']));
  assert.equal(refs.size, bom.components.length, 'a bom-ref stands twice');
  const named = bom.components.flatMap(
    ({ cryptoProperties: { relatedCryptoMaterialProperties: key } }) => key?.algorithmRef ?? [],
  );
  assert.equal(named.length, 2 * keys.length);
  for (const ref of [...named, ...bom.dependencies.flatMap(({ ref, dependsOn }) => [ref, ...dependsOn])]) {
    assert.ok(refs.has(ref), `${ref} is named and does not exist`);
  }
  const hybrid = bom.dependencies.find(({ ref }) => ref === 'algorithm:ML-KEM-768-P256:encrypt');
  assert.deepEqual(hybrid?.dependsOn, ['algorithm:EC-P256:encrypt', 'algorithm:ML-KEM-768:encrypt']);
});

test('the schema would tell: a document that is wrong does not validate', async () => {
  const text = await collected(cbomOf(inventory(clientOf(everything()), {}, {}), { tenant: 'acme', now: NOW }));
  for (const [from, to] of [
    ['"primitive": "kem"', '"primitive": "magic"'],
    ['"state": "active"', '"state": "ACTIVE"'],
    ['"bomFormat"', '"format"'],
  ] as const) {
    assert.ok(text.includes(from));
    assert.notDeepEqual(cycloneDxFaults(JSON.parse(text.replace(from, to))), []);
  }
});

for (const [name, render] of [
  ['table', tableOf],
  ['JSON', jsonOf],
  ['CBOM', (keys: AsyncIterable<KeyEntry>, now: Date) => cbomOf(keys, { tenant: 'acme', now })],
] as const) {
  test(`the ${name} of 2,000 keys is written while it is read: no key is kept`, async () => {
    const seen = { listed: 0 };
    const keys = Array.from({ length: 2000 }, (_, at) => aKey({ keyId: `k${at}`, versions: [aVersion()] }));
    let pieces = 0;
    let text = '';
    for await (const piece of render(inventory(clientOf(keys, seen), {}, {}), NOW)) {
      assert.ok(seen.listed <= pieces + 1, `${seen.listed} keys were read for ${pieces} pieces`);
      pieces += 1;
      text += piece;
    }
    assert.equal(seen.listed, 2000);
    assert.ok(text.includes('k1999'));
    if (name !== 'table') JSON.parse(text);
  });
}

test('the program asks for keys in every state, page after page, and writes whole files', async (t) => {
  await using agent = await new StubAgent().start();
  const folder = temporaryFolder(t);
  const message = (keyId: string) => ({
    keyId,
    tenant: 'acme',
    purpose: 'PURPOSE_ENCRYPT',
    state: 'KEY_STATE_ACTIVE',
    labels: {},
    grants: [],
    versions: [
      {
        version: 1,
        algorithm: 'RSA-2048',
        joseAlgorithm: 'RSA-OAEP-256',
        state: 'VERSION_STATE_PRIMARY',
        custody: 'CUSTODY_HSM',
        origin: 'ORIGIN_GENERATED',
        createTime: TIME,
        uses: 5n,
        lastApplyTime: TIME,
        lastProcessTime: undefined,
        sunsetWarnTime: undefined,
        sunsetTime: undefined,
      },
    ],
    createTime: TIME,
    revision: 1n,
    uses: 5n,
  });
  agent.answers['listKeys'] = ({ request }) =>
    request.pageToken === ''
      ? { keys: [message('a')], nextPageToken: 'more' }
      : { keys: [message('b')], nextPageToken: '' };
  agent.answers['whoAmI'] = () => ({
    tenant: 'acme',
    principal: 'p',
    scopes: [],
    authenticatedBy: 'peer',
    uid: 1,
    gid: 2,
    pid: 3,
  });
  const at = ['--socket', agent.socketPath];
  const json = await runCli(['inventory', '--output', 'json', '--prefix', 'x', '--label', 'team=a', ...at]);
  assert.equal(json.code, 0, json.stderr);
  const { keys, summary } = JSON.parse(json.stdout);
  assert.deepEqual(
    keys.map((key: KeyEntry) => [key.keyId, key.versions[0]?.quantumRisk, key.versions[0]?.lastUseTime]),
    ['a', 'b'].map((id) => [id, 'harvest-now', TIME.toISOString()]),
  );
  assert.deepEqual([summary.keys, summary.risks], [2, { 'harvest-now': 2 }]);
  const [{ request } = { request: {} }] = agent.calls;
  assert.equal(request.states.length, 7);
  assert.deepEqual([request.prefix, request.labels], ['x', { team: 'a' }]);
  const file = join(folder, 'bom.json');
  const cbom = await runCli(['inventory', '--cbom', '--out', file, ...at]);
  assert.equal(cbom.code, 0, cbom.stderr);
  const bom = JSON.parse(readFileSync(file, 'utf8'));
  assert.deepEqual(cycloneDxFaults(bom), []);
  assert.equal(bom.metadata.component.name, 'keys of tenant acme');
  const again = await runCli(['inventory', '--cbom', '--out', file, ...at]);
  assert.equal(again.code, 2, 'an existing file is replaced only with --force');
});

test('--vulnerable leaves out what a quantum computer does not break', async () => {
  const keys = [
    aKey({
      keyId: 'a',
      versions: [aVersion({ algorithm: 'RSA-2048' }), aVersion({ version: 2, algorithm: 'ML-KEM-768' })],
    }),
    aKey({ keyId: 'b', versions: [aVersion()] }),
  ];
  const found = await gathered(inventory(clientOf(keys), { vulnerable: true }, {}));
  assert.deepEqual(
    found.map(({ keyId, versions }) => [keyId, versions.map(({ algorithm }) => algorithm)]),
    [['a', ['RSA-2048']]],
  );
});
