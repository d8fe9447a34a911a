"""Names that follow from ids, so that a retry or a twin always arrives at the same ones."""

import hashlib
from collections.abc import Mapping
from typing import Final

FIELD_MANAGER: Final = "perdure"
"""Field manager of every server-side apply."""

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
INSTANCE: Final = "app.kubernetes.io/instance"
NAME: Final = "app.kubernetes.io/name"
ENVIRONMENT: Final = "perdure.dev/environment"
ORGANIZATION: Final = "perdure.dev/organization"
INSTALLATION: Final = "perdure.dev/installation"
REVISION: Final = "perdure.dev/revision"
FENCE: Final = "perdure.dev/fence"
CREATED_BY: Final = "perdure.dev/created-by"
"""Annotation on the Namespace: id of the operation that created it. It is what tells a second attempt
of that operation that the namespace was absent before."""

RESTART: Final = "perdure.dev/restart"
"""Annotation on a pod template: id of the operation that last restarted the service. It starts new pods."""

SEED: Final = "perdure.dev/seed"
"""Label on the Jobs and records of one seed with one set of parameters, however often it was run."""

SNAPSHOT: Final = "perdure.dev/snapshot"
"""Label on snapshots of volumes and on what they are bound to: id of the snapshot that they are part of."""

RESTORED: Final = "perdure.dev/restored-from"
"""The same on what lends a snapshot of a volume to a restore; it goes once the new volume is there."""

FENCE_POLICIES: Final = ("perdure-fence", "perdure-own-namespaces", "perdure-own-snapshots")
"""Admission policies, and their bindings, that every cluster of ours has."""

ENVIRONMENT_ROLE: Final = "perdure-environment"
"""ClusterRole that is bound in each environment's namespace, and nowhere else."""


def belongs_to(labels: Mapping[str, object], environment_id: str, installation_id: str) -> bool:
    """Return whether an object with these labels is that environment's, of that installation."""
    return labels.get(ENVIRONMENT) == environment_id and labels.get(INSTALLATION) == installation_id


def namespace_name(environment_name: str, environment_id: str) -> str:
    """Return `<name>-<first 8 hex digits of SHA-256(id)>`: unique over organisations, stable over retries."""
    return f"{environment_name}-{hashlib.sha256(environment_id.encode()).hexdigest()[:8]}"
