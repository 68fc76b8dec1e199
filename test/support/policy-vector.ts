// One case of test/vectors/policy/cases.json.
import type { ScopeKey } from '../../agent/policy/store.ts';

export interface PolicyVector {
  readonly title: string;
  /** The General JWS, beside cases.json. */
  readonly file: string;
  readonly now: string;
  /** The scope whose file it is read from; a tenant's policy is read against platform.json. */
  readonly scope: ScopeKey;
  /** What was last in force in this scope. */
  readonly floor?: { readonly version: number; readonly digest: string };
  readonly expected:
    | {
        readonly accepted: true;
        readonly version: number;
        readonly digest: string;
        readonly officers: readonly string[];
      }
    | { readonly accepted: false; readonly code: string; readonly path: string };
}
