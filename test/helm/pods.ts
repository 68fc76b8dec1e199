// Pods as manifests have them, with what tests read of them.
import type { Manifest } from './render.ts';

export interface EnvironmentVariable {
  readonly name: string;
  readonly value?: string;
  readonly valueFrom?: { readonly fieldRef: { readonly fieldPath: string } };
}

export interface Mount {
  readonly name: string;
  readonly mountPath: string;
  readonly readOnly?: boolean;
  readonly subPath?: string;
}

export interface Container {
  readonly name: string;
  readonly image: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly env?: readonly EnvironmentVariable[];
  readonly volumeMounts?: readonly Mount[];
  readonly restartPolicy?: string;
  readonly startupProbe?: { readonly httpGet?: { readonly path: string; readonly port: number | string } };
  readonly securityContext?: {
    readonly allowPrivilegeEscalation?: boolean;
    readonly readOnlyRootFilesystem?: boolean;
    readonly runAsNonRoot?: boolean;
    readonly runAsUser?: number;
    readonly capabilities?: { readonly drop?: readonly string[]; readonly add?: readonly string[] };
    readonly seccompProfile?: { readonly type: string };
  };
}

export interface Volume {
  readonly name: string;
  readonly [source: string]: unknown;
}

export interface PodSpec {
  readonly automountServiceAccountToken?: boolean;
  readonly securityContext?: Container['securityContext'] & {
    readonly fsGroup?: number;
    readonly runAsGroup?: number;
    readonly supplementalGroups?: readonly number[];
  };
  readonly initContainers?: readonly Container[];
  readonly containers: readonly Container[];
  readonly volumes: readonly Volume[];
}

interface Workload {
  readonly template: { readonly spec: PodSpec };
  readonly volumeClaimTemplates?: readonly { readonly metadata: { readonly name: string } }[];
}

/** The pod of a workload; undefined for what has none. */
export const podOf = ({ kind, spec }: Manifest): PodSpec | undefined => {
  if (kind === 'Pod') return spec as PodSpec;
  return ['Deployment', 'StatefulSet', 'DaemonSet', 'Job'].includes(kind)
    ? (spec as Workload).template.spec
    : undefined;
};

/** Names of the volumes that a pod has, claims of a StatefulSet included. */
export const volumesOf = ({ spec }: Manifest, pod: PodSpec): readonly string[] => [
  ...pod.volumes.map(({ name }) => name),
  ...((spec as Workload).volumeClaimTemplates ?? []).map(({ metadata }) => metadata.name),
];

export const containersOf = (pod: PodSpec): readonly Container[] => [...(pod.initContainers ?? []), ...pod.containers];

/** The environment of a container, fields of the pod by what stands in for them. */
export const environmentOf = (container: Container, field = 'node-1'): Record<string, string> =>
  Object.fromEntries((container.env ?? []).map(({ name, value }) => [name, value ?? field]));
