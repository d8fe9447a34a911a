"""`temporal-dev.yaml` becomes the flags of a dev server that has what the workers need."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from worker.devserver import CONFIG, DevServer, read
from workflows.contracts.search_attributes import ALL


def test_every_search_attribute_is_a_flag() -> None:
    flags = read(CONFIG).flags()
    for key in ALL:
        assert f"--search-attribute={key.name}=Keyword" in flags


def test_state_is_kept_only_where_a_directory_is_given(tmp_path: Path) -> None:
    config = DevServer(database="temporal.db", sqlite_pragmas={"journal_mode": "wal"})
    assert not any(flag.startswith(("--db-filename", "--sqlite-pragma")) for flag in config.flags())
    kept = [f"--db-filename={tmp_path / 'temporal.db'}", "--sqlite-pragma=journal_mode=wal"]
    assert set(kept) <= set(config.flags(tmp_path))


def test_without_the_ui_the_server_is_headless() -> None:
    assert "--headless" in DevServer(ui=False).flags()


def test_dynamic_configuration_is_passed_as_json() -> None:
    flags = DevServer(dynamic_config={"a.b": True, "c.d": "x"}).flags()
    assert "--dynamic-config-value=a.b=true" in flags
    assert '--dynamic-config-value=c.d="x"' in flags


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "dev.yaml"
    path.write_text("ports: 7233\n")
    with pytest.raises(ValidationError, match="ports"):
        read(path)
