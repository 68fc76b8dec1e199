// Compares three token processes on SoftHSM: the token room as it is (worker threads that read their own socketpair by
// blocking calls), one that hands calls to libuv's thread pool, and one that calls a single session on its event loop.
// ECDSA P-256; rounds alternate; medians, CPU per signature, and each rate as a ratio to one session called directly in
// the same round.
//
//   node test/bench/token-structure.ts [rounds] [seconds]
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { cpus } from 'node:os';
import type { Duplex } from 'node:stream';
import pkcs11js from 'pkcs11js';
import { encodeFrame, FrameReader } from '../../agent/token/protocol.ts';
import { makeSoftHsm, type SoftHsm } from '../support/softhsm.ts';
import { ignoredTokenEvents, openSoftHsmToken } from '../support/token.ts';

const IN_FLIGHT = [1, 8, 64] as const;
const SESSIONS = 4;
const DIGEST = randomBytes(32);
const TICKS_PER_SECOND = 100; // USER_HZ of /proc/pid/stat
const ECDSA = { mechanism: pkcs11js.CKM_ECDSA };
type Sign = () => Promise<unknown>;

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;

/** Frames written in one turn of the event loop go out together. */
const coalesced = (socket: Duplex): ((frame: Buffer) => void) => {
  let frames: Buffer[] = [];
  return (frame) => {
    if (frames.push(frame) > 1) return;
    process.nextTick(() => {
      socket.write(Buffer.concat(frames));
      frames = [];
    });
  };
};

/** The other structures, as a process of their own on descriptor 3. Also "direct": measures itself, in process. */
const serve = (mode: string, hsm: SoftHsm, tokenId: string): void => {
  const lib = new pkcs11js.PKCS11();
  lib.load(hsm.library);
  lib.C_Initialize({ flags: pkcs11js.CKF_OS_LOCKING_OK });
  const slot = lib.C_GetSlotList(true).find((one) => lib.C_GetTokenInfo(one).label.trim() === hsm.label) as Buffer;
  const sessions = Array.from({ length: SESSIONS }, () => lib.C_OpenSession(slot, 6));
  const own = sessions[0] as Buffer;
  lib.C_Login(own, 1, hsm.pin);
  lib.C_FindObjectsInit(own, [
    { type: pkcs11js.CKA_ID, value: Buffer.from(tokenId, 'hex') },
    { type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_PRIVATE_KEY },
  ]);
  const [key] = lib.C_FindObjects(own, 1) as [Buffer];
  lib.C_FindObjectsFinal(own);
  const output = Buffer.alloc(64);
  const sync = (digest: Buffer): Buffer => {
    lib.C_SignInit(own, ECDSA, key);
    return lib.C_Sign(own, digest, output);
  };
  const waiting: ((session: Buffer) => void)[] = [];
  const libuv = async (digest: Buffer): Promise<Buffer> => {
    const session = sessions.pop() ?? (await new Promise<Buffer>((resolve) => waiting.push(resolve)));
    lib.C_SignInit(session, ECDSA, key);
    const signature = await lib.C_SignAsync(session, digest, Buffer.alloc(64));
    const next = waiting.shift();
    if (next === undefined) sessions.push(session);
    else next(session);
    return signature;
  };
  const socket = new Socket({ fd: 3 });
  const send = coalesced(socket);
  const reader = new FrameReader();
  socket.on('data', (chunk) =>
    reader.push(chunk, ({ id, body }) => {
      const digest = Buffer.from(body.subarray(4));
      if (mode === 'direct') {
        const until = performance.now() + digest.readUInt32LE(0);
        let count = 0;
        for (; performance.now() < until; count += 1) sync(digest);
        send(encodeFrame(id, 1, [Buffer.from(String(count))]));
      } else if (mode === 'sync') send(encodeFrame(id, 1, [sync(digest)]));
      else void libuv(digest).then((signature) => send(encodeFrame(id, 1, [signature])));
    }),
  );
  socket.on('close', () => process.exit(0));
};

const start = (
  mode: string,
  hsm: SoftHsm,
  tokenId: string,
): { child: ChildProcess; ask(data: Buffer): Promise<string> } => {
  const args = [import.meta.filename, 'serve', mode, JSON.stringify(hsm), tokenId];
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'inherit', 'inherit', 'pipe'],
    env: { PATH: process.env['PATH'], ...hsm.env },
  });
  const socket = child.stdio[3] as Duplex;
  const send = coalesced(socket);
  const asked = new Map<number, (answer: string) => void>();
  const reader = new FrameReader();
  socket.on('data', (chunk: Buffer) =>
    reader.push(chunk, ({ id, body }) => {
      asked.get(id)?.(body.subarray(4).toString('latin1'));
      asked.delete(id);
    }),
  );
  let id = 0;
  const ask = (data: Buffer): Promise<string> =>
    new Promise((resolve) => {
      id += 1;
      asked.set(id, resolve);
      send(encodeFrame(id, 1, [data]));
    });
  return { child, ask };
};

const cpuMicros = (pid: number): number => {
  const fields = (readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1] as string).split(' ');
  return ((Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND) * 1e6;
};

const measured = async (sign: Sign, inFlight: number, forMs: number): Promise<{ rate: number; count: number }> => {
  const startedAt = performance.now();
  let count = 0;
  const one = async (): Promise<void> => {
    while (performance.now() - startedAt < forMs) {
      await sign();
      count += 1;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, one));
  return { rate: (count / (performance.now() - startedAt)) * 1000, count };
};

const compare = async (rounds: number, forMs: number): Promise<void> => {
  await using hsm = await makeSoftHsm();
  await using token = await openSoftHsmToken(hsm, { sessions: SESSIONS }, ignoredTokenEvents);
  const call = { tenant: 'bench', deadline: Date.now() + 3_600_000, signal: new AbortController().signal };
  const { tokenId } = await token.generate({ algorithm: 'EC-P256', purpose: 'sign', label: 'bench' }, call);
  const others = ['libuv', 'sync', 'direct'].map((mode) => start(mode, hsm, tokenId));
  const [libuv, sync, direct] = others as [(typeof others)[0], (typeof others)[0], (typeof others)[0]];
  const structures: readonly [string, number, Sign][] = [
    ['blocking workers (the token room)', token.pid() as number, () => token.sign(tokenId, 'ES256', DIGEST, call)],
    [`libuv async, ${SESSIONS} sessions`, libuv.child.pid as number, () => libuv.ask(DIGEST)],
    ['event loop, one sync session', sync.child.pid as number, () => sync.ask(DIGEST)],
  ];
  const rows = new Map<string, { rates: number[]; ratios: number[]; cpu: number[] }>();
  for (let round = 0; round < rounds; round += 1) {
    const time = Buffer.alloc(32, 1);
    time.writeUInt32LE(forMs, 0);
    const base = (Number(await direct.ask(time)) / forMs) * 1000;
    for (const inFlight of IN_FLIGHT) {
      for (const [name, pid, sign] of structures) {
        await measured(sign, inFlight, forMs / 4);
        const before = cpuMicros(pid);
        const { rate, count } = await measured(sign, inFlight, forMs);
        const key = `| ${name} | ${inFlight}`;
        const row = rows.get(key) ?? { rates: [], ratios: [], cpu: [] };
        rows.set(key, row);
        row.rates.push(rate);
        row.ratios.push(rate / base);
        row.cpu.push((cpuMicros(pid) - before) / count);
      }
    }
  }
  for (const { child } of others) child.kill('SIGKILL');
  console.log(`${cpus().length} × ${cpus()[0]?.model}, Node ${process.version}, ${rounds} rounds of ${forMs} ms`);
  console.log('| structure | in flight | ops/s, median | range | ÷ direct | CPU of the process, µs per signature |');
  console.log('|---|--:|--:|--:|--:|--:|');
  for (const [key, { rates, ratios, cpu }] of rows) {
    const range = `${Math.round(Math.min(...rates))}–${Math.round(Math.max(...rates))}`;
    console.log(
      `${key} | ${Math.round(median(rates))} | ${range} | ${median(ratios).toFixed(2)} | ${Math.round(median(cpu))} |`,
    );
  }
};

const [, , first = '5', second = '1', third = '', fourth = ''] = process.argv;
if (first === 'serve') serve(second, JSON.parse(third) as SoftHsm, fourth);
else await compare(Number(first), Number(second) * 1000);
