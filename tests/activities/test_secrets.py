"""Keys, secrets and sealed values: they open for whom they are meant, and show themselves to nobody."""

import os
import re

import pytest

from activities.db.engine import Database
from activities.db.repositories import secrets
from activities.secrets import (
    DataKey,
    MasterKeys,
    Opener,
    Sealer,
    SecretsError,
    WrappedKey,
    generate_secret,
    new_private_key,
    new_token,
    token_digest,
)
from tests.helpers.tenants import KEYS, PLANTED, accept, make_tenant

OLD = os.urandom(32)


def data_key(keys: MasterKeys = KEYS, organization: str = "org_1") -> DataKey:
    return keys.unwrap(keys.new_data_key("dk_1", organization))


def test_a_value_opens_for_its_subject_only() -> None:
    key = data_key()
    ciphertext = key.encrypt(PLANTED, subject="sec_1/env_1")
    assert PLANTED.encode() not in ciphertext
    assert key.decrypt(ciphertext, subject="sec_1/env_1") == PLANTED
    assert key.encrypt(PLANTED, subject="sec_1/env_1") != ciphertext
    with pytest.raises(SecretsError):
        key.decrypt(ciphertext, subject="sec_1/env_2")
    for damaged in (
        b"",
        ciphertext[:8],
        ciphertext[:-1] + b"\0",
        data_key().encrypt("x", subject="sec_1/env_1"),
    ):
        with pytest.raises(SecretsError):
            key.decrypt(damaged, subject="sec_1/env_1")


def test_a_data_key_opens_for_its_organisation_only() -> None:
    wrapped = KEYS.new_data_key("dk_1", "org_1")
    stolen = WrappedKey("dk_1", "org_2", wrapped.master_key_id, wrapped.wrapped)
    with pytest.raises(SecretsError):
        KEYS.unwrap(stolen)


def test_master_keys_rotate() -> None:
    before = MasterKeys("old", {"old": OLD})
    between = MasterKeys("new", {"old": OLD, "new": os.urandom(32)})
    after = MasterKeys("new", {"new": between.keys["new"]})
    wrapped = before.new_data_key("dk_1", "org_1")
    renewed = between.rewrap(wrapped)
    assert renewed.master_key_id == "new"
    assert after.unwrap(renewed) == before.unwrap(wrapped)
    with pytest.raises(SecretsError, match="'old' is not configured"):
        after.unwrap(wrapped)


def test_unusable_keys_are_refused() -> None:
    with pytest.raises(SecretsError):
        MasterKeys("m2", {"m1": OLD})
    with pytest.raises(SecretsError):
        MasterKeys("m1", {"m1": b"short"})
    for text in ("", "!", "AAAA"):
        with pytest.raises(SecretsError):
            Sealer(text)
        with pytest.raises(SecretsError):
            Opener(text)


def test_hash_keys_differ_by_data_key() -> None:
    first, second = data_key(), data_key()
    assert len(first.hash_key()) == 32
    assert first.hash_key() == first.hash_key() != second.hash_key()
    assert first.hash_key() != first.key


def test_masking_keys_differ_by_data_key_and_use() -> None:
    first, second = data_key(), data_key()
    assert len(first.masking_key()) == 32
    assert first.masking_key() == first.masking_key() != second.masking_key()
    assert first.masking_key() not in (first.key, first.hash_key())
    same_bytes = DataKey(id="key_1", organization_id="org_2", key=first.key)
    assert same_bytes.masking_key() != first.masking_key()


def test_sealed_values_open_for_their_cluster_only() -> None:
    opener, other = Opener(new_private_key()), Opener(new_private_key())
    sealed = Sealer(opener.public_key).seal(PLANTED)
    assert PLANTED not in sealed
    assert opener.open(sealed) == PLANTED
    for attempt in (other, opener):
        with pytest.raises(SecretsError):
            attempt.open(sealed if attempt is other else sealed[:-8] + "AAAAAAA=")
    with pytest.raises(SecretsError):
        opener.open("not base64")


def test_nothing_shows_a_key() -> None:
    private = new_private_key()
    key = data_key()
    for shown in (repr(KEYS), repr(key), repr(KEYS.new_data_key("dk_1", "org_1")), repr(Opener(private))):
        assert private not in shown
        assert str(KEYS.keys["m1"]) not in shown
        assert str(key.key) not in shown
        assert "b'" not in shown


def test_generated_values() -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{32}", generate_secret()) for _ in range(20))
    assert generate_secret() != generate_secret()
    token = new_token()
    assert re.fullmatch(r"pdr_[A-Za-z0-9_-]{43}", token)
    assert re.fullmatch(r"[0-9a-f]{64}", token_digest(token))


async def test_stored_secrets_survive_a_new_master_key(database: Database) -> None:
    tenant = await make_tenant(database)
    accepted = await accept(database, tenant)
    rotating = MasterKeys("m2", {"m1": KEYS.keys["m1"], "m2": os.urandom(32)})
    async with database.transaction() as session:
        assert await secrets.rewrap_data_keys(session, rotating) == 1
        assert await secrets.rewrap_data_keys(session, rotating) == 0
    only_new = MasterKeys("m2", {"m2": rotating.keys["m2"]})
    async with database.reading() as session:
        values = await secrets.secret_values(session, tenant.id, accepted.environment.id, only_new)
    assert values["api-token"] == PLANTED
