// The last act: the audit log verified, a copy of it attacked, and the agent started again over what it kept.
import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { open, type RootDatabase } from 'lmdb';
import { recordKey } from '../../agent/audit/rows.ts';
import type { AuditRecord } from '../../clients/typescript/index.ts';
import type { Demo } from './demo.ts';
import { principal } from './demo-keys.ts';
import type { Program } from './program.ts';
import { answerOf, prove } from './script.ts';

interface Report {
  readonly intact: boolean;
  readonly size?: number;
  readonly findings: readonly { readonly code: string; readonly index: number; readonly message: string }[];
}

const readLog = async (demo: Demo): Promise<readonly AuditRecord[]> => {
  const args = ['audit', 'tail', '-n', '1000'];
  const { stdout } = await demo.script.mortise(args, 0, principal(demo, 'acme', 'admin'));
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as AuditRecord);
};

const completenessStep = async (demo: Demo): Promise<string> => {
  const records = await readLog(demo);
  const recorded = new Set(
    records
      .filter(({ outcome }) => outcome === 'ok')
      .map(({ operation, correlationId }) => `${operation} ${correlationId}`),
  );
  const missing = demo.answered.filter((answer) => !recorded.has(answer));
  prove(demo.answered.length > 0 && missing.length === 0, `${missing.length} answers without a record`);
  const refused = records.filter(({ outcome }) => outcome !== 'ok').length;
  demo.script.see(`${records.length} records, ${refused} of refusals`);
  return `each of the ${demo.answered.length} answers given around the kill has its record`;
};

/** A record worth an attack: somebody was refused. */
const findVictim = async (demo: Demo): Promise<AuditRecord> => {
  const victim = (await readLog(demo)).find(({ outcome }) => outcome === 'POLICY_DENIED');
  prove(victim !== undefined, 'the refusal is in the log');
  const { index, time, operation, outcome, principal: who } = victim as AuditRecord;
  demo.script.see(`record ${index}: ${time} ${who} ${operation} ${outcome}`);
  return victim as AuditRecord;
};

const verifyStep = async (demo: Demo): Promise<string> => {
  const { script } = demo;
  const admin = principal(demo, 'acme', 'admin');
  await script.mortise(['audit', 'checkpoint', '--out', 'checkpoint'], 0, admin);
  const report = answerOf<Report & { agentIntact: boolean; clientIntact: boolean }>(
    await script.mortise(['audit', 'verify', '--trusted-checkpoint', 'checkpoint'], 0, admin),
  );
  script.see(readFileSync(join(demo.desk, 'checkpoint'), 'utf8'));
  prove(report.intact && report.agentIntact && report.clientIntact, 'agent and client find it intact');
  return `${report.size} records: the agent checked every MAC, the client the Merkle root and its signature`;
};

/** Edits the copy as someone with root on the host could. */
const attack = async (path: string, edit: (store: RootDatabase<Buffer, Buffer>) => Promise<unknown>): Promise<void> => {
  const store = open<Buffer, Buffer>({ path, encoding: 'binary', keyEncoding: 'binary' });
  await edit(store);
  await store.close();
};

const rewrite =
  (from: string, to: string) =>
  (bytes: Buffer): Buffer => {
    const at = bytes.indexOf(from);
    prove(at >= 0 && from.length === to.length, 'the record holds what is to be changed');
    const changed = Buffer.from(bytes);
    changed.write(to, at, 'latin1');
    return changed;
  };

const tamperStep = async (demo: Demo, victim: AuditRecord): Promise<string> => {
  const { script, lab, desk } = demo;
  const store = join(lab.dataDir, 'audit');
  const key = recordKey('acme', victim.index);
  const attacks = [
    {
      name: 'edited',
      what: `record ${victim.index}: "admin@acme" becomes "guest@acme"`,
      code: 'RECORD_EDITED',
      edit: (copy: RootDatabase<Buffer, Buffer>) =>
        copy.put(key, rewrite('admin@acme', 'guest@acme')(copy.getBinary(key) as Buffer)),
    },
    {
      name: 'deleted',
      what: `record ${victim.index} is deleted`,
      code: 'RECORD_MISSING',
      edit: (copy: RootDatabase<Buffer, Buffer>) => copy.remove(key),
    },
  ];
  for (const { name, what, code, edit } of attacks) {
    const copy = join(desk, name);
    cpSync(store, copy, { recursive: true });
    await attack(copy, edit);
    script.see(`a copy of the store, ${what}`);
    const { findings } = answerOf<Report>(
      await script.mortise(['audit', 'verify', '--store', copy, '--tenant', 'acme'], 4),
    );
    const found = findings.find((finding) => finding.index === victim.index);
    script.see(`found: ${found?.code} at position ${found?.index}: ${found?.message}`);
    prove(found?.code === code, `${code} at position ${victim.index}, not ${JSON.stringify(findings)}`);
  }
  await script.mortise(['audit', 'verify', '--store', store, '--tenant', 'acme'], 0);
  return 'an edited and a deleted record are both found, at their position; the true store is intact';
};

const restartStep = async (demo: Demo, start: () => Promise<Program>): Promise<string> => {
  const { script, desk } = demo;
  const begun = performance.now();
  await using agent = await start();
  script.see(`a new agent (pid ${agent.pid}) serves after ${Math.round(performance.now() - begun)} ms`);
  const args = ['decrypt', 'report.jwe', '--aad-file', 'context', '--out', 'after-restart.txt'];
  await script.mortise(args, 0, principal(demo, 'acme', 'app'));
  const same = readFileSync(join(desk, 'after-restart.txt')).equals(readFileSync(join(desk, 'report.txt')));
  prove(same, 'old data still opens');
  const verify = ['audit', 'verify', '--trusted-checkpoint', 'checkpoint'];
  const report = answerOf<Report>(await script.mortise(verify, 0, principal(demo, 'acme', 'admin')));
  prove(report.intact, 'the log extends the checkpoint kept from before');
  prove((await agent.stop()) === 0, 'SIGTERM drains and ends with 0');
  return 'keys, policies and log outlive the process; the log extends the checkpoint kept from before';
};

/** Verification, attack, restart. */
export const auditSteps = async (demo: Demo, start: () => Promise<Program>): Promise<void> => {
  const { script } = demo;
  await script.step('Look for a record of every answer', () => completenessStep(demo));
  await script.step('Verify the audit log', () => verifyStep(demo));
  let victim: AuditRecord | undefined;
  await script.step('Stop the agent', async () => {
    victim = await findVictim(demo);
    prove((await demo.agent.stop()) === 0, 'the agent ended with 0');
    return 'SIGTERM drains: calls finish, the log is flushed, exit 0';
  });
  await script.step('Tamper with a copy of the audit log', () => tamperStep(demo, victim as AuditRecord));
  await script.step('Start again', () => restartStep(demo, start));
};
