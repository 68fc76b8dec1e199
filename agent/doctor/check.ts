// One finding of the doctor.

export interface Check {
  readonly name: string;
  readonly level: 'ok' | 'warn' | 'fail';
  /** What was found, in words. */
  readonly detail: string;
  /** What to do; always there where something is wrong. */
  readonly remedy?: string;
}

export const ok = (name: string, detail: string): Check => ({ name, level: 'ok', detail });
export const warn = (name: string, detail: string, remedy: string): Check => ({ name, level: 'warn', detail, remedy });
export const fail = (name: string, detail: string, remedy: string): Check => ({ name, level: 'fail', detail, remedy });
