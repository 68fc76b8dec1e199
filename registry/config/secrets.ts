// Which secrets there are and where they come from.

/** `plain` is the name that is refused in the environment; `credential` the name of the systemd credential. */
export const SECRETS = {
  databaseUrl: {
    plain: 'REGISTRY_DATABASE_URL',
    variable: 'REGISTRY_DATABASE_URL_FILE',
    credential: 'database-url',
  },
  tlsKey: { plain: 'REGISTRY_TLS_KEY', variable: 'REGISTRY_TLS_KEY_FILE', credential: 'registry-tls-key' },
} as const;

export type SecretName = keyof typeof SECRETS;
