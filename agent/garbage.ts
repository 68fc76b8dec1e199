// When garbage is collected. On demand, which Node offers only behind a flag. For once after the start: what loading left behind, 14 MB,
// an idle agent would keep. Smaller semi-spaces for good would save it too, for a third of the rate of small operations.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

export const collectGarbage = (): void => {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('gc');
  setFlagsFromString('--no-expose-gc');
  if (typeof collect === 'function') collect();
};

/**
 * V8 collects all of the heap for every 64 MB of buffers that were made, which a stream of data does many times a second:
 * two thirds of the agent's time for it. Counted with the heap they have a limit that grows with what is alive.
 */
export const countBuffersAsHeap = (): void => setFlagsFromString('--external-memory-accounted-in-global-limit');
