// npm run package [-- --out FOLDER] [-- --only programs|debian|image]…: makes a release in dist/.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { buildSeconds } from './build-time.ts';
import { buildDebianPackages } from './debian.ts';
import { buildImage } from './image.ts';
import { stage } from './stage.ts';

const KINDS = ['programs', 'debian', 'image'];

const { values } = parseArgs({
  options: {
    out: { type: 'string', default: join(import.meta.dirname, '../../dist') },
    only: { type: 'string', multiple: true, default: KINDS },
    epoch: { type: 'string' },
  },
});
const { out, only } = values;
const unknown = only.filter((kind) => !KINDS.includes(kind));
if (unknown.length > 0) throw new Error(`no such kind: ${unknown.join(', ')}; there are ${KINDS.join(', ')}`);
const seconds = buildSeconds(values.epoch);
const programs = join(out, 'mortise');
await rm(programs, { recursive: true, force: true });
const staged = await stage(programs);
console.log(`${programs}: Mortise ${staged.version}`);
if (only.includes('debian')) {
  for (const file of await buildDebianPackages(staged, seconds, out)) console.log(file);
}
if (only.includes('image')) {
  const image = join(out, 'image');
  await rm(image, { recursive: true, force: true });
  const { digest } = await buildImage(staged, seconds, image);
  console.log(`${image}: OCI layout, ${digest}`);
}
