// Child of the power-loss test. "write": appends flushed records and says of each when it was acknowledged.
// "check": opens what a power loss left, and says what is wrong with it and which records are there.
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { writeSync } from 'node:fs';
import { openAuditLog } from '../../agent/audit/log.ts';
import { createToken, entry, recordEvents, SMALL_LIMITS } from '../agent/audit/fixture.ts';

const RECORDS = 120;
const [mode, path, wrapKey, pem] = process.argv.slice(2) as [string, string, string, string];
const privateKey = createPrivateKey(Buffer.from(pem, 'base64').toString());
const log = await openAuditLog({
  path,
  host: 'host-1',
  clock: { now: () => Date.now() },
  durability: (tenant) => (tenant === 'fast' ? 'committed' : 'flushed'),
  token: createToken('Ed25519', Buffer.from(wrapKey, 'hex'), { privateKey, publicKey: createPublicKey(privateKey) }),
  events: recordEvents(),
  limits: { ...SMALL_LIMITS, journalBytes: 64 * 1024, checkpointRecords: 20 },
});
if (mode === 'write') {
  const one = async (number: number): Promise<void> => {
    void log.append(entry('fast', number));
    await log.append(entry('acme', number));
    writeSync(1, `acknowledged ${number}\n`);
  };
  for (let number = 0; number < RECORDS; number += 3)
    await Promise.all([one(number), one(number + 1), one(number + 2)]);
} else {
  const findings = (await Promise.all(log.tenants().map((tenant) => log.verify(tenant)))).flatMap(
    (row) => row.findings,
  );
  const numbers = (await log.list('acme', { limit: 1000 })).map(({ record }) => Number(record.correlationId.slice(2)));
  writeSync(1, JSON.stringify({ findings, corrupt: log.health().corrupt, numbers }));
}
await log.close();
