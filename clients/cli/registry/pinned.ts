// mortise registry pinned: what this administrator pinned of the registry, for verification without it.
import { join } from 'node:path';
import type { Context } from '../context.ts';
import { CliError } from '../exit-codes.ts';
import { writeFileWhole } from '../files.ts';
import { factsText } from '../output.ts';
import { adminDirOf, readIdentity, type SessionOptions } from './session.ts';

/** Nothing is asked of the registry: it says what it wants, and this is what it said at the enrolment. */
export const showPinned = async (
  context: Context,
  options: SessionOptions & { readonly out?: string; readonly force: boolean },
): Promise<void> => {
  const { pinned, roots } = await readIdentity(adminDirOf(context, options));
  if (pinned === undefined) {
    throw new CliError('failure', 'these credentials are older and have no more than the roots; enrol again');
  }
  const { out, force } = options;
  const files = {
    'roots.pem': roots.join(''),
    'trust-anchor.json': pinned.trustAnchor,
    'sealing.jwk.json': `${pinned.sealingJwk}\n`,
    'cosigner.txt': `${pinned.cosigner}\n`,
  };
  if (out !== undefined) {
    for (const [name, text] of Object.entries(files))
      await writeFileWhole(join(out, name), text, { force, mode: 0o644 });
    context.note(`wrote ${Object.keys(files).join(', ')} to ${out}\n`);
  }
  await context.print({
    text: factsText([
      ['trust domain', pinned.trustDomain],
      ['cosigner', pinned.cosigner],
      ['sealing key', pinned.sealingJwk],
    ]),
    json: { ...pinned, roots, trustAnchor: JSON.parse(pinned.trustAnchor), sealingJwk: JSON.parse(pinned.sealingJwk) },
  });
};
