// Reads the agent's metrics from its Unix socket.
import { request } from 'node:http';
import { text } from 'node:stream/consumers';

/** Values by name with labels, as the exposition format writes them. */
export const scrape = async (socketPath: string): Promise<ReadonlyMap<string, number>> => {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  request({ socketPath, path: '/metrics' }, (response) => void text(response).then(resolve, reject))
    .on('error', reject)
    .end();
  const lines = (await promise).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => {
      const gap = line.lastIndexOf(' ');
      return [line.slice(0, gap), Number(line.slice(gap + 1))];
    }),
  );
};
