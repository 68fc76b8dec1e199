// The folder that `policy init` makes: drafts to edit, officers' key files, and `policy/` with what an agent reads.
import { join } from 'node:path';

export const draftsOf = (dir: string): string => join(dir, 'drafts');
export const officersOf = (dir: string): string => join(dir, 'officers');
/** MORTISE_POLICY_DIR of an agent. */
export const policyOf = (dir: string): string => join(dir, 'policy');

export const PLATFORM_FILE = 'platform.json';
export const TRUST_ANCHOR_FILE = 'trust-anchor.json';
export const tenantFile = (tenant: string): string => join('tenants', `${tenant}.json`);
export const keyFileOf = (dir: string, officer: string): string => join(officersOf(dir), `${officer}.keys.json`);
