// Bundles each program into one file of JavaScript. Invariant: the bytes depend on the sources and the pinned esbuild alone.
// Native addons stay outside: they are loaded by path from the node_modules folder beside (runtime.ts).
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join, normalize, relative } from 'node:path';
import { build, type Plugin } from 'esbuild';
import { NODE, PROGRAMS, type Program, placeOf } from './programs.ts';

const ROOT = join(import.meta.dirname, '../..');
/** Loaded when a program runs: with native code, or (pg-native) tried for and not wanted. */
const OUTSIDE = ['lmdb', 'koffi', 'pkcs11js', 'pg-native'];

// The two forms in which a source file names another file by its own place.
const BY_URL = /new URL\('([^']+)', import\.meta\.url\)/g;
const BY_FOLDER = /join\(import\.meta\.dirname, ((?:'[^']+'(?:, )?)+)\)/g;

/** In a bundle the place is the bundle's, so such a name is written anew from there. */
const replace = (text: string, file: string, { output }: Program): string => {
  const fromBundle = (steps: string): string => {
    const source = normalize(join(dirname(file), steps));
    const place = placeOf(source);
    if (place === undefined) throw new Error(`${file} names ${source} by its place, and no package has it`);
    return relative(dirname(output), place);
  };
  const replaced = text
    .replace(BY_URL, (_, path: string) => `new URL('./${fromBundle(path)}', import.meta.url)`)
    .replace(BY_FOLDER, (_, steps: string) => {
      const path = [...steps.matchAll(/'([^']+)'/g)].map((match) => match[1]).join('/');
      return `join(import.meta.dirname, '${fromBundle(path)}')`;
    });
  const named = replaced.replace(BY_URL, '').replaceAll(/join\(import\.meta\.dirname, '[^']+'\)/g, '');
  if (/import\.meta\.(?:url|dirname|filename)/.test(named)) {
    throw new Error(`${file} uses its own place in a form that the bundler does not know`);
  }
  return replaced;
};

/** Packages that parse .proto files of their own when they are loaded. */
const PARSES_PROTO = /node_modules\/(?:grpc-health-check|@grpc\/reflection)\/build\/src\/.*\.js$/;

const places = (program: Program): Plugin => ({
  name: 'places',
  setup: ({ onLoad }) => {
    onLoad({ filter: /\.ts$/ }, async ({ path }) => ({
      contents: replace(await readFile(path, 'utf8'), relative(ROOT, path), program),
      loader: 'ts',
    }));
    onLoad({ filter: PARSES_PROTO }, async ({ path }) => {
      const contents = (await readFile(path, 'utf8'))
        .replaceAll(/`\$\{__dirname\}\/\.\.\/\.\.\/proto`/g, 'mortiseProto')
        .replaceAll(/\(__dirname, '\.\.\/\.\.\/proto\//g, "(mortiseProto, '");
      if (contents.includes('__dirname'))
        throw new Error(`${path} has __dirname in a form that the bundler does not know`);
      return { contents, loader: 'js' };
    });
  },
});

// CommonJS inside the bundle asks for built-in modules by `require`.
const REQUIRE = `import { createRequire as mortiseRequire } from 'node:module';
const require = mortiseRequire(import.meta.url);
const mortiseProto = import.meta.dirname + '/../proto';`;

/** The packages whose code is in a bundle, by name. */
export type Bundled = ReadonlySet<string>;

const bundleOne = async (program: Program, folder: string): Promise<Bundled> => {
  const { outputFiles, metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: [program.entry],
    outfile: join(folder, program.output),
    write: false,
    metafile: true,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    external: OUTSIDE,
    // Names stay, so that a stack trace in a log says where; comments and layout go.
    legalComments: 'none',
    banner: { js: REQUIRE },
    plugins: [places(program)],
    logLevel: 'warning',
  });
  const [file] = outputFiles;
  if (file === undefined) throw new Error(`${program.entry} gave no bundle`);
  const text = file.text.replace(/^#!.*\n/, '');
  const start = text === file.text ? '' : `#!${NODE}\n`;
  await mkdir(dirname(file.path), { recursive: true });
  await writeFile(file.path, start + text, { mode: start === '' ? 0o644 : 0o755 });
  const names = Object.keys(metafile.inputs).flatMap((path) => {
    const at = path.lastIndexOf('node_modules/');
    return at < 0 ? [] : [/^(?:@[^/]+\/)?[^/]+/.exec(path.slice(at + 'node_modules/'.length))?.[0] ?? path];
  });
  return new Set(names);
};

/** Writes every program below `folder`; the answer says which packages went into which part. */
export const bundlePrograms = async (folder: string): Promise<ReadonlyMap<Program['part'], Bundled>> => {
  const parts = new Map<Program['part'], Set<string>>();
  for (const program of PROGRAMS) {
    const part = parts.get(program.part) ?? new Set<string>();
    for (const name of await bundleOne(program, folder)) part.add(name);
    parts.set(program.part, part);
  }
  return parts;
};
