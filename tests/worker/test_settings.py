"""Settings of the worker: what is missing or dangerous is said at the start, all of it at once."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from worker.settings import Role, WorkerSettings


def _settings(**given: object) -> WorkerSettings:
    return WorkerSettings.model_validate(
        {
            "master_keys": "k:" + "A" * 43 + "=",
            "seal_public_keys": {"local": "x"},
            "seal_private_key_file": Path("seal.key"),
            **given,
        }
    )


def test_a_cluster_worker_needs_neither_database_nor_master_keys() -> None:
    settings = _settings(roles="cluster", master_keys=None, seal_public_keys={})
    assert settings.roles == {Role.CLUSTER}


def test_everything_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(ValidationError) as raised:
        _settings(master_keys=None, seal_public_keys={}, seal_private_key_file=None)
    for name in ("PERDURE_MASTER_KEYS", "PERDURE_SEAL_PUBLIC_KEYS", "PERDURE_SEAL_PRIVATE_KEY_FILE"):
        assert name in str(raised.value)


def test_sqlite_is_refused_outside_development() -> None:
    with pytest.raises(ValidationError, match="Postgres"):
        _settings(environment="production")


def test_secrets_do_not_show_in_the_settings() -> None:
    assert "AAAA" not in repr(_settings())
