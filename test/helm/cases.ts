// The combinations of values that are worth a rendering, by chart; and those that must be refused, with what is said.

export interface Case {
  readonly title: string;
  readonly chart: 'mortise-registry' | 'mortise-agent' | 'example-application';
  readonly values: object;
}

export interface RefusedCase extends Case {
  /** In what the templates say; schema problems are the schema's to tell. */
  readonly said: RegExp;
}

const image = { repository: 'registry.example.com/mortise' };
const digest = `sha256:${'0'.repeat(64)}`;
const pin = { secret: 'hsm-pin' };
const softhsm = {
  library: '/usr/lib/softhsm/libsofthsm2.so',
  label: 'mortise',
  pin,
  configuration: { configMap: 'softhsm' },
  environment: { SOFTHSM2_CONF: '/etc/pkcs11/softhsm2.conf' },
  volumes: [
    { name: 'softhsm', source: { persistentVolumeClaim: { claimName: 'softhsm' } }, mountPath: '/var/lib/softhsm' },
  ],
};
const network = {
  library: '/opt/pkcs11/libvendor.so',
  label: 'partition-1',
  pin: { secret: 'hsm-pin', key: 'user.pin' },
  libraryVolume: { source: { hostPath: { path: '/opt/vendor', type: 'Directory' } } },
  configuration: { secret: 'vendor-configuration', mountPath: '/etc/vendor' },
};
const policy = { configMap: 'policy', tenants: ['acme', 'globex'] };
const registry = { url: 'https://r-1.example.com:7443,https://r-2.example.com:7443' };
const peer = { namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'monitoring' } } };
const egress = [{ to: [{ ipBlock: { cidr: '10.0.0.0/24' } }], ports: [{ port: 5432, protocol: 'TCP' }] }];
const placed = {
  nodeSelector: { pool: 'crypto' },
  tolerations: [{ key: 'dedicated', operator: 'Exists', effect: 'NoSchedule' }],
  affinity: {
    nodeAffinity: {
      requiredDuringSchedulingIgnoredDuringExecution: {
        nodeSelectorTerms: [{ matchExpressions: [{ key: 'hsm', operator: 'Exists' }] }],
      },
    },
  },
  podAnnotations: { 'example.com/owner': 'crypto' },
};

const embedded = {
  image,
  authority: { init: { trustDomain: 'crypto.example.com', trustAnchor: { configMap: 'trust-anchor' } } },
};
const postgresql = {
  image: { ...image, digest, pullSecrets: ['pull'] },
  store: {
    kind: 'postgresql',
    postgresql: {
      urlSecret: { name: 'database' },
      migrate: { ownerUrlSecret: { name: 'database-owner', key: 'owner-url' }, runtimeRole: 'mortise' },
    },
  },
  authority: { secret: 'authority' },
};

const registryCases: readonly Case[] = [
  { title: 'embedded store, made at the first start', chart: 'mortise-registry', values: embedded },
  {
    title: 'embedded store with an authority brought along',
    chart: 'mortise-registry',
    values: {
      image,
      authority: { secret: 'authority' },
      store: { kind: 'embedded', embedded: { storageClass: 'fast', size: '100Gi' } },
    },
  },
  { title: 'PostgreSQL', chart: 'mortise-registry', values: postgresql },
  {
    title: 'PostgreSQL with everything on',
    chart: 'mortise-registry',
    values: {
      ...postgresql,
      ...placed,
      replicas: 3,
      names: ['registry.example.com', '192.0.2.1'],
      tls: { secret: 'registry-tls' },
      clientRoots: { configMap: 'client-roots' },
      requireHybrid: true,
      environment: { REGISTRY_LOG_LEVEL: 'debug', REGISTRY_HEARTBEAT_SECONDS: 5 },
      service: { type: 'LoadBalancer', annotations: { 'example.com/internal': 'true' } },
      metrics: { serviceMonitor: { enabled: true, labels: { release: 'prometheus' } } },
      networkPolicy: { clients: [peer], metricsClients: [peer], egress },
      topologySpreadConstraints: [
        { maxSkew: 1, topologyKey: 'kubernetes.io/hostname', whenUnsatisfiable: 'ScheduleAnyway' },
      ],
      priorityClassName: 'high',
      serviceAccount: { annotations: { 'example.com/role': 'registry' } },
    },
  },
  {
    title: 'PostgreSQL, one replica, no migration, no network policy, an account of its own',
    chart: 'mortise-registry',
    values: {
      ...postgresql,
      replicas: 1,
      store: { kind: 'postgresql', postgresql: { urlSecret: { name: 'database' }, migrate: { enabled: false } } },
      networkPolicy: { enabled: false },
      serviceAccount: { name: 'other' },
    },
  },
];

const agentCases: readonly Case[] = [
  { title: 'policy from a ConfigMap', chart: 'mortise-agent', values: { image, token: softhsm, policy } },
  {
    title: 'a registry, nodes enrolled by token, a network HSM',
    chart: 'mortise-agent',
    values: {
      image,
      ...placed,
      token: network,
      registry: { ...registry, enrolmentTokens: { secret: 'enrolment-tokens' } },
      environment: { MORTISE_LOG_LEVEL: 'debug', PKCS11_SESSION_POOL_SIZE: 4 },
      metrics: { serviceMonitor: { enabled: true } },
      networkPolicy: { metricsClients: [peer], egress },
      podDisruptionBudget: { minAvailable: 2 },
    },
  },
  {
    title: "folders of the node's own making, without network policy",
    chart: 'mortise-agent',
    values: {
      image: { ...image, tag: '1.2.3', pullSecrets: ['pull'] },
      token: softhsm,
      registry,
      host: { prepare: false, socketFolder: '/run/crypto', dataFolder: '/srv/mortise' },
      networkPolicy: { enabled: false },
      serviceAccount: { name: 'other' },
    },
  },
  {
    title: 'the plugin of the API server',
    chart: 'mortise-agent',
    values: {
      image,
      token: network,
      policy: { configMap: 'policy' },
      kms: { enabled: true, tenant: 'kubernetes', key: 'etcd', peers: ['uid:0', 'gid:998'] },
      nodeSelector: { 'node-role.kubernetes.io/control-plane': '' },
      tolerations: [{ operator: 'Exists' }],
    },
  },
];

export const SIDECAR = { image, token: softhsm, policy };

const sidecarCases: readonly Case[] = [
  {
    title: 'a sidecar with policy from a ConfigMap',
    chart: 'example-application',
    values: { image: 'app:1', 'mortise-sidecar': SIDECAR },
  },
  {
    title: 'sidecars at a registry, each enrolled',
    chart: 'example-application',
    values: {
      image: 'app:1',
      replicas: 3,
      command: ['/app', '--serve'],
      'mortise-sidecar': {
        image: { ...image, digest },
        token: network,
        registry: { ...registry, enrolmentTokens: { secret: 'enrolment-tokens' } },
        jwt: { audience: 'https://mortise.example.com', expirationSeconds: 600 },
        metrics: { port: 19464 },
        socketGroup: 4000,
      },
    },
  },
  {
    title: 'a sidecar with a volume and a host id of its own',
    chart: 'example-application',
    values: {
      image: 'app:1',
      'mortise-sidecar': {
        ...SIDECAR,
        data: { source: { hostPath: { path: '/srv/app', type: 'Directory' } } },
        hostId: { value: 'app-on-server-1' },
      },
    },
  },
];

export const CASES: readonly Case[] = [...registryCases, ...agentCases, ...sidecarCases];

export const REFUSED: readonly RefusedCase[] = [
  { title: 'no image', chart: 'mortise-registry', values: {}, said: /image\.repository/ },
  { title: 'no trust domain', chart: 'mortise-registry', values: { image }, said: /authority\.init\.trustDomain/ },
  {
    title: 'replicas without a common authority',
    chart: 'mortise-registry',
    values: { ...postgresql, authority: {} },
    said: /authority/,
  },
  {
    title: 'PostgreSQL without its address',
    chart: 'mortise-registry',
    values: { ...postgresql, store: { kind: 'postgresql', postgresql: { migrate: { enabled: false } } } },
    said: /urlSecret\.name/,
  },
  { title: 'no module', chart: 'mortise-agent', values: { image, policy }, said: /token\.library/ },
  {
    title: 'no PIN',
    chart: 'mortise-agent',
    values: { image, policy, token: { ...softhsm, pin: {} } },
    said: /token\.pin\.secret/,
  },
  {
    title: 'neither policy nor registry',
    chart: 'mortise-agent',
    values: { image, token: softhsm },
    said: /policy\.configMap/,
  },
  {
    title: 'a plugin without a key',
    chart: 'mortise-agent',
    values: { image, token: softhsm, policy, kms: { enabled: true, tenant: 'kubernetes' } },
    said: /kms\.key/,
  },
  {
    title: 'a sidecar whose data is nowhere',
    chart: 'example-application',
    values: { image: 'app:1', 'mortise-sidecar': { ...SIDECAR, data: { claimTemplate: { size: '' } } } },
    said: /data\.claimTemplate\.size/,
  },
];
