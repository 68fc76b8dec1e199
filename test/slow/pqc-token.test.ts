// Real tokens of PKCS #11 3.2, from Debian sid in a folder: the contract that every token fulfils, post-quantum keys and
// composites in it too, and a whole agent with such a token, reached through its socket.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { debianRoot, needsRoot, outputInside, runInside, SID } from './support/debian-root.ts';
import { TOKEN_MODULES } from './support/token-modules.ts';

const RUN_MS = 5 * 60_000;

/** What node:test says at its end. */
const count = (output: string, what: 'pass' | 'fail' | 'skipped'): number =>
  Number(new RegExp(`^ℹ ${what} (\\d+)$`, 'm').exec(output)?.[1] ?? Number.NaN);

describe('tokens of PKCS #11 3.2', { skip: needsRoot }, () => {
  let root: string;
  before(async () => {
    root = await debianRoot(SID);
  });

  for (const module of TOKEN_MODULES) {
    const run = async (file: string) => {
      const script = `${module.setUp}
node_modules/.bin/node --test --test-reporter=spec --test-timeout=120000 test/slow/inside/${file}`;
      return runInside(root, script, { timeoutMs: RUN_MS });
    };

    test(`${module.name}: fulfils the contract of tokens, ML-DSA, ML-KEM and composites included`, async (t) => {
      const version = await outputInside(root, `dpkg-query -W ${module.package}`, { timeoutMs: 30_000 });
      t.diagnostic(version.trim());
      const { exitCode, output } = await run('token-contract.ts');
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
