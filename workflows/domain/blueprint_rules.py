"""Rules for single texts of a Blueprint: names, images, quantities, keys, paths. Each says what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Final

from workflows.domain.blueprint_read import label_problem
from workflows.domain.blueprint_tree import show
from workflows.domain.manifests_common import LONGEST_LABEL
from workflows.domain.manifests_secrets import secret_object_name
from workflows.domain.quantity import QuantityError, is_binary, is_fractional, parse_quantity

Problem = tuple[str, str | None]
Rule = Callable[[str], Problem | None]

LONGEST_BLUEPRINT_NAME: Final = 40
# Kubernetes appends a revision hash for StatefulSets (52 is their limit), we `-init-<digest>` for jobs.
LONGEST_SERVICE_NAME: Final = 48
LONGEST_SECRET_NAME: Final = LONGEST_LABEL - len(secret_object_name(""))
LONGEST_CREDENTIAL_NAME: Final = 40
MOST_REPLICAS: Final = 100

_DOMAIN: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST: Final = rf"(?:{_DOMAIN}(?:\.{_DOMAIN})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_COMPONENT: Final = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
# Grammar of github.com/distribution/reference.
_IMAGE: Final = re.compile(
    rf"(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*"
    r"(?P<tag>:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(?P<digest>@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?"
)
_ENV_KEY: Final = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_PORT_NAME: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_SUBDOMAIN: Final = re.compile(
    r"(?:\*\.)?[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*"
)
_LABEL_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")
_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_BASELINE: Final = re.compile(r"env_[0-9A-Za-z]{1,40}")
_OURS: Final = ("perdure.dev", "app.kubernetes.io", "kubernetes.io", "k8s.io")


def blueprint_name(value: str) -> Problem | None:
    """DNS label of 1 to 40 characters."""
    return label_problem(value, LONGEST_BLUEPRINT_NAME)


def service_name(value: str) -> Problem | None:
    """DNS label of 1 to 48 characters that begins with a letter."""
    return label_problem(value, LONGEST_SERVICE_NAME, letter_first=True)


def object_name(value: str) -> Problem | None:
    """DNS label of 1 to 63 characters: volumes, plans, stored secrets."""
    return label_problem(value, LONGEST_LABEL)


def secret_name(value: str) -> Problem | None:
    """DNS label of 1 to 56 characters: the name of its Kubernetes Secret is one too."""
    return label_problem(value, LONGEST_SECRET_NAME)


def credential_name(value: str) -> Problem | None:
    """DNS label of 1 to 40 characters: a registry credential of the organisation."""
    return label_problem(value, LONGEST_CREDENTIAL_NAME)


def image(value: str) -> Problem | None:
    """Image reference: `[registry/]path[:tag][@digest]`."""
    if len(value) <= 512 and _IMAGE.fullmatch(value):
        return None
    hint = None
    if value.strip() != value or " " in value:
        hint = "remove the blanks"
    elif "://" in value:
        hint = f"without the scheme: {value.split('://', 1)[1][:100]}"
    elif _IMAGE.fullmatch(value.lower()):
        hint = f"repository names are lower case: {value.lower()}"
    elif value.endswith(":"):
        hint = f"give a tag: {value}1.0"
    return f"{show(value)} is not an image reference", hint or "[registry/]repository[:tag][@digest]"


def image_unpinned(value: str) -> bool:
    """Whether a valid image reference may mean another image tomorrow: no tag and no digest, or `latest`."""
    match = _IMAGE.fullmatch(value)
    return match is not None and match["digest"] is None and match["tag"] in (None, ":latest")


def env_key(value: str) -> Problem | None:
    """Name of an environment variable as Kubernetes takes it."""
    if _ENV_KEY.fullmatch(value) and len(value) <= 256:
        return None
    return (
        f"{show(value)} cannot name an environment variable",
        "letters, digits, '_', '-' and '.', not beginning with a digit",
    )


def port_name(value: str) -> Problem | None:
    """Port name: at most 15 of a-z, 0-9 and single '-', with a letter in it."""
    if len(value) <= 15 and _PORT_NAME.fullmatch(value) and re.search("[a-z]", value):
        return None
    return (
        f"{show(value)} cannot name a port",
        "at most 15 of a-z, 0-9 and single '-' between them, with at least one letter",
    )


def host(value: str) -> Problem | None:
    """DNS name in lower case; a first label `*` is allowed."""
    if len(value) <= 253 and _SUBDOMAIN.fullmatch(value):
        return None
    hint = (
        "without scheme, port and path"
        if any(mark in value for mark in ":/")
        else "for example app.example.test"
    )
    return f"{show(value)} is not a host name", hint


def storage_class(value: str) -> Problem | None:
    """Name of a StorageClass: DNS subdomain."""
    if len(value) <= 253 and _SUBDOMAIN.fullmatch(value) and "*" not in value:
        return None
    return f"{show(value)} is not the name of a StorageClass", "leave it out for the cluster's default"


def url_path(value: str) -> Problem | None:
    """Path of a URL."""
    if value.startswith("/") and value.isprintable() and " " not in value:
        return None
    return f"{show(value)} is not a URL path", "begin it with '/', without blanks"


def mount_path(value: str) -> Problem | None:
    """Absolute directory in a container."""
    if value.startswith("/") and value != "/" and ".." not in value.split("/") and ":" not in value:
        return None
    return (
        f"{show(value)} is not a directory that can be mounted",
        "an absolute path other than /, without '..' and ':'",
    )


def relative_path(value: str) -> Problem | None:
    """Path of an inline file below its volume."""
    if (
        value
        and not value.startswith("/")
        and not {"", ".", ".."} & set(value.split("/"))
        and ":" not in value
    ):
        return None
    return f"{show(value)} is not a path below the volume", "relative, without '.', '..', ':' and empty parts"


def header_name(value: str) -> Problem | None:
    """HTTP header name."""
    if _HEADER.fullmatch(value):
        return None
    return f"{show(value)} is not a header name", "letters, digits and '-', at most 64"


def overlay_id(value: str) -> Problem | None:
    """Header value that chooses an overlay: DNS label."""
    return label_problem(value, LONGEST_LABEL)


def baseline_id(value: str) -> Problem | None:
    """Id of an environment."""
    return (
        None
        if _BASELINE.fullmatch(value)
        else (f"{show(value)} is not an environment id", "it looks like env_01J...")
    )


def label_key(value: str) -> Problem | None:
    """Kubernetes label key outside the reserved prefixes."""
    prefix, _, name = value.rpartition("/")
    good_prefix = not prefix or (len(prefix) <= 253 and _SUBDOMAIN.fullmatch(prefix) and "*" not in prefix)
    if not good_prefix or len(name) > LONGEST_LABEL or not _LABEL_NAME.fullmatch(name):
        return (
            f"{show(value)} is not a label key",
            "[prefix/]name, name at most 63 of letters, digits, '-', '_' and '.'",
        )
    if any(prefix == ours or prefix.endswith(f".{ours}") for ours in _OURS):
        return f"the prefix {prefix} is reserved", "use a prefix of your own, or none"
    return None


def label_value(value: str) -> Problem | None:
    """Kubernetes label value."""
    if value == "" or (len(value) <= LONGEST_LABEL and _LABEL_NAME.fullmatch(value)):
        return None
    return f"{show(value)} is not a label value", "at most 63 of letters, digits, '-', '_' and '.'"


def cpu(value: str) -> Problem | None:
    """CPU from 1m to 1000 cores."""
    if is_binary(value):
        return f"{show(value)} is an amount of bytes; CPU is counted in cores", "for example 250m or 1.5"
    return _quantity(value, Fraction(1, 1000), Fraction(1000), "1m", "1000", "250m or 1.5")


def memory(value: str) -> Problem | None:
    """Memory from 1Mi to 64Ti."""
    return _bytes(value, "256Mi")


def storage(value: str) -> Problem | None:
    """Size of a volume from 1Mi to 64Ti."""
    return _bytes(value, "5Gi")


def _bytes(value: str, example: str) -> Problem | None:
    if value.endswith("m") and value[:-1].isdigit():
        return f"{show(value)} means thousandths of a byte", f"did you mean {value[:-1]}Mi?"
    lowered = value.lower()
    for unit in ("kb", "mb", "gb", "tb"):
        if lowered.endswith(unit) and lowered[:-2].isdigit():
            return (
                f"{show(value)} is not a Kubernetes quantity",
                f"did you mean {lowered[:-2]}{unit[0].upper()}i?",
            )
    if lowered.endswith("g") and value[:-1].isdigit() and value.endswith("g"):
        return f"{show(value)} is not a Kubernetes quantity", f"did you mean {value[:-1]}Gi?"
    problem = _quantity(value, Fraction(1024**2), Fraction(64 * 1024**4), "1Mi", "64Ti", example)
    if problem is None and is_fractional(value):
        return f"{show(value)} is counted in parts of a byte", example
    return problem


def _quantity(
    value: str, lowest: Fraction, highest: Fraction, low_text: str, high_text: str, example: str
) -> Problem | None:
    try:
        amount = parse_quantity(value)
    except QuantityError:
        return f"{show(value)} is not a Kubernetes quantity", f"for example {example}"
    if not lowest <= amount <= highest:
        return f"must be from {low_text} to {high_text}, got {value}", f"for example {example}"
    return None
