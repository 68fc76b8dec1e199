// How commands are declared: every leaf takes the global options, gets a Context, and ends in an exit code.
import { type Command, InvalidArgumentError, Option } from 'commander';
import { Context, type GlobalOptions } from './context.ts';
import type { Exit } from './exit-codes.ts';
import type { Io } from './io.ts';

/** What a command does; nothing returned means `ok`. */
export type Handler<Options> = (
  context: Context,
  options: Options,
  ...args: string[]
) => Promise<Exit | undefined> | Promise<void>;

export interface Registry {
  readonly io: Io;
  /** Called once, by the command that ran. */
  finished(exit: Exit): void;
}

const UNITS = { ms: 1, s: 1000, m: 60_000 } as const;

/** "500ms", "30s", "2m"; a bare number is seconds. */
export const parseDuration = (text: string): number => {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m)?$/.exec(text);
  const value = Number(match?.[1]) * UNITS[(match?.[2] ?? 's') as keyof typeof UNITS];
  if (match === null || value <= 0) throw new InvalidArgumentError('Expected a time such as 500ms, 30s or 2m.');
  return Math.ceil(value);
};

export const parseCount = (text: string): number => {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('Expected a whole number.');
  return Number(text);
};

export const parseTime = (text: string): Date => {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) throw new InvalidArgumentError('Expected a time such as 2027-01-31T12:00:00Z.');
  return time;
};

export const parseHex = (text: string): Buffer => {
  if (!/^([0-9a-fA-F]{2})+$/.test(text)) throw new InvalidArgumentError('Expected hexadecimal digits.');
  return Buffer.from(text, 'hex');
};

/** Collects a repeated option. */
export const collect = (value: string, before: readonly string[] = []): readonly string[] => [...before, value];

/** name=value, collected into an object. */
export const collectPair = (
  text: string,
  before: Readonly<Record<string, string>> = {},
): Readonly<Record<string, string>> => {
  const equals = text.indexOf('=');
  if (equals < 1) throw new InvalidArgumentError('Expected NAME=VALUE.');
  return { ...before, [text.slice(0, equals)]: text.slice(equals + 1) };
};

/** The options that every command takes, in front of it or behind. */
export const addGlobalOptions = (command: Command): Command =>
  command
    .optionsGroup('Global options:')
    .option('--socket <path>', "the agent's socket (default: $MORTISE_SOCKET or /run/mortise/agent.sock)")
    .option('--token-file <file>', 'file with your JWT (default: $MORTISE_TOKEN_FILE; else your uid counts)')
    .addOption(new Option('--output <format>', 'how to print').choices(['text', 'json']))
    .option('--timeout <time>', 'give up after 500ms, 30s, 2m (default: 10s)', parseDuration);

/** Declares a command without subcommands. */
export const leaf = <Options extends object>(
  registry: Registry,
  parent: Command,
  usage: string,
  description: string,
  handler: Handler<Options>,
  declare: (command: Command) => Command = (command) => command,
): Command => {
  const command = declare(parent.command(usage).description(description));
  return addGlobalOptions(command).action(async (...given: unknown[]) => {
    const args = given.slice(0, -2) as string[];
    const options = command.optsWithGlobals<Options & GlobalOptions>();
    const context = new Context({ io: registry.io, options });
    try {
      registry.finished((await handler(context, options, ...args)) ?? 'ok');
    } catch (thrown) {
      if (thrown instanceof InvalidArgumentError) command.error(`error: ${thrown.message}`); // as commander's own
      throw thrown;
    } finally {
      context.close();
    }
  });
};
