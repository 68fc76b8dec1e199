// The package as others get it: packed, installed without a network, run from plain JavaScript, compiled against.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { StubAgent } from './stub-agent.ts';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '../..');
const MODULES = join(ROOT, 'node_modules');
const env = { ...process.env, PATH: `${dirname(process.execPath)}${delimiter}${process.env['PATH']}` };
const folder = mkdtempSync(join(tmpdir(), 'mortise-package-'));

const link = (name: string): void => {
  const target = join(folder, 'node_modules', name);
  mkdirSync(dirname(target), { recursive: true });
  symlinkSync(join(MODULES, name), target);
};

before(async () => {
  await run(process.execPath, [join(MODULES, 'typescript/bin/tsc'), '-p', join(ROOT, 'clients/typescript')], { env });
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', folder], {
    cwd: join(ROOT, 'clients/typescript'),
    env,
  });
  const [{ filename }] = JSON.parse(stdout) as [{ filename: string }];
  const installed = join(folder, 'node_modules/@mortise/client');
  mkdirSync(installed, { recursive: true });
  await run('tar', ['-xzf', join(folder, filename), '-C', installed, '--strip-components=1']);
  for (const name of ['@grpc', '@bufbuild/protobuf', '@types/node', 'undici-types']) link(name);
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
});
after(() => rmSync(folder, { recursive: true, force: true }));

test('the tarball holds JavaScript and declarations and no TypeScript source', () => {
  const names = readdirSync(join(folder, 'node_modules/@mortise/client'), { recursive: true }) as string[];
  assert.ok(names.some((name) => name.endsWith('client.js')));
  assert.ok(names.some((name) => name.endsWith('index.d.ts')));
  assert.ok(names.includes('README.md'));
  assert.deepEqual(
    names.filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts')),
    [],
  );
});

test('plain JavaScript can call an agent with it', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['generateRandom'] = () => ({ random: Buffer.from('abc') });
  writeFileSync(
    join(folder, 'app.js'),
    `import { connect, MortiseError } from '@mortise/client';
const client = connect({ socketPath: process.argv[2] });
console.log((await client.generateRandom(3)).toString());
await client.whoAmI({ deadlineMs: 500 }).catch((error) => console.log(error instanceof MortiseError, error.code));
client.close();`,
  );
  const { stdout, stderr } = await run(process.execPath, [join(folder, 'app.js'), agent.socketPath]);
  assert.equal(stdout, 'abc\ntrue INTERNAL\n');
  assert.equal(stderr, '', 'no warning');
});

const compile = (source: string) => {
  const options = { strict: true, module: 'nodenext', target: 'es2022', lib: ['es2023', 'esnext.disposable'] };
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({
      compilerOptions: { ...options, noEmit: true, types: ['node'], exactOptionalPropertyTypes: true },
      files: ['consumer.ts'],
    }),
  );
  writeFileSync(join(folder, 'consumer.ts'), source);
  return run(process.execPath, [join(MODULES, 'typescript/bin/tsc'), '-p', folder], { env });
};

test('a consumer in strict TypeScript compiles, and its mistakes do not', async () => {
  const consumer = `import { connect, type Key, MortiseError, type MortiseErrorCode } from '@mortise/client';
export const use = async (): Promise<Key> => {
  using client = connect({ socketPath: '/x', token: async () => 'jwt', deadlineMs: 500, retry: { maxAttempts: 3 } });
  const { jwe, envelope } = await client.encrypt('orders', new Uint8Array(3), { associatedData: Buffer.from('a') });
  const version: number | undefined = envelope.keyUsed?.version;
  for await (const record of client.audit.tail({ from: 0 })) if (record.outcome === jwe) break;
  try {
    await client.decrypt(jwe);
  } catch (error) {
    if (error instanceof MortiseError) {
      const code: MortiseErrorCode = error.code;
      if (code === 'INVALID_CIPHERTEXT') throw new Error(String(version));
    }
  }
  return (await client.keys.create({ keyId: 'k', purpose: 'sign' })).key;
};
`;
  await compile(consumer);
  const mistaken = compile(consumer.replace("purpose: 'sign'", "purpose: 'signing'"));
  await assert.rejects(mistaken, (error: { stdout: string }) => /consumer\.ts.*'"signing"'/s.test(error.stdout));
});

test('the example in the README compiles', async () => {
  const readme = readFileSync(join(ROOT, 'clients/typescript/README.md'), 'utf8');
  const example = /```ts\n([\s\S]*?)```/.exec(readme)?.[1];
  assert.ok(example?.includes('connect('), 'the README has an example');
  await compile(`declare const issuer: { getToken(): Promise<string> };\ndeclare const pdf: Buffer;\n${example}`);
});
