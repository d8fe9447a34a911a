"""Sets an installation up, and can be run as often as wanted: `python -m worker.bootstrap`.

Migrates the database, gives the installation its id, and sees to an organisation, a principal and an owner's
API key. In development the key's token is kept in a file, so that a new database takes the same one;
elsewhere it is printed once, when the key is made.
"""

import argparse
import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.engine import Database
from activities.db.errors import Unauthenticated
from activities.db.migrate import migrate
from activities.db.repositories.installation import installation_id
from activities.db.repositories.keys import authenticate, create_key, is_named
from activities.db.repositories.organizations import claim_name, create_organization, create_principal
from activities.db.tables import PrincipalKind, Role
from activities.secrets import new_token
from activities.settings import DEV_STATE, Environment
from worker.settings import WorkerSettings

DEV_ORGANIZATION: Final = "dev"
DEV_KEY: Final = "development"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The key that is to exist. With `key_file` its token is kept there; without, it is handed back once."""

    organization: str
    key_name: str
    key_file: Path | None = None
    unlimited: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What exists afterwards. `token` is given only when the key was made just now."""

    installation_id: str
    organization_id: str
    token: str | None


async def bootstrap(database_url: str, wanted: Wanted) -> Found:
    """Bring the database to this code's schema and see to the wanted key; a second time changes nothing."""
    await migrate(database_url)
    database = Database(database_url)
    try:
        async with database.transaction() as session:
            installation = await installation_id(session)
            organization = await claim_name(session, wanted.organization)
            if organization is None:
                organization = await create_organization(session, wanted.organization)
            token = await _ensure_key(session, organization.id, wanted)
        # Only after the commit: a token in the file is one that works.
        if token is not None and wanted.key_file is not None:
            _keep(wanted.key_file, token)
    finally:
        await database.dispose()
    return Found(installation_id=installation, organization_id=organization.id, token=token)


async def _ensure_key(session: AsyncSession, organization_id: str, wanted: Wanted) -> str | None:
    """Return the token of the key that had to be made; None when it was there."""
    token = None
    if wanted.key_file is not None:
        token = _kept(wanted.key_file) or new_token()
        try:
            await authenticate(session, token, organization_id)
        except Unauthenticated:
            pass
        else:
            return None
    elif await is_named(session, organization_id, wanted.key_name):
        return None
    principal = await create_principal(session, organization_id, PrincipalKind.SERVICE, wanted.key_name)
    created = await create_key(
        session,
        organization_id,
        principal.id,
        name=wanted.key_name,
        role=Role.OWNER,
        unlimited=wanted.unlimited,
        token=token,
    )
    return created.token


def _kept(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except FileNotFoundError:
        return None


def _keep(path: Path, token: str) -> None:
    """Write the token where only its owner reads it, from the first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(f"{token}\n")


def wanted_of(given: argparse.Namespace, *, development: bool) -> Wanted:
    """Return what the command line asks for; development fills in what is not said. Raises SystemExit."""
    if development:
        return Wanted(
            organization=given.organization or DEV_ORGANIZATION,
            key_name=given.key_name or DEV_KEY,
            key_file=given.key_file or (None if given.organization else DEV_STATE / "api-key"),
            unlimited=True,
        )
    if not given.organization or not given.key_name:
        raise SystemExit("outside development, --organization and --key-name are needed")
    return Wanted(organization=given.organization, key_name=given.key_name, key_file=given.key_file)


def main() -> None:
    """Run from the command line, with the worker's settings."""
    parser = argparse.ArgumentParser(
        prog="python -m worker.bootstrap", description="Migrates the database and makes the first API key."
    )
    parser.add_argument("--organization", metavar="NAME", help="made when it does not exist")
    parser.add_argument("--key-name", metavar="NAME", help="an owner's key; one of this name is made once")
    parser.add_argument(
        "--key-file", metavar="FILE", type=Path, help="keep the token there instead of printing it"
    )
    given = parser.parse_args()
    settings = WorkerSettings()
    wanted = wanted_of(given, development=settings.environment is Environment.DEV)
    found = asyncio.run(bootstrap(settings.database_url, wanted))
    sys.stderr.write(f"installation {found.installation_id}, organisation {found.organization_id}\n")
    if wanted.key_file is not None:
        sys.stderr.write(f"the API key's token is in {wanted.key_file}\n")
    elif found.token is not None:
        sys.stderr.write("the API key's token follows; it is not shown again\n")
        sys.stdout.write(f"{found.token}\n")
    else:
        sys.stderr.write(f"the API key {wanted.key_name!r} exists; its token is not shown again\n")


if __name__ == "__main__":
    main()
