// Every client, held to the same cases (clients/conformance) against a real agent and a scripted one.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Case, caseFiles } from './conformance/case-file.ts';
import { type Reply, Runner, type RunnerProgram } from './conformance/runner.ts';
import { check, resolved, type Saved } from './conformance/values.ts';
import { World } from './conformance/world.ts';

const RUNNERS = join(import.meta.dirname, '../../clients/conformance/runners');
const PYTHON = '/usr/bin/python3';
const hasPython = spawnSync(PYTHON, ['-c', 'import grpc, google.protobuf']).status === 0;

const typescript = (transport: string): RunnerProgram => ({
  name: `TypeScript, ${transport}`,
  command: process.execPath,
  args: [join(RUNNERS, 'typescript.ts'), transport],
});
const python = (kind: string): RunnerProgram => ({
  name: `Python, ${kind}`,
  command: PYTHON,
  args: [join(RUNNERS, 'python.py'), kind],
});
const CLIENTS = [typescript('pipeline'), typescript('unary'), python('blocking'), python('asyncio')];
const FILES = caseFiles();

let world: World;
before(async () => {
  world = await World.make();
});
after(() => world?.[Symbol.asyncDispose]());

const checkReply = (reply: Reply, step: { expect?: unknown; error?: unknown }, saved: Saved, where: string): void => {
  if (step.error !== undefined) {
    assert.ok('error' in reply, `${where}: succeeded with ${JSON.stringify(reply).slice(0, 500)}`);
    check(reply.error, step.error, saved, `${where} error`);
  } else {
    assert.ok('answer' in reply, `${where}: failed with ${JSON.stringify(reply).slice(0, 1000)}`);
    check(reply.answer, step.expect, saved, where);
  }
};

const runCase = async (runner: Runner, { connect, steps }: Case, run: string): Promise<void> => {
  const saved: Saved = new Map([['run', run]]);
  await runner.ask({ connect: world.connect(connect) });
  for (const [index, step] of steps.entries()) {
    const where = `step ${index + 1}`;
    if (step.kind === 'call') {
      const reply = await runner.ask({ call: step.call, arguments: resolved(step.arguments, saved) });
      checkReply(reply, step, saved, `${where}, ${step.call}`);
    } else if (step.kind === 'write-token') {
      world.writeToken(step.claims);
    } else if (step.kind === 'answers') {
      world.script(resolved(step.answers, saved) as typeof step.answers);
    } else if (step.kind === 'calls') {
      world.checkCalls(step.calls, where);
    } else {
      await world.restart();
    }
  }
};

for (const [index, program] of CLIENTS.entries()) {
  const skip = program.command === PYTHON && !hasPython && 'needs python3-grpcio and python3-protobuf';
  describe(program.name, { skip }, () => {
    let runner: Runner;
    before(() => {
      // Nothing but what discovery needs: neither client may depend on more of its environment.
      runner = new Runner(program, {
        PATH: process.env['PATH'] ?? '/usr/bin:/bin',
        MORTISE_SOCKET: world.live.socket,
        PYTHONDONTWRITEBYTECODE: '1',
      });
    });
    after(() => runner?.[Symbol.asyncDispose]());
    for (const file of FILES) {
      for (const row of file.cases) {
        test(`${file.title}: ${row.title}`, () => runCase(runner, row, `c${index}`));
      }
    }
  });
}
