// A program that never closes its client ends all the same, some seconds after its last call.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { PipelineStub } from '../clients/pipeline-stub.ts';

const PROGRAM = `
  import { connect } from ${JSON.stringify(new URL('../../clients/typescript/index.ts', import.meta.url).href)};
  const mortise = connect({ socketPath: process.argv[1] });
  console.log(String(await mortise.generateRandom(1)));
`;

test('a program that does not close its client ends by itself', async () => {
  await using agent = await new PipelineStub().start();
  const child = spawn(process.execPath, ['--input-type=module', '--eval', PROGRAM, agent.socketPath], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const ended = once(child, 'close');
  await agent.until(() => agent.streams[0]?.calls.length === 1);
  agent.streams[0]?.serve(...(agent.streams[0]?.calls ?? []));
  assert.deepEqual(await ended, [0, null]);
  assert.equal(said, '1\n');
});
