"""The environment that tests render and run operations for, when it does not matter which."""

from workflows.domain.environment import EnvironmentContext

CONTEXT = EnvironmentContext(
    environment_id="env_1",
    environment_name="shop",
    organization_id="org_1",
    installation_id="8c7d6b1e-0000-4000-8000-000000000001",
    operation_id="op_1",
    cluster="local",
    namespace="shop-0a1b2c3d",
    revision=3,
    fence=7,
)
