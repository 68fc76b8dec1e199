// The tree of commands. Declarations only; what a command needs beyond them is loaded when it runs.
import { Command } from 'commander';
import { addGlobalOptions, type Registry } from './command.ts';
import { registerAudit } from './commands/audit.ts';
import { registerData } from './commands/data.ts';
import { registerImport } from './commands/import.ts';
import { registerInventory } from './commands/inventory.ts';
import { registerKek } from './commands/kek.ts';
import { registerKey } from './commands/key.ts';
import { registerMigrate } from './commands/migrate.ts';
import { registerMove, registerReSign } from './commands/move.ts';
import { registerPolicy } from './commands/policy.ts';
import { registerReceipt } from './commands/receipt.ts';
import { registerPolicyRegistry, registerRegistry } from './commands/registry.ts';
import { registerSignature } from './commands/signature.ts';
import { registerStatus } from './commands/status.ts';
import { exitCodesHelp } from './exit-codes.ts';

const EXAMPLES = `Examples:
  mortise key create orders --purpose encrypt
  mortise encrypt --key orders report.pdf --out report.jwe
  mortise decrypt report.jwe --out report.pdf
  mortise sign --key invoices --form jws-detached invoice.xml --out invoice.jws
  mortise verify invoice.jws --message invoice.xml`;

/** The program, ready to parse; it never ends the process itself. */
export const buildProgram = (registry: Registry): Command => {
  const program = new Command('mortise')
    .description('Encrypt, sign and manage keys through the Mortise agent of this host.')
    .addHelpText('after', `\n${EXAMPLES}\n\n${exitCodesHelp()}`)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => registry.io.stdout.write(text),
      writeErr: (text) => registry.io.stderr.write(text),
    })
    .showSuggestionAfterError()
    .configureHelp({ showGlobalOptions: false });
  program.commandsGroup('Keys:');
  registerImport(registry, registerKey(registry, program));
  registerKek(registry, program);
  registerInventory(registry, program);
  program.commandsGroup('Data:');
  registerData(registry, program);
  registerMove(registry, program);
  registerMigrate(registry, program);
  program.commandsGroup('Signatures:');
  registerSignature(registry, program);
  registerReSign(registry, program);
  program.commandsGroup('Agent:');
  registerStatus(registry, program);
  program.commandsGroup('Audit and policy:');
  registerAudit(registry, program);
  registerReceipt(registry, program);
  registerPolicyRegistry(registry, registerPolicy(registry, program));
  program.commandsGroup('Registry:');
  registerRegistry(registry, program);
  return addGlobalOptions(program);
};
