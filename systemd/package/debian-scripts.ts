// The maintainer scripts. Invariant: no service is started that was not running: what is not configured cannot serve. Data
// is never removed: keys and logs outlive the programs.
import type { DebianPackage } from './debian-packages.ts';

const RUNNING = '[ -d /run/systemd/system ]';

const postinst = (service: string): string => `#!/bin/sh
set -e
if [ "$1" = configure ]; then
  systemd-sysusers ${service}.conf
  if ${RUNNING}; then
    systemd-tmpfiles --create ${service}.conf || true
    systemctl daemon-reload
    # An upgrade: with a socket that systemd holds, callers wait and are not refused.
    [ -z "$2" ] || systemctl try-restart ${service}.service
  fi
fi
`;

const prerm = (units: readonly string[]): string => `#!/bin/sh
set -e
if [ "$1" = remove ] && ${RUNNING}; then
  systemctl --quiet disable --now ${units.join(' ')}
fi
`;

const postrm = (service: string): string => `#!/bin/sh
set -e
if ${RUNNING}; then
  systemctl daemon-reload
fi
if [ "$1" = purge ]; then
  echo "/var/lib/${service === 'mortise-agent' ? 'mortise' : service} is left as it is: it holds keys and logs." >&2
fi
`;

export const maintainerScripts = ({ service, units }: DebianPackage): Readonly<Record<string, string>> =>
  service === undefined || units === undefined
    ? {}
    : { postinst: postinst(service), prerm: prerm(units), postrm: postrm(service) };
