// How every command that calls the registry is told which one, and as whom.
import type { Command } from 'commander';

/** The options of every command that calls the registry. */
export const sessionOptions = (command: Command): Command =>
  command
    .option('--registry <host:port>', 'the registry (default: $MORTISE_REGISTRY, or that of the enrolment)')
    .option('--admin-dir <dir>', 'your credentials (default: $MORTISE_ADMIN_DIR or ~/.config/mortise/admin)');
