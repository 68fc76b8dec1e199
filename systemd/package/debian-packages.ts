// What each Debian package is made of. Invariant: every file of /usr/lib/mortise is in one package.
import type { Part } from './programs.ts';

export interface DebianPackage {
  readonly name: `mortise-${Part | 'runtime'}`;
  readonly part: Part | 'runtime';
  readonly summary: string;
  /** Lines of the long description. */
  readonly description: readonly string[];
  readonly depends: readonly string[];
  readonly recommends?: readonly string[];
  /** Paths below /usr/lib/mortise, files or folders. */
  readonly programs: readonly string[];
  /** Links, by where they are. */
  readonly links?: Readonly<Record<string, string>>;
  /** Files of systemd/, by where they go. */
  readonly files?: Readonly<Record<string, string>>;
  readonly folders?: readonly string[];
  readonly manual?: string;
  /** Units that a removal stops and an upgrade starts anew. */
  readonly service?: string;
  readonly units?: readonly string[];
}

const SYSUSERS = 'systemd | systemd-standalone-sysusers';
const SAME = 'mortise-runtime (= @version@)';

const serviceFiles = (name: string): Readonly<Record<string, string>> => ({
  [`${name}.service`]: `/usr/lib/systemd/system/${name}.service`,
  [`${name}.sysusers`]: `/usr/lib/sysusers.d/${name}.conf`,
  [`${name}.tmpfiles`]: `/usr/lib/tmpfiles.d/${name}.conf`,
});

export const DEBIAN_PACKAGES: readonly DebianPackage[] = [
  {
    name: 'mortise-runtime',
    part: 'runtime',
    summary: 'Node and native libraries that Mortise runs on',
    description: [
      'The version of Node that Mortise is tested with, for its own programs alone,',
      'and what they load.',
    ],
    depends: ['libc6 (>= @glibc@)', 'libgcc-s1', 'libstdc++6'],
    programs: [
      ...['bin', 'proto', 'package.json', 'descriptors.binpb', 'registry-descriptors.binpb'],
      'node_modules', // without what another package takes
    ],
  },
  {
    name: 'mortise-agent',
    part: 'agent',
    summary: 'crypto agent for one host, over a PKCS#11 token',
    description: [
      'Holds the sessions of a PKCS#11 token and a signed policy, and does encryption,',
      'signatures, MACs and key lifecycle for the applications of its host, over a',
      'gRPC Unix socket, with a tamper-evident log.',
    ],
    depends: [SAME, 'libc6 (>= @glibc@)', SYSUSERS],
    recommends: ['mortise-cli (= @version@)'],
    programs: ['agent', 'node_modules/pkcs11js'],
    links: { '/usr/sbin/mortise-agent': '../lib/mortise/agent/main.js' },
    files: {
      ...serviceFiles('mortise-agent'),
      'mortise-agent.socket': '/usr/lib/systemd/system/mortise-agent.socket',
      'agent.env': '/etc/mortise/agent.env',
      'examples/encrypted-pin.conf': '/usr/share/doc/mortise-agent/examples/encrypted-pin.conf',
      'examples/network.conf': '/usr/share/doc/mortise-agent/examples/network.conf',
      'examples/softhsm.conf': '/usr/share/doc/mortise-agent/examples/softhsm.conf',
    },
    folders: ['/etc/mortise/policy'],
    manual: 'man8/mortise-agent.8',
    service: 'mortise-agent',
    units: ['mortise-agent.socket', 'mortise-agent.service'],
  },
  {
    name: 'mortise-registry',
    part: 'registry',
    summary: 'registry of many Mortise agents',
    description: [
      'Hands out signed policies, keeps the catalogue of keys that hosts share, and',
      'takes in their logs.',
    ],
    depends: [SAME, SYSUSERS],
    recommends: ['mortise-cli (= @version@)'],
    programs: ['registry'],
    links: { '/usr/sbin/mortise-registry': '../lib/mortise/registry/main.js' },
    files: { ...serviceFiles('mortise-registry'), 'registry.env': '/etc/mortise/registry.env' },
    manual: 'man8/mortise-registry.8',
    service: 'mortise-registry',
    units: ['mortise-registry.service'],
  },
  {
    name: 'mortise-cli',
    part: 'cli',
    summary: 'command line of Mortise',
    description: ['Makes and uses keys, reads the log, and administers agents and their registry.'],
    depends: [SAME],
    programs: ['cli'],
    links: { '/usr/bin/mortise': '../lib/mortise/cli/main.js' },
    manual: 'man1/mortise.1',
  },
];

/** Paths that a package leaves to another one. */
export const leftOut = ({ name }: DebianPackage): readonly string[] =>
  name === 'mortise-runtime' ? ['node_modules/pkcs11js'] : [];
