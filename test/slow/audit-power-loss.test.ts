// Power loss, simulated from a trace of system calls: at a random moment every write since the last sync of its file
// may have reached the disk or not, each page by itself. Whatever is left must open, verify, and have every record that
// was acknowledged as flushed.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { tempFolder } from '../agent/audit/fixture.ts';

type Step =
  | { kind: 'write'; file: string; at: number; data: Buffer; durable: boolean }
  | { kind: 'truncate'; file: string; size: number }
  | { kind: 'sync'; file: string }
  | { kind: 'acknowledged'; number: number };

const CRASHES = 80;
const PAGE = 4096;
const child = join(import.meta.dirname, 'audit-power-loss-child.ts');
const bytesOf = (text: string): Buffer => Buffer.from(text.replaceAll('\\x', ''), 'hex');

/** Whole calls of a `strace -f` file: a call that another thread interrupted is put together again. */
const wholeCalls = (trace: string): string[] => {
  const open = new Map<string, string>();
  const calls: string[] = [];
  for (const line of trace.split('\n')) {
    const [, pid, rest] = /^(\d+) +(.*)$/.exec(line) ?? [];
    if (pid === undefined || rest === undefined) continue;
    const resumed = /^<\.\.\. \w+ resumed>(.*)$/.exec(rest);
    if (rest.endsWith('<unfinished ...>')) open.set(pid, rest.slice(0, -'<unfinished ...>'.length));
    else if (resumed) calls.push(`${open.get(pid) ?? ''}${resumed[1]}`);
    else calls.push(rest);
  }
  return calls;
};

const readSteps = (trace: string, folder: string): Step[] => {
  const files = new Map<number, { file: string; durable: boolean }>();
  const positions = new Map<number, number>(); // LMDB writes runs of pages by lseek and writev
  const steps: Step[] = [];
  for (const call of wholeCalls(trace)) {
    const fd = Number(/^\w+\((\d+)/.exec(call)?.[1]);
    const opened = /^openat\(\w+, "([^"]*)", ([A-Z_|]+).*\) = (\d+)$/.exec(call);
    if (opened) {
      const path = bytesOf(opened[1] as string).toString();
      const durable = /O_D?SYNC/.test(opened[2] as string);
      if (path.startsWith(folder)) files.set(Number(opened[3]), { file: basename(path), durable });
      else files.delete(Number(opened[3]));
      continue;
    }
    const open = files.get(fd);
    if (call.startsWith('write(1,')) {
      const said = /^acknowledged (\d+)/.exec(bytesOf(/"([^"]*)"/.exec(call)?.[1] ?? '').toString());
      if (said) steps.push({ kind: 'acknowledged', number: Number(said[1]) });
    } else if (open === undefined || !/= \d+$/.test(call)) continue;
    else if (/^(fdatasync|fsync)\(/.test(call)) steps.push({ kind: 'sync', file: open.file });
    else if (call.startsWith('ftruncate(')) {
      steps.push({ kind: 'truncate', file: open.file, size: Number(/, (\d+)\s*\)/.exec(call)?.[1]) });
    } else if (call.startsWith('lseek(')) positions.set(fd, Number(/= (\d+)$/.exec(call)?.[1]));
    else if (/^(pwrite|writev)/.test(call)) {
      const data = Buffer.concat([...call.matchAll(/"((?:\\x..)*)"/g)].map((match) => bytesOf(match[1] as string)));
      const positioned = /, (\d+)\s*\)\s+= \d+$/.exec(call)?.[1];
      const at = call.startsWith('writev') ? (positions.get(fd) as number) : Number(positioned);
      steps.push({ kind: 'write', ...open, at, data });
    }
  }
  return steps;
};

/** The files after a power loss behind `steps`, where `lucky` says which unsynced page writes got through. */
const diskAfter = (steps: readonly Step[], lucky: () => boolean): Map<string, Buffer> => {
  const disk = new Map<string, Buffer>();
  const unsynced = new Map<string, { at: number; data: Buffer }[]>();
  const put = (file: string, at: number, data: Buffer): void => {
    const old = disk.get(file) ?? Buffer.alloc(0);
    const next =
      old.length >= at + data.length ? old : Buffer.concat([old, Buffer.alloc(at + data.length - old.length)]);
    data.copy(next, at);
    disk.set(file, next);
  };
  for (const step of steps) {
    if (step.kind === 'sync') {
      for (const { at, data } of unsynced.get(step.file) ?? []) put(step.file, at, data);
      unsynced.delete(step.file);
    } else if (step.kind === 'write' && step.durable) {
      // A page goes to the disk whole: what was written to it before goes with it.
      const list = unsynced.get(step.file) ?? [];
      const samePage = ({ at }: { at: number }): boolean =>
        at + PAGE > Math.floor(step.at / PAGE) * PAGE && at < step.at + step.data.length + PAGE;
      for (const { at, data } of list.filter(samePage)) put(step.file, at, data);
      unsynced.set(
        step.file,
        list.filter((one) => !samePage(one)),
      );
      put(step.file, step.at, step.data);
    } else if (step.kind === 'write') {
      const list = unsynced.get(step.file) ?? [];
      unsynced.set(step.file, list);
      for (let from = 0; from < step.data.length; ) {
        const to = Math.min(step.data.length, from + PAGE - ((step.at + from) % PAGE));
        list.push({ at: step.at + from, data: step.data.subarray(from, to) });
        from = to;
      }
    }
  }
  for (const [file, list] of unsynced) for (const { at, data } of list) if (lucky()) put(file, at, data);
  return disk;
};

test('whatever power loss leaves opens, verifies and has every flushed record', async (t) => {
  if (spawnSync('strace', ['-V']).status !== 0) return t.skip('strace is not installed');
  const folder = tempFolder(t);
  const path = join(folder, 'live');
  const pair = generateKeyPairSync('ed25519');
  const pem = Buffer.from(pair.privateKey.export({ type: 'pkcs8', format: 'pem' })).toString('base64');
  const keys = [randomBytes(32).toString('hex'), pem];
  const calls = 'trace=openat,lseek,write,writev,pwrite64,pwritev,fdatasync,fsync,ftruncate';
  const file = join(folder, 'trace');
  const traced = [
    '-f',
    '-xx',
    '-s',
    '4000000',
    '-e',
    calls,
    '-o',
    file,
    process.execPath,
    child,
    'write',
    path,
    ...keys,
  ];
  const run = spawnSync('strace', traced, { encoding: 'utf8' });
  if (run.status !== 0) return t.skip(`strace cannot trace here: ${run.stderr.slice(0, 200)}`);

  const steps = readSteps(readFileSync(file, 'utf8'), path);
  rmSync(file);
  const acknowledgements = steps.flatMap((step, i) => (step.kind === 'acknowledged' ? [i] : []));
  assert.equal(acknowledgements.length, 120);
  assert.ok(steps.filter(({ kind }) => kind === 'sync').length > 20, 'the trace has syncs');
  const first = acknowledgements[0] as number;

  let lost = 0;
  fc.assert(
    fc.property(
      fc.integer({ min: first, max: steps.length }),
      fc.integer(),
      fc.constantFrom(0, 0.2, 0.5, 0.8),
      (end, seed, luck) => {
        let state = seed >>> 0;
        const lucky = (): boolean => {
          state = (Math.imul(state, 1664525) + 1013904223) >>> 0; // any generator does: fast-check keeps the seed
          return state / 2 ** 32 < luck;
        };
        const left = join(folder, 'left');
        rmSync(left, { recursive: true, force: true });
        mkdirSync(left);
        for (const [name, bytes] of diskAfter(steps.slice(0, end), lucky)) {
          if (name !== 'writer' && name !== 'lock.mdb') writeFileSync(join(left, name), bytes);
        }
        // The boot id in the file is this machine's: LMDB_RESTORE tells lmdb that the power was gone.
        const output = execFileSync(process.execPath, [child, 'check', left, ...keys], {
          encoding: 'utf8',
          env: { ...process.env, LMDB_RESTORE: 'safe' },
        });
        const { findings, corrupt, numbers } = JSON.parse(output) as {
          findings: unknown[];
          corrupt: string[];
          numbers: number[];
        };
        assert.deepEqual([findings, corrupt], [[], []]);
        const there = new Set(numbers);
        const acknowledged = steps.slice(0, end).flatMap((step) => (step.kind === 'acknowledged' ? [step.number] : []));
        assert.deepEqual(
          acknowledged.filter((number) => !there.has(number)),
          [],
        );
        lost += 120 - there.size;
      },
    ),
    { numRuns: CRASHES },
  );
  assert.ok(lost > 0, 'some unacknowledged records were lost, so the simulation takes something away');
});
