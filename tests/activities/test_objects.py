"""The object store on a directory; what it refuses as a key."""

from pathlib import Path

import pytest

from activities.storage.objects import ObjectKeyInvalid, ObjectNotFound, ObjectStore, checked_key


async def test_documents_come_back(tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path / "objects"))
    key = "evidence/org_1/op_2/service.api/1.json"
    with pytest.raises(ObjectNotFound):
        await store.get_json(key)
    await store.put_json(key, {"lines": ["ä", None, 1.5]})
    await store.put_json(key, {"lines": ["second"]})
    assert await ObjectStore(f"file://{tmp_path}/objects").get_json(key) == {"lines": ["second"]}
    await store.put_bytes("raw", b"\0\xff")
    assert await store.get_bytes("raw") == b"\0\xff"
    await store.delete(key)
    await store.delete(key)
    with pytest.raises(ObjectNotFound):
        await store.get_bytes(key)


@pytest.mark.parametrize(
    "key",
    ["", "/", "/etc/passwd", "a/../b", "..", "a//b", "a/", ".hidden", "a b", "a\\b", "ä", "a\n", "a" * 513],
)
async def test_keys_lead_nowhere_else(tmp_path: Path, key: str) -> None:
    store = ObjectStore(str(tmp_path / "objects"))
    with pytest.raises(ObjectKeyInvalid):
        await store.put_bytes(key, b"x")
    with pytest.raises(ObjectKeyInvalid):
        await store.get_bytes(key)
    with pytest.raises(ObjectKeyInvalid):
        checked_key(key)


def test_other_stores_are_refused() -> None:
    with pytest.raises(ValueError, match="gs://"):
        ObjectStore("gs://bucket")
