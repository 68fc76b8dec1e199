// Real tokens of PKCS #11 3.2, from Debian sid in a folder: the contract that every token fulfils, post-quantum keys and
// composites in it too, and a whole agent with such a token, reached through its socket.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { debianRoot, needsRoot, outputInside, runInside, SID } from './support/debian-root.ts';
import { TOKEN_MODULES, type TokenModule } from './support/token-modules.ts';

const RUN_MS = 5 * 60_000;

/** What node:test says at its end. */
const count = (output: string, what: 'pass' | 'fail' | 'skipped'): number =>
  Number(new RegExp(`^ℹ ${what} (\\d+)$`, 'm').exec(output)?.[1] ?? Number.NaN);

describe('tokens of PKCS #11 3.2', { skip: needsRoot }, () => {
  let root: string;
  before(async () => {
    root = await debianRoot(SID);
  });

  const run = (module: TokenModule, file: string) => {
    const tests = `node_modules/.bin/node --test --test-reporter=spec --test-timeout=120000 test/slow/inside/${file}`;
    return runInside(root, `${module.setUp}\n${tests}`, { timeoutMs: RUN_MS });
  };

  for (const module of TOKEN_MODULES) {
    test(`${module.name}: a whole agent keeps post-quantum keys and composites in it`, async () => {
      const { exitCode, output } = await run(module, 'token-end-to-end.ts');
      assert.equal(exitCode, 0, output);
      assert.ok(count(output, 'pass') >= 14, `only ${count(output, 'pass')} tests ran\n${output}`);
    });

    test(`${module.name}: fulfils the contract of tokens, ML-DSA, ML-KEM and composites included`, async (t) => {
      const version = await outputInside(root, `dpkg-query -W ${module.package}`, { timeoutMs: 30_000 });
      t.diagnostic(version.trim());
      const { exitCode, output } = await run(module, 'token-contract.ts');
      assert.equal(exitCode, 0, output);
      for (const line of output.match(/^(can|cannot) .*$/gm) ?? []) t.diagnostic(line);
      assert.ok(count(output, 'pass') >= 50, `only ${count(output, 'pass')} tests ran\n${output}`);
      assert.equal(count(output, 'skipped'), 0);
      for (const set of ['ml-dsa-44', 'ml-dsa-65', 'ml-dsa-87', 'ml-kem-768', 'ml-kem-1024']) {
        assert.match(output, new RegExp(`^can ${set} $`, 'm'));
      }
    });
  }
});
