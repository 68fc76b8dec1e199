// The inventory as a table, and as one JSON document that is written while it is read.

import { certificateText } from '../commands/status.ts';
import { cellText, jsonText } from '../output.ts';
import type { TokenEntry } from './certificates.ts';
import { addTo, emptySummary, type KeyEntry, type Summary, type VersionEntry } from './entries.ts';

const HEAD = ['KEY', 'VERSION', 'STATE', 'ALGORITHM', 'CUSTODY', 'USES', 'LAST USE', 'QUANTUM RISK', 'SUNSET'] as const;
const WIDTHS = [28, 7, 10, 20, 7, 9, 20, 12, 0] as const;

/** Fixed columns, since the rows to come are not known; a longer value keeps its length. */
const line = (cells: readonly string[]): string =>
  `${cells
    .map((cell, column) => cell.padEnd(WIDTHS[column] ?? 0))
    .join('  ')
    .trimEnd()}\n`;

/** The state that counts: of the key where it is not in use, else of the version. */
export const stateOf = (key: KeyEntry, version: VersionEntry): string =>
  key.state === 'ACTIVE' || version.state === 'DESTROYED' ? version.state : key.state;

const day = (time: Date): string => time.toISOString().slice(0, 10);

const sunsetText = ({ sunsetWarnTime, sunsetTime }: VersionEntry, now: Date): string => {
  if (sunsetTime === undefined) return '-';
  if (now >= sunsetTime) return `ended ${day(sunsetTime)}`;
  return sunsetWarnTime !== undefined && now >= sunsetWarnTime ? `warns, ends ${day(sunsetTime)}` : day(sunsetTime);
};

const second = (time: Date | undefined): string => cellText(time && new Date(Math.floor(time.getTime() / 1000) * 1000));

const rowOf = (key: KeyEntry, version: VersionEntry, now: Date): string =>
  line([
    cellText(key.keyId),
    String(version.version),
    stateOf(key, version),
    cellText(version.algorithm),
    version.custody,
    String(version.uses),
    second(version.lastUseTime),
    version.quantumRisk,
    sunsetText(version, now),
  ]);

const summaryText = ({ keys, versions, risks, pastSunset }: Summary): string => {
  const of = (name: string): number => risks[name] ?? 0;
  return [
    `\n${keys} keys, ${versions} versions`,
    `can be read later by a quantum computer (harvest-now): ${of('harvest-now')} versions`,
    `can be forged by one (forge-later): ${of('forge-later')} versions`,
    `past their sunset: ${pastSunset} versions`,
    '',
  ].join('\n');
};

const tokenText = ({ name, label, certificate }: TokenEntry): string => {
  const said = certificate === undefined ? 'no certificate was stated' : certificateText(certificate);
  return `token ${cellText(name)} (${cellText(label)}): ${said}\n`;
};

export async function* tableOf(
  keys: AsyncIterable<KeyEntry>,
  { now, tokens = [] }: { readonly now: Date; readonly tokens?: readonly TokenEntry[] },
): AsyncGenerator<string> {
  const summary = emptySummary();
  yield line(HEAD);
  for await (const key of keys) {
    addTo(summary, key, now);
    yield key.versions.map((version) => rowOf(key, version, now)).join('');
  }
  yield summaryText(summary);
  for (const token of tokens) yield tokenText(token);
}

export async function* jsonOf(
  keys: AsyncIterable<KeyEntry>,
  { now, tokens = [] }: { readonly now: Date; readonly tokens?: readonly TokenEntry[] },
): AsyncGenerator<string> {
  const summary = emptySummary();
  yield `{\n"time": ${JSON.stringify(now)},\n"keys": [`;
  for await (const key of keys) {
    yield `${summary.keys === 0 ? '' : ','}\n${jsonText(key).trimEnd()}`;
    addTo(summary, key, now);
  }
  yield `\n],\n"tokens": ${jsonText(tokens).trimEnd()},\n"summary": ${jsonText(summary).trimEnd()}\n}\n`;
}
