"""The parameters that Convox's racks have on each provider, and what counts there when they are not set.

Only names and defaults: clusters, nodes and load balancers do not exist here. They are accepted and kept, so that the
command that installed a real rack installs a record of it, and a misspelt name is still found out.

Reference: convox/convox terraform/system/<provider>/variables.tf.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_TABLE: Mapping[str, str] = {
    "aws": """
        access_log_retention_in_days=7 additional_build_groups_config additional_karpenter_nodepools_config
        additional_node_groups_config api_feature_gates availability_zones aws_ebs_csi_driver_version
        build_disable_convox_resolver=false build_node_enabled=false build_node_min_count=0 build_node_type
        buildkit_host_path_cache_enable=false cert_duration=2160h cidr=10.1.0.0/16 contour_cpu_request=100m
        contour_internal_tls=true contour_memory_request=128Mi convox_domain_tls_cert_disable=false
        convox_rack_domain coredns_version cost_tracking_enable=false custom_provided_bucket
        dcgm_scrape_interval=15s deploy_extra_nlb=false disable_convox_resolver=false
        disable_image_manifest_cache=false disable_public_access=false ebs_volume_encryption_enabled=false
        ecr_additional_policy_arn ecr_docker_hub_cache=false ecr_full_access=false ecr_scan_on_push_enable=false
        efs_csi_driver_enable=false efs_csi_driver_version eks_access_entries=false
        eks_api_server_private_access_cidrs eks_api_server_public_access_cidrs=0.0.0.0/0 eks_log_types
        enable_private_access=false envoy_cpu_request=100m envoy_memory_request=256Mi fluentd_disable=false
        fluentd_memory=200Mi gpu_metrics_max_concurrent=10 gpu_metrics_max_pods=100
        gpu_observability_chart_version gpu_observability_enable=false gpu_tag_enable=false
        grafana_dashboard_var_app=app grafana_dashboard_var_namespace=namespace grafana_dashboard_var_rack=rack
        grafana_dashboard_var_service=service grafana_url high_availability=true idle_timeout=3600
        imds_http_hop_limit=3 imds_http_tokens=optional imds_tags_enable=false internal_router=false
        internet_gateway_id k8s_version karpenter_arch karpenter_auth_mode=false
        karpenter_build_capacity_types=on-demand karpenter_build_consolidate_after=60s
        karpenter_build_cpu_limit=32 karpenter_build_instance_families karpenter_build_instance_sizes
        karpenter_build_memory_limit_gb=256 karpenter_build_node_labels karpenter_capacity_types=on-demand
        karpenter_config karpenter_consolidate_after=30s karpenter_consolidation_enabled=true
        karpenter_cpu_limit=100 karpenter_disruption_budget_nodes=10% karpenter_enabled=false
        karpenter_instance_families karpenter_instance_sizes karpenter_memory_limit_gb=400 karpenter_node_disk=0
        karpenter_node_expiry=720h karpenter_node_labels karpenter_node_taints karpenter_node_volume_type=gp3
        keda_enable=false key_pair_name kube_proxy_version kubelet_registry_burst=10 kubelet_registry_pull_qps=5
        max_on_demand_count=100 min_on_demand_count=1 nginx_additional_config nginx_image nlb_security_group
        node_capacity_type=on_demand node_disk=20 node_max_unavailable_percentage=0 node_type=t3.small
        nvidia_device_plugin_enable=false nvidia_device_time_slicing_replicas=0
        pdb_default_min_available_percentage=50 pod_identity_agent_enable=false pod_identity_agent_version
        private=true private_eks_host private_eks_pass private_eks_user private_subnets_ids
        prometheus_gpu_metrics_chart_version prometheus_gpu_metrics_retention=24h prometheus_url
        proxy_protocol=false public_subnets_ids region=us-east-1 release_watcher_gc_interval=5m
        releases_to_retain_after_active=0 releases_to_retain_task_run_interval_hour=24 router_type=nginx
        schedule_rack_scale_down schedule_rack_scale_up ssl_ciphers ssl_protocols syslog tags telemetry=false
        terraform_update_timeout=2h user_data user_data_url vpa_enable=false vpc_cni_version vpc_id
        webhook_signing_key whitelist=0.0.0.0/0
    """,
    "azure": """
        additional_build_groups_config additional_node_groups_config azure_files_enable=false
        cert_duration=2160h fluentd_memory=200Mi high_availability=true idle_timeout=4 k8s_version
        max_on_demand_count=100 min_on_demand_count=3 nginx_additional_config nginx_image node_disk=30
        node_type=Standard_D2_v3 nvidia_device_plugin_enable=false nvidia_device_time_slicing_replicas=0
        pdb_default_min_available_percentage=50 region=eastus ssl_ciphers ssl_protocols syslog tags
        telemetry=false terraform_update_timeout=2h webhook_signing_key whitelist=0.0.0.0/0
    """,
    "do": """
        access_id buildkit_enabled=false cert_duration=2160h fluentd_memory=200Mi high_availability=true
        k8s_version node_type=s-2vcpu-4gb region=nyc3 registry_disk=50Gi secret_key syslog telemetry=false
        terraform_update_timeout=2h token webhook_signing_key whitelist=0.0.0.0/0
    """,
    "gcp": """
        buildkit_enabled=false cert_duration=2160h fluentd_memory=200Mi k8s_version nginx_additional_config
        node_disk=100 node_type=n1-standard-2 preemptible=true region=us-east1 syslog telemetry=false
        terraform_update_timeout=2h webhook_signing_key whitelist=0.0.0.0/0
    """,
    "local": """
        os=ubuntu telemetry=false webhook_signing_key
    """,
    "metal": """
        domain fluentd_memory=200Mi registry_disk=50Gi syslog webhook_signing_key whitelist=0.0.0.0/0
    """,
}
"""``name=default`` words by provider; a name alone has no default, or one that changes with every release."""


def provider_defaults(provider: str) -> dict[str, str]:
    """Return the parameters of a provider's racks with their defaults, empty for none; none for a provider unknown."""
    return {name: default for name, _, default in (word.partition("=") for word in _TABLE.get(provider, "").split())}
