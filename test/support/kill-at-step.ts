// Preloaded into a program: kills it without warning in front of the step of the file system that KILL_AT numbers. Steps are
// the calls that change something or make it durable. Without a number it counts them, and says at the end how many.
import fs, { type FileHandle } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';

const killAt = Number(process.env['KILL_AT'] ?? 0);
let steps = 0;

const step = (): void => {
  steps += 1;
  if (steps === killAt) process.kill(process.pid, 'SIGKILL');
};

type Method = (...args: unknown[]) => unknown;
const counted = (target: object, name: string): void => {
  const own = (target as Record<string, Method>)[name] as Method;
  (target as Record<string, Method>)[name] = function (this: unknown, ...args: unknown[]) {
    step();
    return own.apply(this, args);
  };
};

const probe: FileHandle = await fs.open('/dev/null', 'r');
const handles = Object.getPrototypeOf(probe) as object;
await probe.close();
for (const name of ['writeFile', 'appendFile', 'sync', 'datasync', 'truncate', 'chmod']) counted(handles, name);
for (const name of ['rename', 'link', 'unlink', 'open']) counted(fs, name);
syncBuiltinESMExports();
process.on('exit', () => process.stderr.write(`\nsteps: ${steps}\n`));
