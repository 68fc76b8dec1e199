// What this process refuses by its own checks, before or after the library was asked.
import type { Code } from '../../errors.ts';

export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly code: Code;
  constructor(code: Code, message: string) {
    super(message);
    this.code = code;
  }
}
