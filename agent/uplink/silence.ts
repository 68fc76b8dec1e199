// Ends a stream on which nothing comes although something should have: the peer hangs, or the path is cut.
import { Refusal } from './refusal.ts';

export interface Silence extends Disposable {
  /** Aborts with the signal given, or at silence. */
  readonly signal: AbortSignal;
  /** Something came; the next has to come within this time. */
  expect(ms: number): void;
  /** Nothing is expected for now. */
  rest(): void;
  throwIfSilent(): void;
}

export const silence = (signal: AbortSignal): Silence => {
  const silent = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  return {
    signal: AbortSignal.any([signal, silent.signal]),
    expect: (ms) => {
      clearTimeout(timer);
      timer = setTimeout(() => silent.abort(), ms).unref();
    },
    rest: () => clearTimeout(timer),
    throwIfSilent: () => {
      if (silent.signal.aborted) throw new Refusal('REGISTRY_UNAVAILABLE', 'nothing came on the stream for too long');
    },
    [Symbol.dispose]: () => clearTimeout(timer),
  };
};
