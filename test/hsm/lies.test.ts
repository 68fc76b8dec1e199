// Attributes read back after decapsulation and generation of post-quantum keys: modules of PKCS #11 3.2 are in Debian sid
// only. The rest of the contract runs on SoftHSM in the normal suite.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { debianRoot, needsRoot, runInside, SID } from '../slow/support/debian-root.ts';
import { TOKEN_MODULES } from '../slow/support/token-modules.ts';
import { makePkcs11Shim } from '../support/pkcs11-shim.ts';

for (const module of TOKEN_MODULES) {
  test(`${module.name}: keys that it makes otherwise are not kept or used`, { skip: needsRoot }, async () => {
    const root = await debianRoot(SID);
    const shared = await mkdtemp(join(tmpdir(), 'mortise-lies-'));
    try {
      const library = /MODULE_LIBRARY=(\S+)/.exec(module.setUp)?.[1] ?? assert.fail();
      const name = basename(library);
      (await makePkcs11Shim({ folder: shared, real: library, name })).close();
      const run = 'node_modules/.bin/node --test --test-reporter=spec --test-timeout=120000 test/hsm/inside/lies.ts';
      const script = `${module.setUp}\nexport SHIM_NAME=${name}\n${run}`;
      const { exitCode, output } = await runInside(root, script, { timeoutMs: 5 * 60_000, shared });
      assert.equal(exitCode, 0, output);
      assert.match(output, /^ℹ pass 10$/m, output);
    } finally {
      await rm(shared, { recursive: true, force: true });
    }
  });
}
