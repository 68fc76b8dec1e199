// Where the agent is: the path given, else MORTISE_SOCKET, else the path that packages use.

const DEFAULT_SOCKET = '/run/mortise/agent.sock';

/** Path of the agent's socket. */
export const socketPathOf = (given: string | undefined): string =>
  given || process.env['MORTISE_SOCKET'] || DEFAULT_SOCKET;
