// Adds up a V8 CPU profile by the part of the program in which the time was spent.

interface Profile {
  /** Microseconds on the clock of `timeDeltas`. */
  readonly startTime: number;
  readonly endTime: number;
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string };
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

const SHOWN = 14;

/** The room or package of a frame. */
const placeOf = ({ functionName, url }: { functionName: string; url: string }): string => {
  if (functionName === '(garbage collector)') return 'garbage collection';
  if (url === '') return 'native code and system calls';
  if (url.startsWith('node:')) return `Node: ${url.replace(/^node:(internal\/)?/, '').split('/')[0]}`;
  const dependency = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)?.[1];
  if (dependency !== undefined) return dependency;
  return /\/((?:agent|proto)\/[^/]+)\//.exec(url)?.[1] ?? /\/(agent\/[^/]+)$/.exec(url)?.[1] ?? url;
};

const isIdle = (functionName: string): boolean => functionName === '(idle)' || functionName === '(program)';

/** Shares of the busy time since `from` (milliseconds since 1970) of a process that ended just now, largest first. */
export const summarize = (profile: Profile, from: number, endedAt = Date.now()): (readonly [string, number])[] => {
  const frames = new Map(profile.nodes.map(({ id, callFrame }) => [id, callFrame]));
  const busy = new Map<string, number>();
  let time = profile.startTime;
  let total = 0;
  const since = profile.endTime - (endedAt - from) * 1000;
  for (const [index, id] of profile.samples.entries()) {
    const spent = profile.timeDeltas[index] ?? 0;
    time += spent;
    const frame = frames.get(id);
    if (frame === undefined || time < since || isIdle(frame.functionName)) continue;
    const place = placeOf(frame);
    busy.set(place, (busy.get(place) ?? 0) + spent);
    total += spent;
  }
  const shares = [...busy].map(([place, spent]) => [place, spent / total] as const).sort((a, b) => b[1] - a[1]);
  return shares.slice(0, SHOWN);
};
