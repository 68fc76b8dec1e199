// Server reflection (grpc.reflection.v1 and v1alpha) over the descriptors that `npm run generate` writes, so that
// grpcurl and its kind need no .proto files. Tells what the public repository tells, hence to everybody.
import { readFile } from 'node:fs/promises';
import type { Server } from '@grpc/grpc-js';
import { capture } from './health.ts';
import { addLazyService } from './lazy-service.ts';

/** `descriptors`: path of a serialized FileDescriptorSet. */
export const addReflection = (server: Server, descriptors: string): void => {
  for (const version of ['v1', 'v1alpha'] as const) {
    addLazyService(server, {
      name: `grpc.reflection.${version}.ServerReflection`,
      methods: { ServerReflectionInfo: 'bidi' },
      load: async () => {
        const { ReflectionService } = await import('@grpc/reflection');
        const { loadFileDescriptorSetFromBuffer } = await import('@grpc/proto-loader');
        const service = new ReflectionService(loadFileDescriptorSetFromBuffer(await readFile(descriptors)));
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
