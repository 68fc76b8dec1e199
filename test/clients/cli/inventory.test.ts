// mortise inventory: what it says of each version, as a table, as JSON and as a CycloneDX document, however many keys.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { cbomOf } from '../../../clients/cli/inventory/cbom.ts';
import type { TokenEntry } from '../../../clients/cli/inventory/certificates.ts';
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

const CERTIFICATE = {
  identifier: 'CMVP 4703',
  standard: 'FIPS 140-3',
  level: 3,
  status: 'active',
  warning: 'certificate CMVP 4703 expired on 2026-10-01',
};

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
  const text = await collected(tableOf(inventory(clientOf([key, suspended]), {}, {}), { now: NOW }));
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
  assert.ok(!(await collected(tableOf(inventory(clientOf([key]), {}, {}), { now: NOW }))).includes('\u001b'));
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

const aToken = (change: object = {}): TokenEntry => ({
  name: 'default',
  label: 'payments',
  serial: '4711',
  certificate: {
    identifier: 'CMVP 4703',
    standard: 'FIPS 140-3',
    level: 3,
    expireTime: new Date('2029-01-01T00:00:00Z'),
    status: 'active',
    warning: '',
    ...change,
  },
});

interface Component {
  readonly 'bom-ref': string;
  readonly type: string;
  readonly cryptoProperties?: { readonly algorithmProperties?: { readonly certificationLevel?: readonly string[] } };
  readonly properties: readonly { readonly name: string; readonly value: string }[];
}

/** The components of a CBOM that is valid, by reference. */
const componentsOf = async (keys: readonly Key[], tokens: readonly TokenEntry[]) => {
  const about = { tenant: 'acme', now: NOW, tokens };
  const bom = JSON.parse(await collected(cbomOf(inventory(clientOf(keys), {}, {}), about)));
  assert.deepEqual(cycloneDxFaults(bom), []);
  return new Map((bom.components as Component[]).map((component) => [component['bom-ref'], component]));
};

const levelOf = (component: Component | undefined) =>
  component?.cryptoProperties?.algorithmProperties?.certificationLevel;

test('a CBOM has the certificate of the token with what lives in it, and the level of what software has no part in', async () => {
  const keys = [
    aKey({ keyId: 'in', purpose: 'sign', versions: [aVersion({ algorithm: 'EC-P256' })] }),
    aKey({
      keyId: 'both',
      purpose: 'sign',
      versions: [
        aVersion({ algorithm: 'Ed25519' }),
        aVersion({ version: 2, algorithm: 'Ed25519', custody: 'wrapped' }),
      ],
    }),
  ];
  const components = await componentsOf(keys, [aToken()]);
  const stated = components.get('key:acme/in/1')?.properties.filter(({ name }) => name.startsWith('mortise:cert'));
  assert.deepEqual(stated, [
    { name: 'mortise:certificate', value: 'CMVP 4703' },
    { name: 'mortise:certificateStandard', value: 'FIPS 140-3' },
    { name: 'mortise:certificateLevel', value: '3' },
    { name: 'mortise:certificateStatus', value: 'active' },
    { name: 'mortise:certificateExpires', value: '2029-01-01T00:00:00.000Z' },
  ]);
  assert.ok(!components.get('key:acme/both/2')?.properties.some(({ name }) => name.startsWith('mortise:cert')));
  assert.deepEqual(levelOf(components.get('algorithm:EC-P256:sign')), ['fips140-3-l3']);
  assert.equal(levelOf(components.get('algorithm:Ed25519:sign')), undefined);
  assert.deepEqual(levelOf(components.get('algorithm:AES-256:encrypt')), ['fips140-3-l3'], 'the KEK, in the token');
  assert.equal(components.get('token:default')?.type, 'device');
});

test('a CBOM gives no level by a certificate that is historical or expired, and has the warning', async () => {
  const keys = everything();
  for (const change of [
    { status: 'historical', warning: 'certificate CMVP 4703 is historical' },
    { expireTime: NOW, warning: 'certificate CMVP 4703 expired' },
  ]) {
    const components = await componentsOf(keys, [aToken(change)]);
    assert.ok([...components.values()].every((component) => levelOf(component) === undefined));
    const { properties = [] } = components.get('token:default') ?? {};
    assert.ok(properties.some(({ name, value }) => name === 'mortise:certificateWarning' && value === change.warning));
  }
  const other = await componentsOf(keys, [aToken({ standard: 'Common Criteria EN 419221-5' })]);
  assert.ok([...other.values()].some((component) => levelOf(component)?.[0] === 'other'));
});

for (const [name, render] of [
  ['table', tableOf],
  ['JSON', jsonOf],
  ['CBOM', (keys: AsyncIterable<KeyEntry>, about: { now: Date }) => cbomOf(keys, { tenant: 'acme', ...about })],
] as const) {
  test(`the ${name} of 2,000 keys is written while it is read: no key is kept`, async () => {
    const seen = { listed: 0 };
    const keys = Array.from({ length: 2000 }, (_, at) => aKey({ keyId: `k${at}`, versions: [aVersion()] }));
    let pieces = 0;
    let text = '';
    for await (const piece of render(inventory(clientOf(keys, seen), {}, {}), { now: NOW })) {
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
  agent.answers['getStatus'] = () => ({
    ...{ version: '1', host: 'h', startTime: TIME, parts: [], policies: [], fipsBoundary: '', opensslFips: false },
    tokens: [{ detail: '', name: 'default', healthy: true, certificate: { ...CERTIFICATE, expireTime: TIME } }],
  });
  const at = ['--socket', agent.socketPath];
  const json = await runCli(['inventory', '--output', 'json', '--prefix', 'x', '--label', 'team=a', ...at]);
  assert.equal(json.code, 0, json.stderr);
  const { keys, summary, tokens } = JSON.parse(json.stdout);
  assert.deepEqual(tokens[0].certificate, { ...CERTIFICATE, expireTime: TIME.toISOString() });
  const table = await runCli(['inventory', ...at]);
  assert.match(table.stderr, /warning: token default: certificate CMVP 4703 expired/);
  assert.match(table.stdout, /^token default \(-\): CMVP 4703, FIPS 140-3 level 3, active, until 2026-10-01 \(!\)$/m);
  assert.deepEqual(
    keys.map((key: KeyEntry) => [key.keyId, key.versions[0]?.quantumRisk, key.versions[0]?.lastUseTime]),
    ['a', 'b'].map((id) => [id, 'harvest-now', TIME.toISOString()]),
  );
  assert.deepEqual([summary.keys, summary.risks], [2, { 'harvest-now': 2 }]);
  const { request = {} } = agent.calls.find(({ request: { states } }) => states !== undefined) ?? {};
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
