"""Which services are held still for a snapshot, and in which order."""

from workflows.domain.blueprint_models import Blueprint, MockMode, Service
from workflows.domain.plan import in_dependency_order


def quiesce_order(blueprint: Blueprint) -> tuple[Service, ...]:
    """Return the services with hooks, each before those it depends on; they are thawed in the reverse order.

    What writes is held still before what it writes to. Dependencies through services without hooks count too.
    A service without pods has nobody to be held, and the hooks belong to the image that a mock replaces.
    """
    return tuple(
        service
        for service in reversed(in_dependency_order(blueprint))
        if service.snapshot.quiesce and service.replicas and not _replaced(service)
    )


def _replaced(service: Service) -> bool:
    return service.mock is not None and service.mock.mode is MockMode.REPLACE
