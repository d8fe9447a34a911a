"""The Kubernetes objects that services become: no two of a kind with one name, no name that is too long.

The names come from the renderer itself, so that what it derives from a service's name is known in one place.
"""

from __future__ import annotations

from typing import Final

from workflows.domain.environment import EnvironmentContext

_CLAIM: Final = "PersistentVolumeClaim"
# Names of objects follow from the Blueprint alone; whose they are does not matter here.
_NOBODY: Final = EnvironmentContext(
    environment_id="",
    environment_name="",
    organization_id="",
    installation_id="",
    operation_id="",
    cluster="",
    namespace="",
    revision=0,
    fence=0,
)
