"""The Job of a seed, by which the cluster remembers that it has run."""

import hashlib
from typing import Final

from workflows.domain import names
from workflows.domain.blueprint_models import SecretRef, Service
from workflows.domain.environment import EnvironmentContext
from workflows.domain.manifests_common import Manifest
from workflows.domain.manifests_workload import beside, once_job
from workflows.domain.seeds import SeedRun, SeedType
from workflows.domain.templates import ParameterValue

SEED_COMPONENT: Final = "seed"
SEED_SECONDS: Final = 600
"""Longest run of a seed's Job; the cluster ends it after that, whoever still looks."""


def seed_label(run: SeedRun) -> str:
    """Value of the label that every Job of this seed bears, with these parameters."""
    return hashlib.sha256(run.key.encode()).hexdigest()[:40]


def seed_job(
    context: EnvironmentContext, service: Service, run: SeedRun, operation_id: str | None
) -> Manifest:
    """The Job of a seed of type `shell` or `job`.

    Its name follows from the seed, its parameters and the environment; with `operation_id` from that too, so
    that it is another one than that of any run before.
    """
    parameters = {*run.values, *run.secrets}
    # In a command the cluster itself would expand `$(NAME)`, and make one dollar of two.
    shell = ("/bin/sh", "-c", (run.content.script or "").replace("$", "$$"))
    is_shell = run.content.type is SeedType.SHELL
    plain = beside(
        service,
        command=shell if is_shell else run.content.command,
        args=run.content.args,
        env={
            **{name: value for name, value in service.env.items() if name not in parameters},
            **{name: _text(value).replace("$", "$$") for name, value in run.values.items()},
        },
        secrets=(
            *(secret for secret in service.secrets if secret.env_key not in parameters),
            *(SecretRef(name=name, env_key=parameter) for parameter, name in run.secrets.items()),
        ),
        **({} if is_shell else {"image": run.content.image}),
    )
    told = run.key + (f"\n{operation_id}" if operation_id is not None else "")
    name = f"{plain.name[:40].rstrip('-')}-seed-{hashlib.sha256(told.encode()).hexdigest()[:10]}"
    job = once_job(context, plain, name, SEED_COMPONENT, {"activeDeadlineSeconds": SEED_SECONDS})
    metadata = job["metadata"]
    assert isinstance(metadata, dict)  # noqa: S101 - as it was just made
    labels = metadata["labels"]
    assert isinstance(labels, dict)  # noqa: S101
    return {**job, "metadata": {**metadata, "labels": {**labels, names.SEED: seed_label(run)}}}


def _text(value: ParameterValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
