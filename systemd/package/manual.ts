// Manual pages: what the programs say of themselves, and the tables of variables from the documents, as roff.
import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Staged } from './stage.ts';

const DOCS = join(import.meta.dirname, '../../docs');

const roffText = (text: string): string =>
  text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^(['.])/gm, '\\&$1');
/** Text as it stands, of fixed width. */
const verbatim = (text: string): string => `.nf\n${roffText(text.trimEnd())}\n.fi\n`;

const helpOf = ({ folder }: Staged, program: string, args: readonly string[]): string =>
  String(execFileSync(join(folder, 'bin/node'), [join(folder, program), ...args, '--help'], { env: {} }));

/** The first table of variables in a document, as a list. */
const variables = async (document: string): Promise<string> => {
  const text = await readFile(join(DOCS, document), 'utf8');
  const rows = [...text.matchAll(/^\| `([A-Z0-9_]+)` \| (.*?) \| (.*) \|$/gm)];
  if (rows.length === 0) throw new Error(`${document} has no table of variables`);
  const plain = (cell = ''): string => roffText(cell.replaceAll(/[`*]/g, '').replaceAll('&lt;', '<'));
  return rows
    .map(([, name, value, meaning]) => `.TP\n.B ${name}\n${plain(meaning)} Default: ${plain(value)}.\n`)
    .join('');
};

interface Page {
  readonly name: string;
  readonly section: 1 | 8;
  readonly what: string;
  readonly sections: Readonly<Record<string, string>>;
}

const roff = ({ name, section, what, sections }: Page, date: string, version: string): string =>
  [
    `.TH ${name.toUpperCase()} ${section} ${date} "Mortise ${version}" "Mortise"\n`,
    `.SH NAME\n${roffText(name)} \\- ${roffText(what)}\n`,
    ...Object.entries(sections).map(([title, body]) => `.SH ${title.toUpperCase()}\n${body}`),
  ].join('');

const serverPage = async (
  staged: Staged,
  { name, program, what, document }: { name: string; program: string; what: string; document: string },
): Promise<Page> => {
  const help = helpOf(staged, program, []).replaceAll(/(?<=^usage: |^ {7})(?:agent|registry)/gm, name);
  return {
    name,
    section: 8,
    what,
    sections: {
      synopsis: verbatim(help),
      configuration: `In /etc/mortise/${name.slice('mortise-'.length)}.env, one NAME=VALUE a line.\n${await variables(document)}`,
      files: `.TP\n.I /usr/lib/systemd/system/${name}.service\nThe unit. Changes go into drop\\-ins.\n`,
    },
  };
};

const cliPage = (staged: Staged): Page => {
  const help = helpOf(staged, 'cli/main.js', []);
  const commands = [...(help.split(/^Commands:$/m)[1] ?? '').matchAll(/^ {2}([a-z][a-z-]*)/gm)].map(
    (match) => match[1] ?? '',
  );
  if (commands.length < 5) throw new Error('the commands are not in the help text');
  const parts = commands
    .filter((command) => command !== 'help')
    .map((command) => {
      return `.SS ${roffText(command)}\n${verbatim(helpOf(staged, 'cli/main.js', [command]))}`;
    });
  return {
    name: 'mortise',
    section: 1,
    what: 'the command line of the Mortise crypto agent and its registry',
    sections: { synopsis: verbatim(help), commands: parts.join('') },
  };
};

/** All pages, by the path below /usr/share/man. */
export const manualPages = async (staged: Staged, seconds: number): Promise<Readonly<Record<string, string>>> => {
  const pages = [
    await serverPage(staged, {
      name: 'mortise-agent',
      program: 'agent/main.js',
      what: 'a crypto agent for one host',
      document: 'configuration.md',
    }),
    await serverPage(staged, {
      name: 'mortise-registry',
      program: 'registry/main.js',
      what: 'policies, shared keys and logs of many agents',
      document: 'registry.md',
    }),
    cliPage(staged),
  ];
  const date = new Date(seconds * 1000).toISOString().slice(0, 10);
  return Object.fromEntries(
    pages.map((page) => [`man${page.section}/${page.name}.${page.section}`, roff(page, date, staged.version)]),
  );
};
