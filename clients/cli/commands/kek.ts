// mortise kek …: the tenant's key encryption key.
import type { Command } from 'commander';
import { leaf, type Registry } from '../command.ts';
import type { Context } from '../context.ts';

/** Declares `kek` and its subcommands. */
export const registerKek = (registry: Registry, program: Command): void => {
  const kek = program.command('kek').description("the tenant's key encryption key");
  const rotateKek = async (context: Context): Promise<void> => {
    if (context.io.stderr.isTTY) context.note('moving every wrapped key to a new key encryption key …\n');
    const { version, rewrapped } = await (await context.client()).keys.rotateTenantKek(context.call);
    const text = `the key encryption key is now version ${version}; ${rewrapped} wrapped keys moved to it\n`;
    await context.print({ text, json: { version, rewrapped } });
  };
  leaf(registry, kek, 'rotate', 'make a new version and move every wrapped key to it', rotateKek);
};
