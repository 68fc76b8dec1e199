// The doctor says what the registry last told the agent of a token's sessions.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { shareFile, writeShare } from '../../../agent/assembly/remembered-share.ts';
import type { Config } from '../../../agent/config/config.ts';
import { sessionChecks } from '../../../agent/doctor/session-checks.ts';
import { temporaryFolder } from '../../support/folder.ts';

test('a share is told, one of nothing is a failure with a remedy, and without a budget there is nothing to say', (t) => {
  const dataDir = temporaryFolder(t);
  const config = { dataDir, registry: {}, token: { name: 'default' } } as unknown as Config;
  const told = (share: number) =>
    writeShare(shareFile(dataDir, 'default'), { limited: true, share, total: 20, hosts: 3 });
  assert.deepEqual(sessionChecks(config), []);
  told(6);
  assert.deepEqual(
    sessionChecks(config).map(({ level, detail }) => [level, detail]),
    [['ok', "6 of the registry's budget of 20 for 3 hosts, as last told to the agent"]],
  );
  told(0);
  const [check] = sessionChecks(config);
  assert.deepEqual([check?.level, /the token is not used/.test(check?.detail ?? '')], ['fail', true]);
  assert.match(check?.remedy ?? '', /token-sessions set/);
  writeShare(shareFile(dataDir, 'default'), { limited: false });
  assert.deepEqual(sessionChecks(config), []);
  told(0);
  assert.deepEqual(sessionChecks({ ...config, registry: undefined }), []);
});
