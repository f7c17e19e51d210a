"""The fields of KubeRay's four kinds in ``ray.io/v1``. The words are explained in ``shape``."""

RAY_FIELDS = """
RayCluster: apiVersion:str! kind:str! metadata:Metadata! spec:RayClusterSpec! status:any
RayJob: apiVersion:str! kind:str! metadata:Metadata! spec:RayJobSpec! status:any
RayService: apiVersion:str! kind:str! metadata:Metadata! spec:RayServiceSpec! status:any
RayCronJob: apiVersion:str! kind:str! metadata:Metadata! spec:RayCronJobSpec! status:any
Metadata: name:str generateName:str namespace:str labels:{str} annotations:{str} finalizers:[str]
    ownerReferences:[map] uid:str resourceVersion:str generation:int creationTimestamp:any
    deletionTimestamp:any deletionGracePeriodSeconds:int managedFields:[map] selfLink:str
RayClusterSpec: authOptions:AuthOptions autoscalerOptions:AutoscalerOptions
    enableInTreeAutoscaling:bool gcsFaultToleranceOptions:GcsFaultToleranceOptions
    headGroupSpec:HeadGroupSpec! headServiceAnnotations:{str}
    historyServerOptions:HistoryServerOptions
    managedBy:ray.io/kuberay-operator|kueue.x-k8s.io/multikueue networkPolicy:NetworkPolicy
    rayVersion:str suspend:bool tlsOptions:TLSOptions upgradeStrategy:RayClusterUpgrade
    workerGroupSpecs:[WorkerGroupSpec]
AuthOptions: enableK8sTokenAuth:bool mode:disabled|token secretName:str
AutoscalerOptions: args:[str] command:[str] env:[EnvVar] envFrom:[EnvFromSource]
    idleTimeoutSeconds:int32 image:str imagePullPolicy:str resources:ResourceRequirements
    securityContext:SecurityContext upscalingMode:Default|Aggressive|Conservative version:v1|v2
    volumeMounts:[VolumeMount]
GcsFaultToleranceOptions: backend:redis|rocksdb externalStorageNamespace:str redisAddress:str
    redisPassword:RedisCredential redisUsername:RedisCredential storage:GcsStorage
RedisCredential: value:str valueFrom:EnvVarSource
GcsStorage: accessModes:[str] claimName:str deletionPolicy:DeleteWithCluster|Retain size:quantity
    storageClassName:str subPath:str
HeadGroupSpec: enableIngress:bool headService:Service ingressOptions:IngressOptions labels:{str}
    rayStartParams:{str} resources:{str} serviceType:str template:PodTemplateSpec!
IngressOptions: host:str path:str pathType:Exact|Prefix|ImplementationSpecific tls:[IngressTLS]
IngressTLS: hosts:[str] secretName:str
HistoryServerOptions: collectorOptions:CollectorOptions
CollectorOptions: env:[EnvVar] image:str imagePullPolicy:str resources:ResourceRequirements
NetworkPolicy: head:NetworkRules mode:DenyAll|DenyAllIngress|DenyAllEgress worker:NetworkRules
    workerGroups:[GroupNetworkRules]
NetworkRules: egressRules:[NetworkPolicyEgressRule] ingressRules:[NetworkPolicyIngressRule]
GroupNetworkRules: groupName:str! egressRules:[NetworkPolicyEgressRule]
    ingressRules:[NetworkPolicyIngressRule]
TLSOptions: enabled:bool
RayClusterUpgrade: type:Recreate|None
WorkerGroupSpec: groupName:str! idleTimeoutSeconds:int32 labels:{str} maxReplicas:int32
    minReplicas:int32 numOfHosts:int32>=1 priority:int32 rayStartParams:{str} replicas:int32
    resources:{str} scaleStrategy:ScaleStrategy suspend:bool template:PodTemplateSpec!
ScaleStrategy: workersToDelete:[str]
RayJobSpec: activeDeadlineSeconds:int32 backoffLimit:int32 clusterSelector:{str}
    deletionStrategy:DeletionStrategy entrypoint:str entrypointNumCpus:num>=0
    entrypointNumGpus:num>=0 entrypointResources:str jobId:str
    managedBy:ray.io/kuberay-operator|kueue.x-k8s.io/multikueue metadata:{str}
    preRunningDeadlineSeconds:int32 rayClusterSpec:RayClusterSpec runtimeEnvYAML:str
    shutdownAfterJobFinishes:bool
    submissionMode:K8sJobMode|HTTPMode|InteractiveMode|SidecarMode
    submitterConfig:SubmitterConfig submitterPodTemplate:PodTemplateSpec suspend:bool
    ttlSecondsAfterFinished:int32
SubmitterConfig: backoffLimit:int32
DeletionStrategy: deletionRules:[DeletionRule] onFailure:DeletionPolicy onSuccess:DeletionPolicy
DeletionRule: condition:DeletionCondition!
    policy:DeleteCluster|DeleteWorkers|DeleteSelf|DeleteNone!
DeletionCondition: jobDeploymentStatus:str jobStatus:SUCCEEDED|FAILED ttlSeconds:int32
DeletionPolicy: policy:DeleteCluster|DeleteWorkers|DeleteSelf|DeleteNone
RayServiceSpec: deploymentUnhealthySecondThreshold:int32 excludeHeadPodFromServeSvc:bool
    managedBy:ray.io/kuberay-operator|kueue.x-k8s.io/multikueue rayClusterConfig:RayClusterSpec!
    rayClusterDeletionDelaySeconds:int32 serveConfigV2:str serveService:Service
    serviceUnhealthySecondThreshold:int32 suspend:bool upgradeStrategy:RayServiceUpgrade
RayServiceUpgrade: clusterUpgradeOptions:ClusterUpgradeOptions
    type:NewCluster|NewClusterWithIncrementalUpgrade|None
ClusterUpgradeOptions: gatewayClassName:str intervalSeconds:int32 maxSurgePercent:int32
    stepSizePercent:int32
RayCronJobSpec: jobTemplate:RayJobSpec! schedule:str! suspend:bool timeZone:str
"""
