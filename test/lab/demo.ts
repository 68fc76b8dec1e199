// npm run demo: the guided tour. A real SoftHSM token, a real agent, then a real registry with two agents, the real CLI
// as child processes; every step checks what it claims, and the demo fails with the first that does not hold.
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { startAgent } from './agent-process.ts';
import { auditSteps } from './demo-audit.ts';
import { keySteps } from './demo-keys.ts';
import { operationSteps } from './demo-operations.ts';
import { registrySteps } from './demo-registry.ts';
import { type Lab, prepareLab, ROOT } from './lab.ts';
import type { Program } from './program.ts';
import { NotProved, Script } from './script.ts';

/** What the acts of the demo share. */
export interface Demo {
  readonly script: Script;
  readonly lab: Lab;
  readonly agent: Program;
  /** Where the demo's files are; commands run in it. */
  readonly desk: string;
  /** "<operation> <correlation id>" of calls that were answered around the kill. */
  readonly answered: string[];
}

const folder = process.env['MORTISE_DEMO_DIR'] || join(ROOT, '.mortise/demo');

const main = async (): Promise<void> => {
  const begun = performance.now();
  const seconds = (): string => ((performance.now() - begun) / 1000).toFixed(1);
  const screen = { isTTY: process.stdout.isTTY === true, write: (text: string) => void process.stdout.write(text) };
  rmSync(folder, { recursive: true, force: true });
  const desk = join(folder, 'desk');
  mkdirSync(desk, { recursive: true, mode: 0o700 });
  const env = {
    PATH: process.env['PATH'] ?? '',
    NODE_COMPILE_CACHE: join(folder, 'compile-cache'),
    MORTISE_SOCKET: join(folder, 'run/agent.sock'),
  };
  screen.write('Setting up: a SoftHSM token, three policy officers, signed policies of two tenants, an issuer …\n');
  const lab = await prepareLab(folder);
  const script = new Script({ screen, cwd: desk, env: { ...env, ...lab.agentEnv, MORTISE_SOCKET: lab.socketPath } });
  script.heading(`Mortise, one host end to end (set up in ${seconds()} s, in ${folder})`);
  const logFile = join(folder, 'agent.log');
  const started = performance.now();
  const agent = await startAgent(lab, logFile);
  script.see(`the agent serves ${Math.round(performance.now() - started)} ms after its start; its log: ${logFile}`);
  try {
    const demo: Demo = { script, lab, agent, desk, answered: [] };
    await keySteps(demo);
    await operationSteps(demo);
    await auditSteps(demo, () => startAgent(lab, logFile));
  } finally {
    await agent.kill(); // where all went well it has ended
  }
  screen.write('\n');
  script.heading('Many hosts: a registry, two agents, one token');
  await registrySteps({ script, lab, desk });
  screen.write('\n');
  script.heading(`All ${script.steps} steps proved in ${seconds()} s.`);
  script.see('Try it yourself: "npm start" leaves an agent running.');
};

// The programs that are running end with this one ('exit' of launch).
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));

main().catch((error: unknown) => {
  const words = error instanceof NotProved ? `NOT proved: ${error.message}` : ((error as Error).stack ?? String(error));
  process.stderr.write(`\n${words}\n`);
  process.exitCode = 1;
});
