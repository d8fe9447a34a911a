"""Images by digest: what a snapshot saw runs after a restore, wherever its tag points by then."""

from collections.abc import Mapping

from workflows.domain.blueprint_models import MockMode, Service
from workflows.domain.manifests_common import running_as


def pinned(service: Service, seen: Mapping[str, str]) -> Service:
    """Return a service with the image that was seen to run of it, by digest; itself where that is not known.

    `seen`: by service, as the cluster names images. The tag stays, for people: with a digest, nobody looks it
    up.
    """
    image = _by_digest(running_as(service).image, seen.get(service.name, ""))
    mock = service.mock
    if mock is not None and mock.mode is MockMode.REPLACE:
        return service.model_copy(update={"mock": mock.model_copy(update={"image": image})})
    return service.model_copy(update={"image": image})


def _by_digest(image: str, seen: str) -> str:
    """Return the image as it was seen; as it is if it has a digest, or was seen from another repository.

    A node that has one image from several names any of them, and the others may not have that digest.
    """
    repository, _, digest = seen.partition("@")
    known = digest and "@" not in image and _repository(image) == _repository(repository)
    return f"{image}@{digest}" if known else image


def _repository(image: str) -> str:
    """Return the repository that an image is of, as nodes write it out: `redis:7` is docker.io/library's."""
    path, slash, last = image.rpartition("/")
    bare = f"{path}{slash}{last.partition(':')[0]}"
    host = bare.partition("/")[0] if slash else ""
    if "." in host or ":" in host or host == "localhost":
        return bare
    return f"docker.io/{bare}" if slash else f"docker.io/library/{bare}"
