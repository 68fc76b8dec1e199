#!/usr/bin/env node
// The `mortise` program: argv in, exit code out.
import { setFlagsFromString } from 'node:v8';
import { EXIT_CODES, type Exit } from './exit-codes.ts';
import { failureJson, failureOf, failureText, isCommanderError } from './failure.ts';
import type { Io } from './io.ts';
import { jsonText } from './output.ts';
import { buildProgram } from './program.ts';

/** Runs one command; the answer is how it ended. */
const run = async (argv: readonly string[], io: Io): Promise<Exit> => {
  let exit: Exit = 'ok';
  const program = buildProgram({
    io,
    finished: (ended) => {
      exit = ended;
    },
  });
  try {
    await program.parseAsync(argv, { from: 'user' });
    return exit;
  } catch (thrown) {
    if (isCommanderError(thrown)) return thrown.exitCode === 0 ? 'ok' : 'usage'; // it has printed what it had to say
    const failure = failureOf(thrown);
    const wantsJson = argv.some(
      (arg, at) => arg === '--output=json' || (arg === '--output' && argv[at + 1] === 'json'),
    );
    io.stderr.write(wantsJson ? jsonText(failureJson(failure)) : failureText(failure));
    return failure.exit;
  }
};

setFlagsFromString('--external-memory-accounted-in-global-limit'); // else every 64 MB of a stream cost a full collection
const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => interrupted.abort()); // a second one ends it at once
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  interrupted.abort(); // the reader has what it wanted: nothing is left to do
});

const { stdin, stdout, stderr, env } = process;
const exit = await run(process.argv.slice(2), { stdin, stdout, stderr, env, signal: interrupted.signal });
process.exitCode = EXIT_CODES[exit].code;
