// The second act: what is refused, what is revoked, and a token process that is killed under load.
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from '../../clients/typescript/index.ts';
import type { Demo } from './demo.ts';
import { principal } from './demo-keys.ts';
import { answerOf, codeOf, prove } from './script.ts';

const crossTenantStep = async (demo: Demo): Promise<string> => {
  const { script } = demo;
  const stranger = principal(demo, 'globex', 'app');
  const codes = [
    await script.mortise(['decrypt', 'report.jwe', '--aad-file', 'context', '--out', 'stolen.txt'], 3, stranger),
    await script.mortise(['key', 'get', 'acme/orders'], 3, stranger),
    await script.mortise(['key', 'get', 'acme/no-such-key'], 3, stranger),
  ].map(codeOf);
  prove(new Set(codes).size === 1 && codes[0] === 'PERMISSION_DENIED', `three times PERMISSION_DENIED, not ${codes}`);
  return 'another tenant can neither use a key nor learn whether it exists';
};

const algorithmStep = async (demo: Demo): Promise<string> => {
  const { script } = demo;
  const admin = principal(demo, 'acme', 'admin');
  const make = ['key', 'create', 'weak', '--purpose', 'sign', '--algorithm'];
  const forbidden = await script.mortise([...make, 'RSA-1024'], 3, admin);
  prove(codeOf(forbidden) === 'ALGORITHM_FORBIDDEN', 'RSA-1024 is forbidden by name');
  const denied = await script.mortise([...make, 'RSA-2048'], 3, admin);
  prove(codeOf(denied) === 'POLICY_DENIED', 'RSA-2048 is denied by policy');
  prove(denied.stderr.includes('tenant.algorithms.deny'), 'the refusal names the rule');
  const explained = await script.mortise(['explain', 'create-key', '--algorithm', 'RSA-2048'], 3, admin);
  prove(answerOf<{ rule: string }>(explained).rule === 'tenant.algorithms.deny', '"explain" names the same rule');
  return 'a weak algorithm is refused below policy, another by the tenant’s own rule, which is named';
};

const revokeStep = async (demo: Demo): Promise<string> => {
  const { script } = demo;
  const [admin, app] = [principal(demo, 'acme', 'admin'), principal(demo, 'acme', 'app')];
  await script.mortise(['key', 'create', 'leaked', '--purpose', 'encrypt'], 0, admin);
  await script.mortise(['encrypt', '--key', 'leaked', 'context', '--out', 'leaked.jwe'], 0, app);
  await script.mortise(['key', 'revoke', 'leaked', '--reason', 'laptop-stolen'], 0, admin);
  for (const args of [
    ['encrypt', '--key', 'leaked', 'context', '--out', 'again.jwe'],
    ['decrypt', 'leaked.jwe', '--out', 'again.txt'],
  ]) {
    prove(codeOf(await script.mortise(args, 1, app)) === 'KEY_STATE', 'a revoked key does nothing');
  }
  return 'revocation bites with the next call, for encryption and decryption';
};

/** The token process: the agent's only child that runs the program of that name. */
const tokenProcess = (agentPid: number): number => {
  const children = readFileSync(`/proc/${agentPid}/task/${agentPid}/children`, 'utf8').trim().split(' ').map(Number);
  const found = children.find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('token/process/'));
  prove(found !== undefined, 'the agent has a token process');
  return found as number;
};

const LOAD = { callers: 8, calls: 25 };

const killStep = async (demo: Demo): Promise<string> => {
  const { script, lab, agent } = demo;
  const token = readFileSync(lab.tokenFile('acme', 'app'), 'utf8').trim();
  using client = connect({ socketPath: lab.socketPath, token, deadlineMs: 20_000 });
  const before = (await client.status()).token?.restarts ?? 0;
  const victim = tokenProcess(agent.pid);
  const half = Promise.withResolvers<void>();
  let done = 0;
  const caller = async (): Promise<void> => {
    for (let at = 0; at < LOAD.calls; at += 1) {
      const data = Buffer.from(`message ${at}`);
      const sealed = await client.encrypt('orders', data);
      const opened = await client.decrypt(sealed.jwe);
      prove(opened.plaintext.equals(data), 'the message came back');
      demo.answered.push(`encrypt ${sealed.envelope.correlationId}`, `decrypt ${opened.envelope.correlationId}`);
      done += 1;
      if (done === (LOAD.callers * LOAD.calls) / 2) half.resolve();
    }
  };
  const load = Promise.all(Array.from({ length: LOAD.callers }, caller));
  await Promise.race([half.promise, load]);
  process.kill(victim, 'SIGKILL');
  script.see(`kill -9 ${victim} (token process) with ${LOAD.callers} callers at work`);
  await load;
  await script.mortise(
    ['decrypt', 'report.jwe', '--aad-file', 'context', '--force', '--out', 'opened.txt'],
    0,
    principal(demo, 'acme', 'app'),
  );
  const after = (await client.status()).token?.restarts ?? 0;
  script.see(`${done} messages encrypted and decrypted, none lost; token process restarts: ${before} → ${after}`);
  prove(after > before && tokenProcess(agent.pid) !== victim, 'the token process is a new one');
  return 'the vendor library’s process died under load; the agent stayed, and every call was answered';
};

const metricsText = (socketPath: string): Promise<string> =>
  new Promise((resolve, reject) => {
    request({ socketPath, path: '/metrics' }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.once('end', () => resolve(text)).once('error', reject);
    })
      .once('error', reject)
      .end();
  });

const metricsStep = async ({ script, lab }: Demo): Promise<string> => {
  const text = await metricsText(lab.metricsSocketPath);
  const lines = text.split('\n').filter((line) => line.startsWith('mortise_operations_total'));
  const value = (operation: string, outcome: string): number => {
    const parts = ['tenant="acme"', `operation="${operation}"`, `outcome="${outcome}"`];
    return Number(
      lines
        .find((line) => parts.every((part) => line.includes(part)))
        ?.split(' ')
        .at(-1) ?? 0,
    );
  };
  const shown = lines.filter((line) => /operation="(encrypt|decrypt|sign|create-key)"/.test(line)).slice(0, 8);
  script.see(shown.join('\n'));
  prove(value('encrypt', 'ok') > LOAD.callers * LOAD.calls, 'encryptions are counted');
  prove(value('create-key', 'POLICY_DENIED') === 1, 'so are refusals');
  prove(text.includes('mortise_token_restarts') || text.includes('restart'), 'and the restart of the token process');
  return 'operations are counted by tenant, operation and outcome, refusals too';
};

/** Refusals, revocation, a crash, metrics. */
export const operationSteps = async (demo: Demo): Promise<void> => {
  const { script } = demo;
  await script.step('Another tenant is refused', () => crossTenantStep(demo));
  await script.step('Forbidden algorithms are refused', () => algorithmStep(demo));
  await script.step('Revoke a key', () => revokeStep(demo));
  await script.step('Kill the token process under load', () => killStep(demo));
  await script.step('Look at the metrics', () => metricsStep(demo));
};
