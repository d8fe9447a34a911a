"""Every activity that a workflow may ask for is served by a worker: an unknown one is retried for ever."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any, cast

import workflows.contracts
from activities.registry import Retention, cluster_activities, control_activities

_NOTHING = cast(Any, None)


def _declared() -> Iterator[str]:
    for module in pkgutil.iter_modules(workflows.contracts.__path__):
        found = importlib.import_module(f"workflows.contracts.{module.name}")
        for _, kind in inspect.getmembers(found, inspect.isclass):
            for _, method in inspect.getmembers(kind, inspect.isfunction):
                definition = getattr(method, "__temporal_activity_definition", None)
                if definition is not None:
                    yield definition.name


async def test_every_activity_of_the_contracts_is_served() -> None:
    control = control_activities(
        database=_NOTHING, client=_NOTHING, keys=_NOTHING, sealers={}, retention=Retention(), objects=_NOTHING
    )
    on_cluster = cluster_activities(cluster=_NOTHING, opener=_NOTHING, objects=_NOTHING)
    served = {cast(Any, each).__temporal_activity_definition.name for each in (*control, *on_cluster)}
    assert set(_declared()) - served == set()
