// After logins, and logins anew, no copy of a PIN is in the memory of the agent or of a token process, whether the PIN came
// from a file or from a command.
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { clientOf } from '../e2e/load.ts';
import { type RunningAgent, startAgent } from '../support/agent.ts';
import { makeSoftHsm, type SoftHsm } from '../support/softhsm.ts';

const LOGINS = 5;
const message = Buffer.from('signed');
const TENANTS = { file: 'acme', command: 'globex' } as const;
type Source = keyof typeof TENANTS;

let hsms: Record<Source, SoftHsm>;
let agent: RunningAgent;
before(async () => {
  hsms = { file: await makeSoftHsm(), command: await makeSoftHsm() };
  const entry = (name: Source, pin: object): object => ({
    name,
    library: hsms[name].library,
    label: hsms[name].label,
    pin,
    environment: { SOFTHSM2_CONF: hsms[name].confPath },
    tenants: [TENANTS[name]],
  });
  const tokens = [
    entry('file', { file: hsms.file.pinFile }),
    entry('command', { command: ['/bin/cat', hsms.command.pinFile] }),
  ];
  const path = join(hsms.file.folder, 'tokens.json');
  await writeFile(path, JSON.stringify({ schema: 'mortise.tokens/v1', agent: 'file', tokens }), { mode: 0o600 });
  agent = await startAgent({
    tenants: Object.values(TENANTS),
    env: {
      MORTISE_TOKENS_FILE: path,
      PKCS11_LIBRARY_PATH: '',
      PKCS11_TOKEN_LABEL: '',
      PKCS11_PIN_FILE: '',
      SOFTHSM2_CONF: '',
    },
  });
  await agent.logged(({ msg, token }) => msg === 'token is ready' && token === 'command');
});
after(async () => {
  await agent?.stop();
  for (const hsm of Object.values(hsms ?? {})) await hsm.dispose();
});

/** Occurrences in the writable private memory of a process. */
const copiesInMemory = (pid: number, text: string): number => {
  const areas = [...readFileSync(`/proc/${pid}/maps`, 'utf8').matchAll(/^([0-9a-f]+)-([0-9a-f]+) rw.p/gm)];
  assert.ok(areas.length > 0);
  const wanted = Buffer.from(text);
  const chunk = Buffer.alloc(1 << 20);
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  let count = 0;
  try {
    for (const [, from, to] of areas) {
      const end = Number.parseInt(to as string, 16);
      for (let at = Number.parseInt(from as string, 16); at < end; at += chunk.length - wanted.length) {
        let got = 0;
        try {
          got = readSync(memory, chunk, 0, Math.min(chunk.length, end - at), at);
        } catch {
          break; // an area that the kernel does not show
        }
        for (let hit = chunk.indexOf(wanted); hit !== -1 && hit < got; hit = chunk.indexOf(wanted, hit + 1)) count += 1;
        chunk.fill(0);
      }
    }
  } finally {
    closeSync(memory);
  }
  return count;
};

const pidOf = (name: Source): number =>
  agent.logs.findLast(({ msg, token }) => msg === 'token is ready' && token === name)?.['pid'] as number;

test('no copy of a PIN stays in the agent or in a token process, from whatever source it came', async () => {
  for (const name of ['file', 'command'] as const) {
    using client = clientOf(agent, TENANTS[name]);
    await client.keys.create({ keyId: 'signer', purpose: 'sign', algorithm: 'EC-P256' });
    for (let count = 0; count < LOGINS; count += 1) {
      const from = agent.logs.length;
      process.kill(pidOf(name), 'SIGKILL');
      await agent.logged(({ msg, token }) => msg === 'token is ready' && token === name, from);
      await client.sign('signer', { message });
    }
  }
  for (const name of ['file', 'command'] as const) {
    const { pin, confPath } = hsms[name];
    assert.ok(copiesInMemory(pidOf(name), confPath) > 0, 'the search finds what is there');
    for (const pid of [agent.pid, pidOf('file'), pidOf('command')]) {
      assert.equal(
        copiesInMemory(pid, pin),
        0,
        `the PIN from a ${name} is in process ${pid}; the agent is ${agent.pid}`,
      );
    }
  }
});
