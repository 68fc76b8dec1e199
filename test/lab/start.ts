// npm start: prepares the laboratory, runs an agent in it until Ctrl-C, and says how to try it.
import { join } from 'node:path';
import { startAgent } from './agent-process.ts';
import { type Lab, prepareLab, ROOT } from './lab.ts';

const folder = process.env['MORTISE_LAB_DIR'] || join(ROOT, '.mortise/lab');

const instructions = (lab: Lab, logFile: string, sealed = join(lab.folder, 'license.jwe')): string => `
An agent is running. In another terminal, in this checkout:

  export MORTISE_SOCKET=${lab.socketPath}
  export MORTISE_TOKEN_FILE=${lab.tokenFile('acme', 'admin')}
  npm run -s mortise -- whoami
  npm run -s mortise -- key create orders --purpose encrypt
  npm run -s mortise -- key list

  export MORTISE_TOKEN_FILE=${lab.tokenFile('acme', 'app')}
  npm run -s mortise -- encrypt --key orders LICENSE --out ${sealed} --force
  npm run -s mortise -- decrypt ${sealed} | head -3

  export MORTISE_TOKEN_FILE=${lab.tokenFile('globex', 'app')}
  npm run -s mortise -- decrypt ${sealed}   # refused: another tenant

  export MORTISE_TOKEN_FILE=${lab.operatorTokenFile}
  npm run -s mortise -- status
  npm run -s mortise -- audit tail -f
  curl -s --unix-socket ${lab.metricsSocketPath} http://localhost/metrics | grep mortise_operations_total

Doctor:   (set -a; . ${join(lab.folder, 'agent.env')}; npm run -s mortise -- doctor)
Log:      ${logFile}
Settings: ${join(lab.folder, 'agent.env')}
Policies: ${join(lab.folder, 'policies')}

Ctrl-C stops the agent. Everything is kept in ${lab.folder}; delete the folder to begin anew.
`;

const main = async (): Promise<number> => {
  const interrupted = new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
  });
  const lab = await prepareLab(folder);
  const logFile = join(folder, 'agent.log');
  const agent = await startAgent(lab, logFile);
  process.stdout.write(instructions(lab, logFile));
  const ended = await Promise.race([interrupted, agent.ended]);
  if (ended !== undefined) {
    process.stderr.write(`\nthe agent ended with ${ended}; its log: ${logFile}\n`);
    return 1;
  }
  process.stdout.write('\nstopping …\n');
  return (await agent.stop()) ?? 1;
};

process.exitCode = await main();
