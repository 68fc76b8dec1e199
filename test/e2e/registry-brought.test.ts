// A host that brings a certificate of its own authority to the real registry's program, and one whose authority it does not
// take.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { AdminServiceService } from '../../proto/gen/mortise/registry/v1/admin.ts';
import { bring, setUp } from '../agent/uplink/world.ts';
import { makeAuthority } from '../fakes/registry-authority.ts';
import { temporaryFolder } from '../support/folder.ts';
import { makePolicyFolder } from '../support/policy.ts';
import { pemOf, unary } from '../support/registry-client.ts';
import { RegistryProcess } from '../support/registry-process.ts';

test('a certificate of an authority that the registry is told of is taken, and of another one is not', async (t) => {
  const world = await setUp(t, { enrolled: false });
  const policy = await makePolicyFolder();
  t.after(() => policy.remove());
  const rootsFile = join(temporaryFolder(t), 'client-roots.pem');
  await writeFile(rootsFile, world.registry.authority.rootPem);
  const registry = await RegistryProcess.make(join(policy.dir, 'trust-anchor.json'), {
    REGISTRY_CLIENT_ROOTS_FILE: rootsFile,
  });
  t.after(() => registry[Symbol.asyncDispose]());
  await unary(registry.admin, AdminServiceService.createTenant, { tenant: 'acme', displayName: '' });
  const host = { host: world.host, tenants: ['acme'], tokenSeconds: 0, bringsCertificate: true, reinstate: false };
  const { token } = await unary(registry.admin, AdminServiceService.createHost, host);
  assert.equal(token, undefined, 'it needs none');

  const brought = await bring(world);
  const { registryRoots, sealingJwk, cosigner } = registry.pinned;
  await writeFile(join(world.dir, 'roots.pem'), registryRoots.map(pemOf).join(''));
  const pinned = { schema: 'mortise.registry-credentials/v1', trustDomain: 'registry.test', sealingJwk, cosigner };
  await writeFile(join(world.dir, 'registry.json'), JSON.stringify(pinned));
  const uplink = world.make({ urls: [registry.url], brought });
  await world.next('connected');
  assert.deepEqual(JSON.parse(await readFile(join(world.dir, 'registry.json'), 'utf8')).tenants, ['acme']);
  await uplink.close();

  const stranger = await makeAuthority(temporaryFolder(t));
  const { key, certificate } = await stranger.bring(world.host);
  await writeFile(brought.keyFile, key);
  await writeFile(brought.certificateFile, certificate);
  const from = world.heard.length;
  world.make({ urls: [registry.url], brought });
  const { code } = await world.next('disconnected', from);
  assert.notEqual(code, undefined);
  assert.ok(!world.heard.slice(from).some(({ name }) => name === 'connected'));
});
