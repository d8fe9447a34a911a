"""Images by digest: which of what a node tells belongs to which image of a Blueprint."""

import pytest

from workflows.domain.blueprint_models import Mock, MockMode, Service
from workflows.domain.image_pins import pinned

DIGEST = f"sha256:{'5c' * 32}"


@pytest.mark.parametrize(
    ("image", "seen"),
    [
        ("registry.test/app:1", "registry.test/app"),
        ("registry.test:5000/team/app", "registry.test:5000/team/app"),
        ("localhost/app:1", "localhost/app"),
        ("redis:7", "docker.io/library/redis"),
        ("team/app:1", "docker.io/team/app"),
        ("docker.io/library/redis", "docker.io/library/redis"),
    ],
)
def test_an_image_gets_the_digest_it_was_seen_with_and_keeps_its_tag(image: str, seen: str) -> None:
    service = Service(name="app", image=image)
    assert pinned(service, {"app": f"{seen}@{DIGEST}"}).image == f"{image}@{DIGEST}"


@pytest.mark.parametrize(
    ("image", "seen"),
    [
        ("registry.test/app:1", ""),
        ("registry.test/app:1", f"sha256:{'5c' * 32}"),
        ("registry.test/app:1", f"registry.test/other@{DIGEST}"),
        ("registry.test/app:1", f"registry.test:5000/app@{DIGEST}"),
        ("team/redis", f"docker.io/library/redis@{DIGEST}"),
        (f"registry.test/app@sha256:{'00' * 32}", f"registry.test/app@{DIGEST}"),
    ],
)
def test_an_image_stays_where_what_was_seen_is_none_of_its_repository(image: str, seen: str) -> None:
    service = Service(name="app", image=image)
    assert pinned(service, {"app": seen, "other": f"registry.test/app@{DIGEST}"}) == service


def test_what_runs_in_the_place_of_a_service_is_what_was_seen() -> None:
    replaced = Mock(mode=MockMode.REPLACE, image="registry.test/stub:1")
    seen = {"app": f"registry.test/stub@{DIGEST}"}
    found = pinned(Service(name="app", image="registry.test/app:1", mock=replaced), seen)
    assert (found.image, found.mock and found.mock.image) == (
        "registry.test/app:1",
        f"registry.test/stub:1@{DIGEST}",
    )
    beside = replaced.model_copy(update={"mode": MockMode.SIDECAR})
    service = Service(name="app", image="registry.test/app:1", mock=beside)
    assert pinned(service, seen) == service
