// Registers a service whose package is loaded by its first call: health and reflection parse .proto files and
// descriptors, which would be a good part of a program's start. Invariant: what the package answers is unchanged.
import {
  type handleBidiStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  type Server,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';

interface LoadedMethod {
  requestDeserialize(bytes: Buffer): object;
  responseSerialize(response: unknown): Buffer;
}

export interface LoadedService {
  readonly definition: Readonly<Record<string, LoadedMethod>>;
  readonly implementation: UntypedServiceImplementation;
}

export interface LazyService {
  /** "grpc.health.v1.Health" */
  readonly name: string;
  readonly methods: Readonly<Record<string, 'unary' | 'server-stream' | 'bidi'>>;
  load(): Promise<LoadedService>;
}

type AnyCall = { request: Buffer | object; emit(event: string, value: unknown): boolean };
type AnyHandler = (call: unknown, callback?: unknown) => void;

const raw = (bytes: Buffer): Buffer => bytes;
const unreadable = { code: status.INVALID_ARGUMENT, details: 'the request is not a valid protobuf message' };
const unloadable = { code: status.INTERNAL, details: 'the service could not be loaded' };

export const addLazyService = (server: Server, service: LazyService): void => {
  let loaded: LoadedService | undefined;
  let pending: Promise<LoadedService> | undefined;
  const loading = (): Promise<LoadedService> => {
    pending ??= service.load().then((value) => {
      loaded = value;
      return value;
    });
    return pending;
  };

  const handle =
    (name: string, streams: boolean) =>
    (call: AnyCall, callback?: (error: object) => void): void => {
      const fail = (error: object): void => {
        if (callback === undefined) call.emit('error', error);
        else callback(error);
      };
      loading().then(
        ({ definition, implementation }) => {
          const key = Object.keys(implementation).find((row) => row.toLowerCase() === name.toLowerCase()) as string;
          const method = definition[name] as LoadedMethod;
          try {
            if (!streams) call.request = method.requestDeserialize(call.request as Buffer);
          } catch {
            return fail(unreadable);
          }
          (implementation[key] as AnyHandler)(call, callback);
        },
        () => fail(unloadable),
      );
    };

  const definition: Record<string, object> = {};
  const implementation: Record<string, unknown> = {};
  for (const [name, kind] of Object.entries(service.methods)) {
    const requestStream = kind === 'bidi';
    definition[name] = {
      path: `/${service.name}/${name}`,
      requestStream,
      responseStream: kind !== 'unary',
      // A stream is not read before its handler has been loaded; a single message is read first and decoded there.
      requestDeserialize: requestStream ? (bytes: Buffer) => loaded?.definition[name]?.requestDeserialize(bytes) : raw,
      responseSerialize: (response: unknown) => loaded?.definition[name]?.responseSerialize(response),
    };
    implementation[name] = handle(name, requestStream) as
      | handleUnaryCall<never, never>
      | handleServerStreamingCall<never, never>
      | handleBidiStreamingCall<never, never>;
  }
  server.addService(definition as never, implementation as never);
};
