// Which secrets there are and where they come from.

/** `plain` is the name that is refused in the environment; `credential` the name of the systemd credential. */
export const SECRETS = {
  pin: { plain: 'PKCS11_PIN', variable: 'PKCS11_PIN_FILE', credential: 'pkcs11-pin' },
} as const;
