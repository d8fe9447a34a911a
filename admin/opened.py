"""What the commands stand on: settings, the database with this version's schema, errors as sentences."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError
from pydantic_settings import SettingsError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from activities.db.engine import Database
from activities.db.migrate import applied_revision, newest_revision
from activities.keyring import KeyringInvalidError
from activities.secrets import MasterKeys, SecretsError
from admin.backup_file import Head
from admin.sealed_keys import SHORTEST_PASSPHRASE, open_keys, written_keys
from admin.settings import AdminSettings
from cli.errors import CliError, UsageFault
from clusters.errors import ClusterError

if TYPE_CHECKING:
    from clusters.gateway import Cluster

Result = TypeVar("Result")


def read_settings() -> AdminSettings:
    """Read the settings. Raises UsageFault."""
    try:
        return AdminSettings()
    except ValidationError as error:
        faults = [
            f"{'.'.join(str(part) for part in fault['loc']) or 'settings'}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        ]
        raise UsageFault("The settings are not usable.", details=faults) from error
    except SettingsError as error:
        raise UsageFault(f"The settings are not usable: {error}.") from error


def read_master_keys(settings: AdminSettings) -> MasterKeys:
    """Read the master keys. Raises UsageFault."""
    try:
        return settings.open_master_keys()
    except KeyringInvalidError as error:
        raise UsageFault(
            f"The master keys cannot be read: {error}.",
            hints=["Set PERDURE_MASTER_KEYS or PERDURE_MASTER_KEYS_FILE as for the API."],
        ) from error


def read_passphrase(settings: AdminSettings, file: Path | None) -> str | None:
    """Read the passphrase of sealed keys, None when none is given. Raises UsageFault."""
    if file is not None:
        try:
            passphrase = file.read_text().partition("\n")[0].strip("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageFault(f"The passphrase cannot be read from {file}.") from error
    elif settings.backup_passphrase is not None:
        passphrase = settings.backup_passphrase.get_secret_value()
    else:
        return None
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise UsageFault(f"The passphrase is too short: at least {SHORTEST_PASSPHRASE} characters.")
    return passphrase


def read_keys_to_restore(
    settings: AdminSettings, head: Head, passphrase: str | None, keys_to: Path | None
) -> MasterKeys:
    """Return the configured master keys; with `keys_to`, those that are sealed in the backup.

    Raises UsageFault.
    """
    if keys_to is None:
        return read_master_keys(settings)
    if head.sealed_keys is None:
        raise UsageFault("There are no master keys in this backup.")
    if passphrase is None:
        raise UsageFault("The master keys in this backup are sealed: give --passphrase-file.")
    try:
        return open_keys(head.sealed_keys, passphrase, head.bound)
    except SecretsError as error:
        raise UsageFault(f"{error}.".capitalize()) from error


def write_keys(path: Path, keys: MasterKeys) -> None:
    """Write master keys to a new file that only its owner may read. Raises UsageFault."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageFault(f"{path} cannot be made: {error.strerror}.") from error
    with os.fdopen(handle, "w") as file:
        file.write(written_keys(keys).replace(",", "\n") + "\n")
        file.flush()
        os.fsync(file.fileno())


@asynccontextmanager
async def open_database(settings: AdminSettings) -> AsyncIterator[Database]:
    """Open the database, which has to have this version's schema. Raises CliError."""
    _refuse_to_make(settings.database_url)
    database = Database(settings.database_url)
    try:
        async with database.reading() as session:
            applied = await applied_revision(await session.connection())
        newest = newest_revision()
        if applied != newest:
            raise CliError(
                f"The database's schema is at {applied or 'no revision'}, this version needs {newest}.",
                hints=["Migrate with `python -m activities.db.migrate URL`, or use its own version."],
            )
        yield database
    finally:
        await database.dispose()


def _refuse_to_make(url: str) -> None:
    """Raise UsageFault for a file that is not there: opened, it would be made."""
    parts = make_url(url)
    if parts.get_backend_name() == "sqlite" and not Path(parts.database or "").is_file():
        raise UsageFault(f"There is no database {parts.database}.", hints=["Set PERDURE_DATABASE_URL."])


@asynccontextmanager
async def open_gateway(settings: AdminSettings, name: str | None) -> AsyncIterator["Cluster"]:
    """Open a cluster by its name, without one the only or the usual one. Raises UsageFault."""
    # Late: the Kubernetes client takes a second.
    from clusters.gateway import ClusterConfig, open_cluster  # noqa: PLC0415

    name = name or settings.cluster
    known = settings.all_clusters
    if name not in known:
        raise UsageFault(
            f"There are no settings for a cluster {name!r}.", details=[f"known: {', '.join(known)}"]
        )
    config = ClusterConfig(kubeconfig=known[name].kubeconfig, context=known[name].context, name=name)
    async with AsyncExitStack() as stack:
        try:
            cluster = await stack.enter_async_context(open_cluster(config))
        except (OSError, ValueError) as error:
            raise UsageFault(f"The cluster {name!r} cannot be opened: {error}.") from error
        yield cluster


def run(work: Callable[[], Coroutine[None, None, Result]]) -> Result:
    """Run to the end; what database, keys and cluster raise becomes a CliError."""
    try:
        return asyncio.run(work())
    except SQLAlchemyError as error:
        # The driver's own text may hold addresses, not parameters.
        raise CliError(f"The database refuses: {type(error).__name__}: {_first_line(error)}") from error
    except OSError as error:
        raise CliError(f"{error.strerror or error}: {error.filename or 'no connection'}") from error
    except SecretsError as error:
        raise CliError(f"The keys do not fit: {error}.") from error
    except ClusterError as error:
        raise CliError(f"The cluster: {error}.") from error


def _first_line(error: SQLAlchemyError) -> str:
    return str(error).splitlines()[0][:200]
