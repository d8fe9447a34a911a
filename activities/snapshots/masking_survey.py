"""Whether rules for masking fit what is stored of a service, found out before anything is changed."""

import base64
import contextlib
from typing import Final

from activities.secrets import Opener
from activities.snapshots._transfer import store_failures
from activities.snapshots.masking import survey
from activities.snapshots.meter import Meter
from activities.snapshots.stored import content_of
from activities.storage.objects import ObjectStore
from workflows.contracts.restore import MaskingSurveyed
from workflows.contracts.snapshot import Loadable
from workflows.domain.errors import FieldError
from workflows.domain.masking import DumpUnreadable, MaskingRefused, ServiceMasking, check_surveys

MOST_TOLD: Final = 50
"""Faults of one service that go through a workflow's history."""


def masking_key_of(opener: Opener, stored: Loadable) -> bytes:
    """Return the key that masked values of a stored component are derived by."""
    return base64.b64decode(opener.open(stored.masking_key))


async def masked_sizes(
    objects: ObjectStore,
    opener: Opener,
    snapshot_id: str,
    stored: Loadable,
    rules: ServiceMasking,
    *,
    meter: Meter,
) -> tuple[int, ...]:
    """Mask each part of a stored component for nothing; return how many bytes each is masked.

    Raises MaskingRefused with the faults of all parts, DumpUnreadable, and what `content_of` raises; ends
    the activity when the store does not give what it should.
    """
    store = stored.component.store
    assert store is not None  # noqa: S101 - what keeps nothing is not masked
    key = masking_key_of(opener, stored)
    surveys = []
    for part in stored.component.parts:
        content = content_of(objects, opener, snapshot_id, stored, part, meter=meter)
        async with store_failures(), contextlib.aclosing(content):
            surveys.append(await survey(store, part, rules, key, content))
    check_surveys(rules, surveys)
    return tuple(each.size for each in surveys)


def faults_of(service: str, refused: MaskingRefused | DumpUnreadable) -> tuple[FieldError, ...]:
    """Return what does not fit, with places as they are in the rules of the restore."""
    if isinstance(refused, DumpUnreadable):
        message = f"what is stored of it cannot be masked: {refused}"
        return (FieldError(path=("services", service), message=message),)
    return tuple(
        fault.model_copy(update={"path": ("services", service, *fault.path)}) for fault in refused.faults
    )


def surveyed(faults: tuple[FieldError, ...], evidence: tuple[str, ...]) -> MaskingSurveyed:
    """Return faults as a workflow is told of them; `evidence` keeps all of them."""
    told = faults[:MOST_TOLD]
    return MaskingSurveyed(faults=told, more=len(faults) - len(told), evidence=evidence)
