// From a one-time token to a certificate, and everything that is refused on the way. Real TLS.
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import { certificateRequest } from '../../proto/documents/certificate-request.ts';
import { AdminServiceService } from '../../proto/gen/mortise/registry/v1/admin.ts';
import { HostsServiceService } from '../../proto/gen/mortise/registry/v1/hosts.ts';
import { PoliciesServiceService } from '../../proto/gen/mortise/registry/v1/policies.ts';
import {
  type Certified,
  connectTo,
  duplex,
  enrolWith,
  newKey,
  refusedWith,
  unary,
} from '../support/registry-client.ts';
import { hostRequest, startTestRegistry, type TestRegistry } from '../support/registry-server.ts';

const createHost = async (registry: TestRegistry, host: string, change: object = {}): Promise<string> => {
  await unary(registry.adminClient, AdminServiceService.createTenant, { tenant: 'acme', displayName: '' });
  const request = hostRequest(host, ['acme'], change);
  const { token } = await unary(registry.adminClient, AdminServiceService.createHost, request);
  return token?.token ?? '';
};

const history = (registry: TestRegistry, who: Certified | undefined, tenant: string) =>
  unary(registry.connect(who), PoliciesServiceService.getPolicyHistory, { tenant, pageSize: 0, pageToken: '' });

test('a token and a signing request become a certificate with the SPIFFE id of the host', async (t) => {
  const registry = await startTestRegistry(t);
  const { response, chain } = await enrolWith(registry.port, {
    token: await createHost(registry, 'web-1'),
    roots: registry.roots,
  });
  assert.equal(response.kind, 'host');
  assert.equal(response.name, 'web-1');
  assert.deepEqual(response.tenants, ['acme']);
  const certificate = new X509Certificate(chain);
  assert.equal(certificate.subjectAltName, 'URI:spiffe://registry.test/mortise/host/web-1');
  assert.ok(certificate.verify(new X509Certificate(registry.roots[0] as string).publicKey));
  assert.deepEqual(certificate.keyUsage, ['1.3.6.1.5.5.7.3.2']);
  const { credentials } = response;
  assert.equal(credentials?.trustDomain, 'registry.test');
  assert.equal(JSON.parse(Buffer.from(credentials?.trustAnchor ?? '').toString()).schema, 'mortise.trust-anchor/v1');
  assert.match(credentials?.cosigner ?? '', /^registry\.test\/mortise\/registry\+[0-9a-f]{8}\+/);
  assert.ok((credentials?.renewTime?.getTime() ?? 0) < (credentials?.expireTime?.getTime() ?? 0));
});

test('a token works once, but again for the same key, so that a lost answer costs nothing', async (t) => {
  const registry = await startTestRegistry(t);
  const { port, roots } = registry;
  const token = await createHost(registry, 'web-1');
  const keys = newKey();
  const first = await enrolWith(port, { token, roots, keys });
  const second = await enrolWith(port, { token, roots, keys });
  await history(registry, first, 'acme');
  await history(registry, second, 'acme');
  await assert.rejects(enrolWith(port, { token, roots }), refusedWith('ENROLMENT_REFUSED'));
});

test('tokens that are unknown, altered, expired, replaced or of a revoked host are refused alike', async (t) => {
  const registry = await startTestRegistry(t);
  const { port, roots } = registry;
  const good = await createHost(registry, 'web-1');
  const [prefix, id, secret, hash] = good.split('.') as [string, string, string, string];
  const other = (await createHost(registry, 'web-2')).split('.')[2] as string;
  const replaced = await createHost(registry, 'web-3');
  await createHost(registry, 'web-3');
  const revoked = await createHost(registry, 'web-4');
  await unary(registry.adminClient, AdminServiceService.revokeHost, { host: 'web-4', reason: 'lost' });
  const expired = await createHost(registry, 'web-5');
  const row = await registry.store.token(expired.split('.')[1] as string);
  assert.ok(row);
  await registry.store.change({ token: { ...row, expiresAt: Date.now() - 1, revision: row.revision + 1 } });
  const wrong = {
    empty: '',
    'not a token': 'mortise-enrol-v1',
    'unknown id': [prefix, 'A'.repeat(16), secret, hash].join('.'),
    "another token's secret": [prefix, id, other, hash].join('.'),
    replaced,
    revoked,
    expired,
    'too long': `${good}${'x'.repeat(300)}`,
  };
  const messages = new Set<string>();
  for (const [what, token] of Object.entries(wrong)) {
    await assert.rejects(
      enrolWith(port, { token, roots }),
      (error: Error) => {
        messages.add(error.message);
        return refusedWith('ENROLMENT_REFUSED')(error);
      },
      what,
    );
  }
  assert.equal(messages.size, 1, 'nobody learns which of the reasons it was');
  await enrolWith(port, { token: good, roots });
});

test('a certificate that is given out stands in the logs of the platform and of the tenants, or is not given out', async (t) => {
  const registry = await startTestRegistry(t);
  const { port, roots } = registry;
  const token = await createHost(registry, 'web-1');
  registry.records.length = 0;
  const keys = newKey();
  registry.failRecords(true);
  await assert.rejects(enrolWith(port, { token, roots, keys }), refusedWith('STORE_UNAVAILABLE'));
  registry.failRecords(false);
  const host = await enrolWith(port, { token, roots, keys });
  await unary(registry.connect(host), HostsServiceService.renew, {
    certificateRequest: certificateRequest({ name: 'x', ...newKey() }),
  });
  assert.deepEqual(
    registry.records.map(({ tenant, operation, principal }) => [tenant, operation, principal]),
    [
      ['_platform', 'enrol', 'host/web-1'],
      ['acme', 'enrol', 'host/web-1'],
      ['_platform', 'renew', 'host/web-1'],
    ],
  );
});

test('the secret of a token is stored nowhere', async (t) => {
  const registry = await startTestRegistry(t);
  const token = await createHost(registry, 'web-1');
  const [, id, secret] = token.split('.') as [string, string, string];
  const stored = JSON.stringify([await registry.store.token(id), await registry.store.host('web-1'), registry.records]);
  assert.ok(!stored.includes(secret));
  assert.match((await registry.store.token(id))?.secretHash ?? '', /^[0-9a-f]{64}$/);
});

test('a signing request that is not one, or is signed by another key, is INVALID_REQUEST and leaves the token good', async (t) => {
  const registry = await startTestRegistry(t);
  const { port, roots } = registry;
  const token = await createHost(registry, 'web-1');
  const client = registry.connect(undefined);
  const enrol = (request: Buffer) => unary(client, HostsServiceService.enrol, { token, certificateRequest: request });
  const [own, others] = [newKey(), newKey()];
  const good = certificateRequest({ name: 'x', ...own });
  const mixed = certificateRequest({ name: 'x', privateKey: others.privateKey, publicKey: own.publicKey });
  const bad = [Buffer.alloc(0), Buffer.from('30', 'hex'), good.subarray(1), Buffer.concat([good, good]), mixed];
  for (const request of bad) await assert.rejects(enrol(request), refusedWith('INVALID_REQUEST'));
  await enrolWith(port, { token, roots });
});

test('without a certificate there is nothing but enrolment', async (t) => {
  const registry = await startTestRegistry(t);
  await assert.rejects(history(registry, undefined, 'acme'), refusedWith('UNAUTHENTICATED'));
  const client = registry.connect(undefined);
  await assert.rejects(unary(client, AdminServiceService.listAdmins, {}), refusedWith('UNAUTHENTICATED'));
  await assert.rejects(
    unary(client, HostsServiceService.renew, { certificateRequest: Buffer.alloc(1) }),
    refusedWith('UNAUTHENTICATED'),
  );
  const heartbeat = duplex(client, HostsServiceService.heartbeat);
  assert.equal(await heartbeat.end, 'UNAUTHENTICATED');
});

test('a certificate of another registry, or one that names itself, is nobody', async (t) => {
  const [registry, foreign] = [await startTestRegistry(t), await startTestRegistry(t)];
  const theirs = await foreign.host('web-1', ['acme']);
  await registry.host('web-1', ['acme']);
  const client = connectTo(registry.port, { roots: registry.roots, key: theirs.key, chain: theirs.chain });
  t.after(() => client.close());
  await assert.rejects(
    unary(client, PoliciesServiceService.getPolicyHistory, { tenant: 'acme', pageSize: 0, pageToken: '' }),
    refusedWith('UNAUTHENTICATED'),
  );
});

test('renewal gives a new certificate while the one before stays good, and the one before that does not', async (t) => {
  const registry = await startTestRegistry(t);
  const first = await registry.host('web-1', ['acme']);
  const renewed = async (from: Certified): Promise<Certified> => {
    const keys = newKey();
    const { credentials } = await unary(registry.connect(from), HostsServiceService.renew, {
      certificateRequest: certificateRequest({ name: 'x', ...keys }),
    });
    const chain = (credentials?.certificateChain ?? []).map((der) => new X509Certificate(der).toString()).join('');
    return { ...from, key: keys.pem, chain };
  };
  const second = await renewed(first);
  await history(registry, first, 'acme');
  await history(registry, second, 'acme');
  const third = await renewed(second);
  await history(registry, second, 'acme');
  await history(registry, third, 'acme');
  await assert.rejects(history(registry, first, 'acme'), refusedWith('UNAUTHENTICATED'));
});

test('a new token for an enrolled host leaves it alone until it is used, then replaces certificate and tenants', async (t) => {
  const registry = await startTestRegistry(t);
  const before = await registry.host('web-1', ['acme']);
  await unary(registry.adminClient, AdminServiceService.createTenant, { tenant: 'globex', displayName: '' });
  const request = hostRequest('web-1', ['globex']);
  const { token } = await unary(registry.adminClient, AdminServiceService.createHost, request);
  await history(registry, before, 'acme');
  const after = await enrolWith(registry.port, { token: token?.token ?? '', roots: registry.roots });
  await assert.rejects(history(registry, before, 'acme'), refusedWith('UNAUTHENTICATED'));
  await history(registry, after, 'globex');
  await assert.rejects(history(registry, after, 'acme'), refusedWith('PERMISSION_DENIED'));
});

test('a host asks for its own tenants alone, whether or not another one exists', async (t) => {
  const registry = await startTestRegistry(t);
  const host = await registry.host('web-1', ['acme']);
  await registry.host('web-2', ['globex']);
  for (const tenant of ['globex', 'nobody', '', 'ACME']) {
    await assert.rejects(history(registry, host, tenant), refusedWith('PERMISSION_DENIED'), tenant);
  }
  await history(registry, host, '_platform');
  const refusals = registry.records.filter(({ outcome }) => outcome === 'PERMISSION_DENIED');
  assert.ok(refusals.every(({ principal }) => principal === 'host/web-1'));
  const logs = ['_platform', 'acme', '_platform', 'acme', '_platform', 'acme', '_platform', 'acme'];
  assert.deepEqual(
    refusals.map(({ tenant }) => tenant),
    logs,
  );
});

test('hosts are refused what is for administrators, and administrators what is for hosts', async (t) => {
  const registry = await startTestRegistry(t);
  const host = registry.connect(await registry.host('web-1', ['acme']));
  const calls = [
    unary(host, AdminServiceService.createTenant, { tenant: 'x', displayName: '' }),
    unary(host, AdminServiceService.createHost, hostRequest('web-9', ['acme'])),
    unary(host, AdminServiceService.revokeHost, { host: 'web-1', reason: '' }),
    unary(host, AdminServiceService.publishPolicy, { jws: Buffer.from('{}'), acceptConflicts: false }),
    unary(host, AdminServiceService.listHosts, {
      pageSize: 0,
      pageToken: '',
      tenant: '',
      state: 'HOST_STATE_UNSPECIFIED' as const,
    }),
    unary(host, AdminServiceService.getRegistryStatus, {}),
  ];
  for (const call of await Promise.allSettled(calls)) {
    assert.equal(call.status, 'rejected');
    assert.ok(refusedWith('PERMISSION_DENIED')((call as PromiseRejectedResult).reason));
  }
  const heartbeat = duplex(registry.adminClient, HostsServiceService.heartbeat);
  assert.equal(await heartbeat.end, 'PERMISSION_DENIED');
});
