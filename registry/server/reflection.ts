// Server reflection (grpc.reflection.v1 and v1alpha) over the descriptors that `npm run generate` writes, so that
// grpcurl and its kind need no .proto files. Tells what the public repository tells, hence to everybody.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Server } from '@grpc/grpc-js';
import { addLazyService } from '../../agent/server/lazy-service.ts';
import { capture } from './health.ts';

const DESCRIPTORS = join(import.meta.dirname, '../../proto/gen/registry-descriptors.binpb');

export const addReflection = (server: Server): void => {
  for (const version of ['v1', 'v1alpha'] as const) {
    addLazyService(server, {
      name: `grpc.reflection.${version}.ServerReflection`,
      methods: { ServerReflectionInfo: 'bidi' },
      load: async () => {
        const { ReflectionService } = await import('@grpc/reflection');
        const { loadFileDescriptorSetFromBuffer } = await import('@grpc/proto-loader');
        const service = new ReflectionService(loadFileDescriptorSetFromBuffer(await readFile(DESCRIPTORS)));
        // The package adds both versions through one call; each is a member of it.
        return capture((target) =>
          (service as unknown as Record<string, { addToServer(server: Server): void }>)[
            version === 'v1' ? 'v1' : 'v1Alpha'
          ]?.addToServer(target),
        );
      },
    });
  }
};
