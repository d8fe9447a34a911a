"""The volumes of one service while it is imported: names and places are unique."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from workflows.domain import blueprint_rules as rules
from workflows.domain.import_context import dns_label

DEFAULT_VOLUME_SIZE: Final = "1Gi"


@dataclass(slots=True)
class Volumes:
    """Collects the volumes of one service; names and mount paths are unique."""

    entries: list[JsonValue] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    mounts: set[str] = field(default_factory=set)

    def add(self, wanted: str, mount: str, **fields: JsonValue) -> str | None:
        """Add a volume; the reason when it cannot be."""
        problem = rules.mount_path(mount)
        if problem is not None:
            return problem[0]
        if mount.rstrip("/") in self.mounts:
            return "another volume of the service is mounted there"
        base = dns_label(wanted, 50) or "volume"
        name = base
        number = 2
        while name in self.names:
            name = f"{base}-{number}"
            number += 1
        self.names.add(name)
        self.mounts.add(mount.rstrip("/"))
        self.entries.append({"name": name, "mountPath": mount, **fields})
        return None
