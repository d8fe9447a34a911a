"""Setting an installation up, once and again."""

import argparse
from pathlib import Path

import pytest

from activities.db.engine import Database
from activities.db.repositories.keys import authenticate, list_keys
from activities.db.tables import Role
from worker.bootstrap import Wanted, bootstrap, wanted_of

pytestmark = pytest.mark.slow


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'perdure.db'}"


async def keys_of(url: str, token: str) -> tuple[Role, bool, int]:
    """Return role and limit of a token's key, and how many keys its organisation has."""
    database = Database(url)
    try:
        async with database.reading() as session:
            found = await authenticate(session, token)
            keys = (await list_keys(session, found.actor.organization_id)).items
            return found.actor.role, found.key.unlimited, len(keys)
    finally:
        await database.dispose()


class TestDevelopment:
    async def test_the_token_is_kept_for_the_owner_only(self, url: str, tmp_path: Path) -> None:
        kept = tmp_path / "state" / "api-key"
        await bootstrap(url, Wanted("dev", "development", kept, unlimited=True))
        assert kept.stat().st_mode & 0o777 == 0o600
        assert await keys_of(url, kept.read_text().strip()) == (Role.OWNER, True, 1)

    async def test_a_second_time_changes_nothing(self, url: str, tmp_path: Path) -> None:
        wanted = Wanted("dev", "development", tmp_path / "api-key", unlimited=True)
        first = await bootstrap(url, wanted)
        token = (tmp_path / "api-key").read_text()
        second = await bootstrap(url, wanted)
        assert (tmp_path / "api-key").read_text() == token
        assert (second.installation_id, second.organization_id) == (
            first.installation_id,
            first.organization_id,
        )
        assert second.token is None
        assert (await keys_of(url, token.strip()))[2] == 1

    async def test_a_new_database_takes_the_same_token(self, url: str, tmp_path: Path) -> None:
        wanted = Wanted("dev", "development", tmp_path / "api-key", unlimited=True)
        await bootstrap(url, wanted)
        token = (tmp_path / "api-key").read_text().strip()
        other = f"sqlite:///{tmp_path / 'other.db'}"
        await bootstrap(other, wanted)
        assert (await keys_of(other, token))[0] is Role.OWNER


class TestProduction:
    async def test_the_token_is_given_once(self, url: str) -> None:
        first = await bootstrap(url, Wanted("acme", "ci"))
        assert first.token is not None
        assert await keys_of(url, first.token) == (Role.OWNER, False, 1)
        assert (await bootstrap(url, Wanted("acme", "ci"))).token is None

    def test_names_are_needed(self) -> None:
        given = argparse.Namespace(organization="acme", key_name=None, key_file=None)
        with pytest.raises(SystemExit, match="--key-name"):
            wanted_of(given, development=False)
