import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PinGuard } from '../../../agent/assembly/pin-guard.ts';

const guardOver = (file: { pin: string }) => {
  const handed: Buffer[] = [];
  const guard = new PinGuard({
    read: async () => {
      const pin = Buffer.from(file.pin);
      handed.push(pin);
      return pin;
    },
  });
  return { guard, handed };
};

test('a refused PIN is not handed out again, by whatever way it is asked for', async () => {
  const { guard, handed } = guardOver({ pin: '1234' });
  await guard.take();
  guard.refused({ locked: false });
  for (let time = 0; time < 3; time += 1) {
    await assert.rejects(guard.take(), /the one that the token refused/);
    guard.reconsider();
    assert.equal(await guard.hasOther(), false);
  }
  for (const pin of handed.slice(1))
    assert.ok(
      pin.every((byte) => byte === 0),
      'what was read in vain is wiped',
    );
});

test('another PIN in the file is handed out', async () => {
  const file = { pin: '1234' };
  const { guard } = guardOver(file);
  await guard.take();
  guard.refused({ locked: false });
  file.pin = '4321';
  assert.equal(await guard.hasOther(), true);
  assert.deepEqual(await guard.take(), Buffer.from('4321'));
});

test('the PIN of a locked token may be tried again on an operator’s word, not before', async () => {
  const { guard } = guardOver({ pin: '1234' });
  await guard.take();
  guard.refused({ locked: true });
  await assert.rejects(guard.take());
  guard.reconsider();
  assert.deepEqual(await guard.take(), Buffer.from('1234'));
});

test('a file that cannot be read has no other PIN', async () => {
  const guard = new PinGuard({ read: () => Promise.reject(new Error('gone')) });
  assert.equal(await guard.hasOther(), false);
  await assert.rejects(guard.take(), /gone/);
});
