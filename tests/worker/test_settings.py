"""Settings of the worker: what is missing or dangerous is said at the start, all of it at once."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from activities.keyring import KeyringInvalidError
from activities.version import VERSION
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


def test_an_environment_that_nobody_knows_is_no_development() -> None:
    with pytest.raises(ValidationError, match="production"):
        _settings(environment="staging")


def test_payload_keys_are_needed_to_encrypt_and_read_with_or_without() -> None:
    with pytest.raises(ValidationError, match="needs PERDURE_PAYLOAD_KEYS"):
        _settings(payload_encryption=True)
    assert _settings().payload_codec is None
    codec = _settings(payload_keys="p:" + "A" * 43 + "=").payload_codec
    assert codec is not None
    assert (codec.current, codec.encode) == ("p", False)


def test_master_keys_come_from_the_setting_or_from_a_file_that_is_there(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    assert _settings().open_master_keys().current_id == "k"
    of_file = _settings(master_keys=None, master_keys_file=file)
    with pytest.raises(KeyringInvalidError):
        of_file.open_master_keys()
    assert not file.exists(), "a worker makes no keys"
    file.write_text("f:" + "A" * 43 + "=")
    assert of_file.open_master_keys().current_id == "f"
    with pytest.raises(KeyringInvalidError, match="no master keys"):
        _settings(roles="cluster", master_keys=None).open_master_keys()


def test_the_build_id_is_the_installed_version_unless_said_otherwise() -> None:
    assert _settings().build_id == VERSION
    assert _settings(build_id="0.1.0+g1fc2b94").build_id == "0.1.0+g1fc2b94"


@pytest.mark.parametrize("build_id", ["", " ", "a b", "-1", "x" * 129])
def test_a_build_id_that_cannot_be_typed_is_refused(build_id: str) -> None:
    with pytest.raises(ValidationError, match="build_id"):
        _settings(build_id=build_id)


def test_secrets_do_not_show_in_the_settings() -> None:
    assert "AAAA" not in repr(_settings())
