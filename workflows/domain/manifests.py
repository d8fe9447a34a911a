"""Everything an environment consists of, as full Kubernetes objects.

Every write renders the full object from revision and overrides; there is no partial apply beside this.
"""

from workflows.domain.manifests_common import Manifest, reached_ports, running_as, without_stamps
from workflows.domain.manifests_namespace import guard_rails, namespace
from workflows.domain.manifests_routing import PROXY, endpoint_urls, exposed_services, routing
from workflows.domain.manifests_secrets import (
    pull_credential_names,
    pull_secret_manifest,
    pull_secret_object_name,
    pull_secrets,
    secret_manifest,
    secret_names,
    secret_object_name,
    secrets,
)
from workflows.domain.manifests_seed import (
    SEED_SECONDS,
    RecordState,
    SeedRecord,
    read_seed_record,
    seed_job,
    seed_label,
    seed_record,
)
from workflows.domain.manifests_volumes import (
    SNAPSHOT_PREFIX,
    claims,
    group_snapshot,
    group_snapshot_name,
    kept,
    lent_content,
    lent_name,
    lent_snapshot,
    let_go,
    restored_claim,
    volume_snapshot,
    volume_snapshot_name,
)
from workflows.domain.manifests_workload import desired_replicas, service, shell_job, workload_kind

__all__ = [
    "PROXY",
    "SEED_SECONDS",
    "SNAPSHOT_PREFIX",
    "Manifest",
    "RecordState",
    "SeedRecord",
    "claims",
    "desired_replicas",
    "endpoint_urls",
    "exposed_services",
    "group_snapshot",
    "group_snapshot_name",
    "guard_rails",
    "kept",
    "lent_content",
    "lent_name",
    "lent_snapshot",
    "let_go",
    "namespace",
    "pull_credential_names",
    "pull_secret_manifest",
    "pull_secret_object_name",
    "pull_secrets",
    "reached_ports",
    "read_seed_record",
    "restored_claim",
    "routing",
    "running_as",
    "secret_manifest",
    "secret_names",
    "secret_object_name",
    "secrets",
    "seed_job",
    "seed_label",
    "seed_record",
    "service",
    "shell_job",
    "volume_snapshot",
    "volume_snapshot_name",
    "without_stamps",
    "workload_kind",
]
