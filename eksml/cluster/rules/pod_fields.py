"""The fields of a pod template, of a Service and of network rules, as Kubernetes 1.35 has them.

The words of the table are explained in ``shape``. Volume kinds that no EKS node offers are only
known by name. A test holds the table against the official client's models.
"""

POD_FIELDS = """
PodTemplateSpec: metadata:ObjectMeta spec:PodSpec
ObjectMeta: annotations:{str} finalizers:[str] labels:{str} name:str namespace:str
PodSpec: activeDeadlineSeconds:int>=1 affinity:Affinity automountServiceAccountToken:bool
    containers:[Container]! dnsConfig:PodDNSConfig
    dnsPolicy:ClusterFirst|ClusterFirstWithHostNet|Default|None enableServiceLinks:bool
    ephemeralContainers:[map] hostAliases:[HostAlias] hostIPC:bool hostNetwork:bool hostPID:bool
    hostUsers:bool hostname:str hostnameOverride:str imagePullSecrets:[LocalObjectReference]
    initContainers:[Container] nodeName:str nodeSelector:{str} os:PodOS overhead:{quantity}
    preemptionPolicy:PreemptLowerPriority|Never priority:int priorityClassName:str
    readinessGates:[PodReadinessGate] resourceClaims:[PodResourceClaim]
    resources:ResourceRequirements restartPolicy:|Always|OnFailure|Never runtimeClassName:str
    schedulerName:str schedulingGates:[PodSchedulingGate] schedulingGroup:PodSchedulingGroup
    securityContext:PodSecurityContext serviceAccount:str serviceAccountName:str
    setHostnameAsFQDN:bool shareProcessNamespace:bool subdomain:str
    terminationGracePeriodSeconds:int>=0 tolerations:[Toleration]
    topologySpreadConstraints:[TopologySpreadConstraint] volumes:[Volume]
Affinity: nodeAffinity:NodeAffinity podAffinity:PodAffinity podAntiAffinity:PodAffinity
NodeAffinity: preferredDuringSchedulingIgnoredDuringExecution:[PreferredSchedulingTerm]
    requiredDuringSchedulingIgnoredDuringExecution:NodeSelector
PreferredSchedulingTerm: preference:NodeSelectorTerm! weight:int!
NodeSelectorTerm: matchExpressions:[NodeSelectorRequirement] matchFields:[NodeSelectorRequirement]
NodeSelectorRequirement: key:str! operator:In|NotIn|Exists|DoesNotExist|Gt|Lt! values:[str]
NodeSelector: nodeSelectorTerms:[NodeSelectorTerm]!
PodAffinity: preferredDuringSchedulingIgnoredDuringExecution:[WeightedPodAffinityTerm]
    requiredDuringSchedulingIgnoredDuringExecution:[PodAffinityTerm]
WeightedPodAffinityTerm: podAffinityTerm:PodAffinityTerm! weight:int!
PodAffinityTerm: labelSelector:LabelSelector matchLabelKeys:[str] mismatchLabelKeys:[str]
    namespaceSelector:LabelSelector namespaces:[str] topologyKey:str!
LabelSelector: matchExpressions:[LabelSelectorRequirement] matchLabels:{str}
LabelSelectorRequirement: key:str! operator:In|NotIn|Exists|DoesNotExist! values:[str]
Container: args:[str] command:[str] env:[EnvVar] envFrom:[EnvFromSource] image:str
    imagePullPolicy:|Always|IfNotPresent|Never lifecycle:Lifecycle livenessProbe:Probe name:str!
    ports:[ContainerPort] readinessProbe:Probe resizePolicy:[ContainerResizePolicy]
    resources:ResourceRequirements restartPolicy:str restartPolicyRules:[ContainerRestartRule]
    securityContext:SecurityContext startupProbe:Probe stdin:bool stdinOnce:bool
    terminationMessagePath:str terminationMessagePolicy:File|FallbackToLogsOnError tty:bool
    volumeDevices:[VolumeDevice] volumeMounts:[VolumeMount] workingDir:str
EnvVar: name:str! value:str valueFrom:EnvVarSource
EnvVarSource: configMapKeyRef:ConfigMapKeySelector fieldRef:ObjectFieldSelector
    fileKeyRef:FileKeySelector resourceFieldRef:ResourceFieldSelector
    secretKeyRef:SecretKeySelector
ConfigMapKeySelector: key:str! name:str optional:bool
ObjectFieldSelector: apiVersion:str fieldPath:str!
FileKeySelector: key:str! optional:bool path:str! volumeName:str!
ResourceFieldSelector: containerName:str divisor:quantity resource:str!
SecretKeySelector: key:str! name:str optional:bool
EnvFromSource: configMapRef:ConfigMapEnvSource prefix:str secretRef:SecretEnvSource
ConfigMapEnvSource: name:str optional:bool
SecretEnvSource: name:str optional:bool
Lifecycle: postStart:LifecycleHandler preStop:LifecycleHandler stopSignal:str
LifecycleHandler: exec:ExecAction httpGet:HTTPGetAction sleep:SleepAction
    tcpSocket:TCPSocketAction
ExecAction: command:[str]
HTTPGetAction: host:str httpHeaders:[HTTPHeader] path:str port:port! scheme:HTTP|HTTPS
HTTPHeader: name:str! value:str!
SleepAction: seconds:int>=0!
TCPSocketAction: host:str port:port!
Probe: exec:ExecAction failureThreshold:int>=1 grpc:GRPCAction httpGet:HTTPGetAction
    initialDelaySeconds:int>=0 periodSeconds:int>=1 successThreshold:int>=1
    tcpSocket:TCPSocketAction terminationGracePeriodSeconds:int>=1 timeoutSeconds:int>=1
GRPCAction: port:int! service:str
ContainerPort: containerPort:int! hostIP:str hostPort:int name:str protocol:TCP|UDP|SCTP
ContainerResizePolicy: resourceName:str! restartPolicy:NotRequired|RestartContainer!
ResourceRequirements: claims:[ResourceClaim] limits:{quantity} requests:{quantity}
ResourceClaim: name:str! request:str
ContainerRestartRule: action:str! exitCodes:ContainerRestartRuleOnExitCodes
ContainerRestartRuleOnExitCodes: operator:str! values:[int]
SecurityContext: allowPrivilegeEscalation:bool appArmorProfile:AppArmorProfile
    capabilities:Capabilities privileged:bool procMount:str readOnlyRootFilesystem:bool
    runAsGroup:int>=0 runAsNonRoot:bool runAsUser:int>=0 seLinuxOptions:SELinuxOptions
    seccompProfile:SeccompProfile windowsOptions:WindowsSecurityContextOptions
AppArmorProfile: localhostProfile:str type:RuntimeDefault|Unconfined|Localhost!
Capabilities: add:[str] drop:[str]
SELinuxOptions: level:str role:str type:str user:str
SeccompProfile: localhostProfile:str type:RuntimeDefault|Unconfined|Localhost!
WindowsSecurityContextOptions: gmsaCredentialSpec:str gmsaCredentialSpecName:str hostProcess:bool
    runAsUserName:str
VolumeDevice: devicePath:str! name:str!
VolumeMount: mountPath:str! mountPropagation:None|HostToContainer|Bidirectional name:str!
    readOnly:bool recursiveReadOnly:Disabled|IfPossible|Enabled subPath:str subPathExpr:str
PodDNSConfig: nameservers:[str] options:[PodDNSConfigOption] searches:[str]
PodDNSConfigOption: name:str value:str
HostAlias: hostnames:[str] ip:str!
LocalObjectReference: name:str
PodOS: name:linux|windows!
PodReadinessGate: conditionType:str!
PodResourceClaim: name:str! resourceClaimName:str resourceClaimTemplateName:str
PodSchedulingGate: name:str!
PodSchedulingGroup: podGroupName:str
PodSecurityContext: appArmorProfile:AppArmorProfile fsGroup:int>=0
    fsGroupChangePolicy:OnRootMismatch|Always runAsGroup:int>=0 runAsNonRoot:bool runAsUser:int>=0
    seLinuxChangePolicy:str seLinuxOptions:SELinuxOptions seccompProfile:SeccompProfile
    supplementalGroups:[int] supplementalGroupsPolicy:str sysctls:[Sysctl]
    windowsOptions:WindowsSecurityContextOptions
Sysctl: name:str! value:str!
Toleration: effect:|NoSchedule|PreferNoSchedule|NoExecute key:str operator:|Exists|Equal
    tolerationSeconds:int value:str
TopologySpreadConstraint: labelSelector:LabelSelector matchLabelKeys:[str] maxSkew:int>=1!
    minDomains:int>=1 nodeAffinityPolicy:Honor|Ignore nodeTaintsPolicy:Honor|Ignore
    topologyKey:str! whenUnsatisfiable:DoNotSchedule|ScheduleAnyway!
Volume: awsElasticBlockStore:map azureDisk:map azureFile:map cephfs:map cinder:map
    configMap:ConfigMapVolumeSource csi:CSIVolumeSource downwardAPI:DownwardAPIVolumeSource
    emptyDir:EmptyDirVolumeSource ephemeral:EphemeralVolumeSource fc:map flexVolume:map
    flocker:map gcePersistentDisk:map gitRepo:map glusterfs:map hostPath:HostPathVolumeSource
    image:ImageVolumeSource iscsi:map name:str! nfs:NFSVolumeSource
    persistentVolumeClaim:PersistentVolumeClaimVolumeSource photonPersistentDisk:map
    portworxVolume:map projected:ProjectedVolumeSource quobyte:map rbd:map scaleIO:map
    secret:SecretVolumeSource storageos:map vsphereVolume:map
ConfigMapVolumeSource: defaultMode:int items:[KeyToPath] name:str optional:bool
KeyToPath: key:str! mode:int path:str!
CSIVolumeSource: driver:str! fsType:str nodePublishSecretRef:LocalObjectReference readOnly:bool
    volumeAttributes:{str}
DownwardAPIVolumeSource: defaultMode:int items:[DownwardAPIVolumeFile]
DownwardAPIVolumeFile: fieldRef:ObjectFieldSelector mode:int path:str!
    resourceFieldRef:ResourceFieldSelector
EmptyDirVolumeSource: medium:str sizeLimit:quantity
EphemeralVolumeSource: volumeClaimTemplate:PersistentVolumeClaimTemplate
PersistentVolumeClaimTemplate: metadata:ObjectMeta spec:PersistentVolumeClaimSpec!
PersistentVolumeClaimSpec: accessModes:[str] dataSource:TypedLocalObjectReference
    dataSourceRef:TypedObjectReference resources:VolumeResourceRequirements selector:LabelSelector
    storageClassName:str volumeAttributesClassName:str volumeMode:str volumeName:str
TypedLocalObjectReference: apiGroup:str kind:str! name:str!
TypedObjectReference: apiGroup:str kind:str! name:str! namespace:str
VolumeResourceRequirements: limits:{quantity} requests:{quantity}
HostPathVolumeSource: path:str!
    type:|DirectoryOrCreate|Directory|FileOrCreate|File|Socket|CharDevice|BlockDevice
ImageVolumeSource: pullPolicy:Always|IfNotPresent|Never reference:str
NFSVolumeSource: path:str! readOnly:bool server:str!
PersistentVolumeClaimVolumeSource: claimName:str! readOnly:bool
ProjectedVolumeSource: defaultMode:int sources:[VolumeProjection]
VolumeProjection: clusterTrustBundle:ClusterTrustBundleProjection configMap:ConfigMapProjection
    downwardAPI:DownwardAPIProjection podCertificate:PodCertificateProjection
    secret:SecretProjection serviceAccountToken:ServiceAccountTokenProjection
ClusterTrustBundleProjection: labelSelector:LabelSelector name:str optional:bool path:str!
    signerName:str
ConfigMapProjection: items:[KeyToPath] name:str optional:bool
DownwardAPIProjection: items:[DownwardAPIVolumeFile]
PodCertificateProjection: certificateChainPath:str credentialBundlePath:str keyPath:str
    keyType:str! maxExpirationSeconds:int signerName:str! userAnnotations:{str}
SecretProjection: items:[KeyToPath] name:str optional:bool
ServiceAccountTokenProjection: audience:str expirationSeconds:int>=600 path:str!
SecretVolumeSource: defaultMode:int items:[KeyToPath] optional:bool secretName:str
Service: apiVersion:str kind:str metadata:ObjectMeta spec:ServiceSpec status:map
ServiceSpec: allocateLoadBalancerNodePorts:bool clusterIP:str clusterIPs:[str] externalIPs:[str]
    externalName:str externalTrafficPolicy:str healthCheckNodePort:int internalTrafficPolicy:str
    ipFamilies:[str] ipFamilyPolicy:str loadBalancerClass:str loadBalancerIP:str
    loadBalancerSourceRanges:[str] ports:[ServicePort] publishNotReadyAddresses:bool
    selector:{str} sessionAffinity:str sessionAffinityConfig:SessionAffinityConfig
    trafficDistribution:str type:ClusterIP|NodePort|LoadBalancer|ExternalName
ServicePort: appProtocol:str name:str nodePort:int port:int! protocol:TCP|UDP|SCTP targetPort:port
SessionAffinityConfig: clientIP:ClientIPConfig
ClientIPConfig: timeoutSeconds:int
NetworkPolicyIngressRule: from:[NetworkPolicyPeer] ports:[NetworkPolicyPort]
NetworkPolicyPeer: ipBlock:IPBlock namespaceSelector:LabelSelector podSelector:LabelSelector
IPBlock: cidr:str! except:[str]
NetworkPolicyPort: endPort:int port:port protocol:TCP|UDP|SCTP
NetworkPolicyEgressRule: ports:[NetworkPolicyPort] to:[NetworkPolicyPeer]
"""
