"""The fields of a Serve configuration (``serveConfigV2``), as Ray 2.60 reads them.

Serve itself passes over a field that it does not know: a typo is silence. The words are explained
in ``shape``; a test holds the table against Ray's own schema.
"""

SERVE_FIELDS = """
ServeConfig: proxy_location:Disabled|HeadOnly|EveryNode http_options:ServeHTTP
    grpc_options:ServeGRPC controller_options:map logging_config:ServeLogging
    tracing_config:ServeTracing applications:[ServeApplication]! target_capacity:num>=0
ServeHTTP: host:str port:int root_path:str request_timeout_s:num keep_alive_timeout_s:int
    ssl_keyfile:str ssl_certfile:str ssl_keyfile_password:str ssl_ca_certs:str
ServeGRPC: port:int grpc_servicer_functions:[str] request_timeout_s:num enable_reflection:bool
ServeLogging: encoding:JSON|TEXT log_level:any logs_dir:str enable_access_log:bool
    additional_log_standard_attrs:[str]
ServeTracing: enabled:bool exporter_import_path:str sampling_ratio:num>=0
ServeApplication: name:str route_prefix:str import_path:str! runtime_env:map host:any port:any
    deployments:[ServeDeployment] autoscaling_policy:map args:map logging_config:ServeLogging
    external_scaler_enabled:bool
ServeDeployment: name:str! num_replicas:any max_ongoing_requests:int>=1
    max_queued_requests:int>=-1 backpressure_config:map user_config:map autoscaling_config:map
    graceful_shutdown_wait_loop_s:num>=0 graceful_shutdown_timeout_s:num>=0
    health_check_period_s:num>=0 health_check_timeout_s:num>=0 ray_actor_options:ServeActor
    placement_group_bundles:[{num}] placement_group_strategy:PACK|SPREAD|STRICT_PACK|STRICT_SPREAD
    placement_group_bundle_label_selector:[{str}] max_replicas_per_node:int>=1
    logging_config:ServeLogging request_router_config:map gang_scheduling_config:map
    deployment_actors:[map] rolling_update_percentage:num>=0 max_surge_percent:int>=0
ServeActor: runtime_env:map num_cpus:num>=0 num_gpus:num>=0 memory:num>=0 resources:{num}
    accelerator_type:str label_selector:{str} fallback_strategy:[map]
"""
