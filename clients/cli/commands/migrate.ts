// mortise migrate …: moves stored ciphertexts and signatures to the current versions of their keys.
import { type Command, InvalidArgumentError, Option } from 'commander';
import { leaf, parseCount, type Registry } from '../command.ts';
import type { MigrateOptions, RunOptions } from '../migrate/options.ts';

const parseConcurrency = (text: string): number => {
  const count = parseCount(text);
  if (count < 1 || count > 64) throw new InvalidArgumentError('Expected 1 to 64.');
  return count;
};

const parseRate = (text: string): number => {
  const rate = Number(text);
  if (!(rate > 0)) throw new InvalidArgumentError('Expected files a second, such as 10 or 0.5.');
  return rate;
};

const what = (command: Command): Command =>
  command
    .option('--list <file>', 'file with one path a line, in place of or beside the arguments')
    .option('--to <key>', 'key to move to (default: each to the primary version of its own key)')
    .option('--key <key>', 'key of ciphertexts and signatures that name none')
    .addOption(
      new Option('--method <method>', 'auto: where several can open it, and for containers, Rewrap if policy allows it')
        .choices(['auto', 'rewrap', 're-encrypt'])
        .default('auto'),
    )
    .option('--aad-file <file>', 'associated data of all of them')
    .option('--aad-suffix <suffix>', 'associated data of FILE is in FILE and this suffix, where that exists')
    .option('--message-suffix <suffix>', 'a detached JWS is the name of its data and this suffix', '.jws');

const runOptions = (command: Command): Command =>
  what(command.requiredOption('--journal <file>', 'where the campaign keeps what it has done; made where missing'))
    .option('--concurrency <n>', 'calls at a time, at most; fewer while the agent is busy', parseConcurrency, 4)
    .option('--rate <n>', 'files a second, at most', parseRate)
    .option('--keep-old <suffix>', 'keep each old file under its name and this suffix')
    .option('--no-verify', 'do not have the agent open each new ciphertext before the old one goes')
    .option('--sign-key <key>', 'signing key for the statement')
    .option('--statement <file>', 'where the statement goes, a JWS; the list of files goes beside it')
    .addHelpText('after', RUN_HELP);

const RUN_HELP = `
Ctrl-C finishes what is under way and ends with exit code 5; the same command goes on. So does it after a kill: each file
is replaced in one step, and the journal says which one is in place. Exit code 0: everything is under the current
version of its key; 1: something could not be moved, and the journal and the statement say why.`;

/** Declares `migrate` and its subcommands. */
export const registerMigrate = (registry: Registry, program: Command): void => {
  const migrate = program.command('migrate').description('move stored data to the current versions of its keys');
  leaf<MigrateOptions>(
    registry,
    migrate,
    'plan [paths...]',
    'what would be moved, from which key version to which',
    async (context, options, paths) =>
      // commander gives a variadic argument as one list
      (await import('../migrate/plan.ts')).plan(context, options, paths as unknown as readonly string[]),
    what,
  );
  leaf<RunOptions>(
    registry,
    migrate,
    'run [paths...]',
    'move it; goes on where it was interrupted',
    async (context, options, paths) =>
      (await import('../migrate/run.ts')).run(context, options, paths as unknown as readonly string[]),
    runOptions,
  );
  leaf<{ readonly journal: string }>(
    registry,
    migrate,
    'status',
    'how far a campaign is',
    async (context, options) => (await import('../migrate/status.ts')).status(context, options),
    (command) => command.requiredOption('--journal <file>', 'the journal of the campaign'),
  );
};
