// Child of the kill tests: appends as fast as it can and prints a line for each record that was acknowledged.
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { writeSync } from 'node:fs';
import { openAuditLog } from '../../../agent/audit/log.ts';
import { createToken, entry, recordEvents, SMALL_LIMITS } from './fixture.ts';

const [path, wrapKey, pem, durability, tenants] = process.argv.slice(2) as [string, string, string, string, string];
const privateKey = createPrivateKey(Buffer.from(pem, 'base64').toString());
const token = createToken('Ed25519', Buffer.from(wrapKey, 'hex'), {
  privateKey,
  publicKey: createPublicKey(privateKey),
});
const log = await openAuditLog({
  path,
  host: 'host-1',
  clock: { now: () => Date.now() },
  durability: () => (durability === 'flushed' ? 'flushed' : 'committed'),
  token,
  events: recordEvents(),
  limits: { ...SMALL_LIMITS, checkpointRecords: 50 },
});
writeSync(1, 'ready\n');
for (let round = 0; ; round += 1) {
  const group = Array.from({ length: 8 }, async (_, i) => {
    const tenant = `tenant-${i % Number(tenants)}`;
    const correlationId = `${process.pid}-${round}-${i}`;
    await log.append(entry(tenant, round, { correlationId }));
    writeSync(1, `${tenant} ${correlationId}\n`); // to the pipe before anything else can happen
  });
  await Promise.all(group);
}
