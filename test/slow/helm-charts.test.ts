// Every chart, in every combination of values of note: manifests that Kubernetes takes, that our programs take, and that
// keep the promises of docs/kubernetes.md. Needs Debian's Go and sprig (`npm run test:helm` installs them).
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { Ajv } from 'ajv';
import { loadConfig } from '../../agent/config/config.ts';
import { loadConfig as loadRegistryConfig } from '../../registry/config/config.ts';
import { CASES, REFUSED } from '../helm/cases.ts';
import { unknownFields, validate } from '../helm/judge.ts';
import { type Container, containersOf, environmentOf, podOf, volumesOf } from '../helm/pods.ts';
import { CHARTS, installSchemas, type Manifest, openRenderer, type Renderer } from '../helm/render.ts';

let renderer: Renderer;
let schemas: string;
const rendered = new Map<string, readonly Manifest[]>();

before(async () => {
  renderer = openRenderer();
  schemas = installSchemas();
  for (const { title, chart, values } of CASES)
    rendered.set(`${chart}: ${title}`, await renderer.render(chart, values));
});

const schemaOf = (chart: string) => JSON.parse(readFileSync(join(CHARTS, chart, 'values.schema.json'), 'utf8'));

describe('values', () => {
  const ajv = new Ajv({ allErrors: true, strictTypes: false });
  const judges = new Map(
    ['mortise-registry', 'mortise-agent', 'mortise-sidecar'].map((chart) => [chart, ajv.compile(schemaOf(chart))]),
  );
  const judged = (chart: string, values: object) => {
    const key = chart === 'example-application' ? 'mortise-sidecar' : chart;
    const judge = judges.get(key);
    const given = key === chart ? values : ((values as Record<string, object>)[key] ?? {});
    return { ok: judge?.(given), errors: judge?.errors };
  };

  test('the combinations are ones that the schemas take', () => {
    for (const { chart, values, title } of CASES) {
      const found = { image: {}, store: { kind: 'embedded' }, ...values };
      const { ok, errors } = judged(chart, chart === 'mortise-registry' ? found : values);
      assert.ok(ok, `${chart}: ${title}: ${JSON.stringify(errors)}`);
    }
  });

  test('the schemas refuse what is misspelt, out of range, or a secret in the open', () => {
    const image = { repository: 'r' };
    const wrong: readonly [string, object][] = [
      ['mortise-registry', { image, store: { kind: 'mysql' } }],
      ['mortise-registry', { image, store: { kind: 'embedded' }, replica: 2 }],
      ['mortise-registry', { image, store: { kind: 'embedded' }, replicas: 0 }],
      ['mortise-registry', { image, store: { kind: 'postgresql' }, authority: { secret: '' } }],
      ['mortise-registry', { image, store: { kind: 'embedded' }, environment: { REGISTRY_DATABASE_URL: 'x' } }],
      ['mortise-agent', { image, token: { label: 'x'.repeat(33) } }],
      ['mortise-agent', { image, token: { pin: { secret: 'Upper' } } }],
      ['mortise-agent', { image, environment: { PKCS11_PIN: '1234' } }],
      ['mortise-agent', { image, environment: { PATH: '/bin' } }],
      ['mortise-agent', { image, kms: { peers: ['root'] } }],
      ['mortise-agent', { image: { ...image, digest: 'latest' } }],
      ['mortise-agent', { image, user: { id: 0, group: 0 } }],
      ['mortise-sidecar', { image, jwt: { expirationSeconds: 60 } }],
      ['mortise-sidecar', { image, registry: { url: 'http://registry:7443' } }],
      ['mortise-sidecar', { image, hostId: { fieldPath: 'status.podIP' } }],
    ];
    for (const [chart, values] of wrong) assert.equal(judged(chart, values).ok, false, JSON.stringify(values));
  });

  test('the defaults are ones that the schemas take', () => {
    for (const chart of judges.keys()) {
      const [values] = renderer.parse(join(CHARTS, chart, 'values.yaml'));
      const { ok, errors } = judged(chart, values as object);
      assert.ok(ok, `${chart}: ${JSON.stringify(errors)}`);
    }
  });
});

const everyManifest = function* (): Generator<[string, Manifest]> {
  for (const [title, manifests] of rendered) for (const manifest of manifests) yield [title, manifest];
  for (const manifest of renderer.parse(join(CHARTS, 'kms-static-pod.yaml')))
    yield ['static pod', manifest as Manifest];
};

describe('manifests', () => {
  test('every value is of the kind that the OpenAPI schema of Kubernetes says, and none that is required is missing', async () => {
    let seen = 0;
    for (const [title, manifest] of everyManifest()) {
      await validate(schemas, manifest).catch((error: Error) =>
        assert.fail(`${title}, ${manifest.kind}: ${error.message}`),
      );
      seen += 1;
    }
    assert.ok(seen > 40, `saw only ${seen} manifests`);
    const port = { apiVersion: 'v1', kind: 'Service', metadata: { name: 'x' }, spec: { ports: [{ port: 'http' }] } };
    await assert.rejects(validate(schemas, port), /port/, 'the judge can tell');
  });

  test('no field is unknown to Kubernetes', () => {
    const all = [...everyManifest()].map(([, manifest]) => manifest);
    assert.equal(unknownFields(schemas, all), '');
    const wrong = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'x' }, automount: true };
    assert.match(unknownFields(schemas, [wrong]), /automount/, 'the judge can tell');
  });

  test('what a pod mounts is among its volumes, what is there is mounted, and names are there once', () => {
    for (const [title, manifest] of everyManifest()) {
      const pod = podOf(manifest);
      if (pod === undefined) continue;
      const volumes = volumesOf(manifest, pod);
      assert.equal(new Set(volumes).size, volumes.length, `${title}: ${volumes}`);
      const mounted = new Set<string>();
      for (const { name, volumeMounts = [], env = [] } of containersOf(pod)) {
        for (const mount of volumeMounts) {
          assert.ok(volumes.includes(mount.name), `${title}: ${name} mounts ${mount.name}`);
          mounted.add(mount.name);
        }
        const paths = volumeMounts.map(({ mountPath }) => mountPath);
        assert.equal(new Set(paths).size, paths.length, `${title}: ${name} mounts ${paths}`);
        const names = env.map((row) => row.name);
        assert.equal(new Set(names).size, names.length, `${title}: ${name} has ${names}`);
      }
      assert.deepEqual(
        volumes.filter((name) => !mounted.has(name)),
        [],
        `${title}: unused volumes`,
      );
    }
  });

  test('selectors find the pods that they are for', () => {
    for (const [title, manifest] of everyManifest()) {
      const { kind, spec } = manifest as Manifest & { spec: Record<string, unknown> };
      const selector =
        kind === 'Service'
          ? spec['selector']
          : ((spec?.['selector'] ?? spec?.['podSelector']) as { matchLabels?: object } | undefined)?.matchLabels;
      if (selector === undefined || kind === 'ServiceMonitor' || title === 'static pod') continue;
      const found = (rendered.get(title) ?? []).filter((row) => {
        const labels = (row['spec'] as { template?: { metadata?: { labels?: Record<string, string> } } })?.template
          ?.metadata?.labels;
        return (
          labels !== undefined && Object.entries(selector as object).every(([name, value]) => labels[name] === value)
        );
      });
      assert.equal(found.length, 1, `${title}: ${kind} selects ${found.map((row) => row.kind)}`);
    }
  });
});

describe('promises', () => {
  test('no container is root, may gain privileges, writes its root filesystem or is without seccomp; one prepares folders of the node', () => {
    const roots: string[] = [];
    for (const [title, manifest] of everyManifest()) {
      const pod = podOf(manifest);
      if (pod === undefined) continue;
      assert.equal(pod.automountServiceAccountToken ?? title === 'static pod', title === 'static pod', title);
      for (const { name, securityContext: own = {} } of containersOf(pod)) {
        const where = `${title}: ${name}`;
        const context: Container['securityContext'] & {} = { ...pod.securityContext, ...own };
        assert.equal(own.allowPrivilegeEscalation, false, where);
        assert.equal(own.readOnlyRootFilesystem, true, where);
        assert.deepEqual(own.capabilities?.drop, ['ALL'], where);
        assert.equal(context.seccompProfile?.type, 'RuntimeDefault', where);
        if (context.runAsNonRoot === true && context.runAsUser !== 0) continue;
        roots.push(name);
        assert.deepEqual(own.capabilities?.add, ['CHOWN', 'FOWNER'], where);
      }
    }
    assert.deepEqual([...new Set(roots)], ['prepare']);
  });

  test('the environment of each container is a configuration that the program takes, secrets from files alone', () => {
    let seen = 0;
    for (const [title, manifest] of everyManifest()) {
      const pod = podOf(manifest);
      for (const container of pod === undefined ? [] : containersOf(pod)) {
        const env = environmentOf(container);
        const names = Object.keys(env);
        const isAgent = names.includes('MORTISE_DATA_DIR');
        if (!isAgent && !names.includes('REGISTRY_REPLICA')) continue;
        seen += 1;
        const { warnings } = isAgent ? loadConfig(env) : loadRegistryConfig(env);
        const unexpected = warnings.filter((warning) => !/_METRICS_ADDRESS is not a loopback address/.test(warning));
        assert.deepEqual(unexpected, [], `${title}: ${container.name}`);
      }
    }
    assert.ok(seen > 15, `saw only ${seen} programs`);
  });

  test('a sidecar is a native one: after what it needs, before the application, which waits for its readiness', () => {
    for (const [title, manifests] of rendered) {
      if (!title.startsWith('example-application')) continue;
      const pod = manifests.map(podOf).find((row) => row !== undefined);
      const order = pod?.initContainers?.map(({ name, restartPolicy }) => [name, restartPolicy]) ?? [];
      assert.deepEqual(order.at(-1), ['mortise', 'Always'], title);
      assert.ok(
        order.slice(0, -1).every(([, policy]) => policy === undefined),
        title,
      );
      assert.equal(pod?.initContainers?.at(-1)?.startupProbe?.httpGet?.path, '/readyz');
      assert.deepEqual(
        pod?.containers.map(({ name }) => name),
        ['application'],
      );
    }
  });

  test("the socket is in memory and of the group that all containers are in; the application sees its folder alone, and can't write it", () => {
    for (const [title, manifests] of rendered) {
      if (!title.startsWith('example-application')) continue;
      const pod = manifests.map(podOf).find((row) => row !== undefined);
      const agent = pod?.initContainers?.at(-1);
      const application = pod?.containers[0];
      assert.ok(pod && agent && application);
      const socket = pod.volumes.find(({ name }) => name === 'mortise-socket');
      assert.deepEqual(socket?.['emptyDir'], { medium: 'Memory', sizeLimit: '1Mi' });
      assert.equal(environmentOf(agent)['MORTISE_SOCKET_GROUP'], String(pod.securityContext?.fsGroup), title);
      const mount = application.volumeMounts?.find(({ name }) => name === 'mortise-socket');
      assert.deepEqual(mount, { name: 'mortise-socket', mountPath: '/run/mortise', subPath: 'socket', readOnly: true });
      assert.equal(environmentOf(application)['MORTISE_SOCKET'], '/run/mortise/agent.sock');
      assert.equal(environmentOf(agent)['MORTISE_SOCKET_PATH'], '/run/mortise/socket/agent.sock');
      assert.ok(application.volumeMounts?.every(({ name }) => ['mortise-socket', 'mortise-jwt'].includes(name)));
    }
  });

  test("the application's JWT is a projected service-account token of the audience and lifetime of the values", () => {
    for (const [title, audience, expirationSeconds] of [
      ['a sidecar with policy from a ConfigMap', 'mortise', 3600],
      ['sidecars at a registry, each enrolled', 'https://mortise.example.com', 600],
    ] as const) {
      const pod = rendered
        .get(`example-application: ${title}`)
        ?.map(podOf)
        .find((row) => row !== undefined);
      const volume = pod?.volumes.find(({ name }) => name === 'mortise-jwt') as
        | { projected?: { sources: unknown } }
        | undefined;
      assert.deepEqual(volume?.projected?.sources, [
        { serviceAccountToken: { path: 'token', audience, expirationSeconds } },
      ]);
    }
  });

  test('the default tag of the image is the version of the chart', () => {
    for (const chart of ['mortise-registry', 'mortise-agent', 'mortise-sidecar']) {
      const [{ appVersion, version }] = renderer.parse(join(CHARTS, chart, 'Chart.yaml')) as [Record<string, string>];
      const { version: project } = JSON.parse(readFileSync(join(CHARTS, '../package.json'), 'utf8'));
      assert.deepEqual([appVersion, version], [project, project], chart);
    }
    for (const [title, manifest] of everyManifest()) {
      for (const { image } of containersOf(podOf(manifest) ?? { containers: [], volumes: [] })) {
        if (!image.startsWith('registry.example.com/mortise:')) continue;
        assert.match(image, /:(0\.1\.0|1\.2\.3)$/, title);
      }
    }
  });
});

describe('values that cannot work are refused in words', () => {
  for (const { title, chart, values, said } of REFUSED) {
    test(`${chart}: ${title}`, async () => {
      await assert.rejects(renderer.render(chart, values), said);
    });
  }
});
