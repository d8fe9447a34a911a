"""What the cluster remembers a seed by: the Job that ran it, or the record of a request over HTTP."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from workflows.domain import names
from workflows.domain.blueprint_models import SecretRef, Service
from workflows.domain.environment import EnvironmentContext
from workflows.domain.json_reading import text
from workflows.domain.manifests_common import Manifest, service_object
from workflows.domain.manifests_workload import COMPONENT, beside, once_job
from workflows.domain.seeds import SeedRun, SeedType
from workflows.domain.templates import ParameterValue

SEED_COMPONENT: Final = "seed"
SEED_SECONDS: Final = 600
"""Longest run of a seed's Job; the cluster ends it after that, whoever still looks."""


def seed_label(run: SeedRun) -> str:
    """Value of the label that every Job or record of this seed bears, with these parameters."""
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


class RecordState(StrEnum):
    """What is known of a request that was sent."""

    SENT = "sent"
    """It is about to be sent, or was, and no answer has settled what became of it."""
    DONE = "done"
    NOT_DONE = "not_done"
    """It was refused, or nothing of it has come to the service (`status` 0): it may be sent anew."""


@dataclass(frozen=True, slots=True)
class SeedRecord:
    """What the cluster remembers of one operation that sent a seed over HTTP."""

    state: RecordState
    key: str
    """The Idempotency-Key of its deliveries."""
    run: str
    """Id of the operation that began the run: that of the first attempt."""
    status: int = 0
    """Of the answer; 0 while there is none that settles it."""


def seed_record(context: EnvironmentContext, run: SeedRun, record: SeedRecord) -> Manifest:
    """The record as an object, one for each operation: nothing that was sent stands in it."""
    told = hashlib.sha256(f"{run.key}\n{context.operation_id}".encode()).hexdigest()[:10]
    written = service_object(
        "v1",
        "ConfigMap",
        f"{run.service[:40].rstrip('-')}-seed-{told}",
        context,
        run.service,
        {
            "data": {
                "state": str(record.state),
                "key": record.key,
                "run": record.run,
                "status": str(record.status),
            }
        },
    )
    metadata = written["metadata"]
    assert isinstance(metadata, dict)  # noqa: S101 - as it was just made
    labels = metadata["labels"]
    assert isinstance(labels, dict)  # noqa: S101
    more = {names.SEED: seed_label(run), COMPONENT: SEED_COMPONENT}
    return {**written, "metadata": {**metadata, "labels": {**labels, **more}}}


def read_seed_record(live: Manifest) -> SeedRecord | None:
    """The record that an object holds; None of another object with such a label."""
    state, status = text(live, "data", "state"), text(live, "data", "status")
    if state not in tuple(RecordState) or not status.isdecimal():
        return None
    return SeedRecord(RecordState(state), text(live, "data", "key"), text(live, "data", "run"), int(status))


def _text(value: ParameterValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
