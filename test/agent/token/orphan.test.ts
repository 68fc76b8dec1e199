// A token process never outlives its agent, even one that hangs in the library or an agent that was killed.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeSoftHsm } from '../../support/softhsm.ts';

const gone = async (pid: number): Promise<void> => {
  for (let wait = 0; wait < 500; wait += 1) {
    if (!existsSync(`/proc/${pid}`)) return;
    await sleep(20); // the kernel gives no event for a process that is not a child of ours
  }
  assert.fail(`process ${pid} is still there`);
};

for (const stopped of [false, true]) {
  test(`killing the agent ends the token process${stopped ? ' even while it is stopped' : ''}`, async () => {
    await using hsm = await makeSoftHsm();
    const holder = spawn(process.execPath, [join(import.meta.dirname, 'orphan-holder.ts'), JSON.stringify(hsm)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(createInterface({ input: holder.stdout }), 'line')) as [string];
    const pid = Number(line);
    assert.ok(pid > 0 && existsSync(`/proc/${pid}`));
    if (stopped) process.kill(pid, 'SIGSTOP');
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    await gone(pid);
  });
}
