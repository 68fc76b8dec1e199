// One open heartbeat: what its row may grow to.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Heartbeats } from '../../../registry/hosts/heartbeats.ts';
import type { HostsStore } from '../../../registry/hosts/store.ts';

test('a host that names new parts with each message does not grow its row without end', async () => {
  const store: Pick<HostsStore, 'watchPresences' | 'putPresences'> = {
    watchPresences: () => () => undefined,
    putPresences: async () => undefined,
  };
  const events = { hostConnected: () => undefined, hostGone: () => undefined, presenceFailed: () => assert.fail() };
  const parts = { replica: 'r', intervalSeconds: 60, clock: { now: () => 1 }, events };
  using heartbeats = new Heartbeats({ ...parts, store: store as HostsStore });
  const heartbeat = heartbeats.join('h-1', [], { agentVersion: '1' });
  for (let at = 0; at < 1000; at += 1) heartbeat.said({ parts: [{ part: `p-${at}`, healthy: true, detail: '' }] });
  assert.equal(heartbeat.row.parts.length, 64);
  await heartbeat.leave('over');
});
