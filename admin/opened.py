"""What the commands stand on: settings, the database with this version's schema, errors as sentences."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import ValidationError
from pydantic_settings import SettingsError
from sqlalchemy import Connection, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from activities.db.engine import Database
from activities.db.revisions import applied_revision, known_revision, newest_revision
from activities.keyring import KeyringInvalidError
from activities.secrets import MasterKeys, SecretsError
from admin.backup_file import Head
from admin.errors import AdminError, NotUsable
from admin.new_file import new_file
from admin.sealed_keys import SHORTEST_PASSPHRASE, open_keys, written_keys
from admin.settings import AdminSettings
from clusters.errors import ClusterError

if TYPE_CHECKING:
    from clusters.gateway import Cluster

Result = TypeVar("Result")

_CLUSTER_HINT: Final = "Set PERDURE_CLUSTER_KUBECONFIG or PERDURE_CLUSTERS as for the API."


def read_settings() -> AdminSettings:
    """Read the settings. Raises NotUsable."""
    try:
        settings = AdminSettings()
        make_url(settings.database_url)
    except ArgumentError as error:
        raise NotUsable(
            "PERDURE_DATABASE_URL is not the address of a database, such as sqlite:////var/lib/perdure.db or "
            "postgresql://USER@HOST/NAME."
        ) from error
    except ValidationError as error:
        faults = [
            f"{_variable(fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors(include_input=False, include_url=False)
        ]
        raise NotUsable("The settings are not usable.", details=faults) from error
    except SettingsError as error:
        raise NotUsable(f"The settings are not usable: {error}.") from error
    return settings


def _variable(place: tuple[int | str, ...]) -> str:
    """The name of the variable that a fault of the settings is about."""
    if not place:
        return "settings"
    return ".".join((f"PERDURE_{str(place[0]).upper()}", *map(str, place[1:])))


def read_master_keys(settings: AdminSettings) -> MasterKeys:
    """Read the master keys. Raises NotUsable."""
    try:
        return settings.open_master_keys()
    except KeyringInvalidError as error:
        raise NotUsable(
            f"The master keys cannot be read: {error}.",
            hints=["Set PERDURE_MASTER_KEYS or PERDURE_MASTER_KEYS_FILE as for the API."],
        ) from error


def read_passphrase(settings: AdminSettings, file: Path | None) -> str | None:
    """Read the passphrase of sealed keys, None when none is given. Raises NotUsable."""
    if file is not None:
        try:
            passphrase = file.read_text().partition("\n")[0].strip("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise NotUsable(f"The passphrase cannot be read from {file}.") from error
    elif settings.backup_passphrase is not None:
        passphrase = settings.backup_passphrase.get_secret_value()
    else:
        return None
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise NotUsable(f"The passphrase is too short: at least {SHORTEST_PASSPHRASE} characters.")
    return passphrase


def read_keys_to_restore(
    settings: AdminSettings, head: Head, passphrase: str | None, keys_to: Path | None
) -> MasterKeys:
    """Return the configured master keys; with `keys_to`, those that are sealed in the backup.

    Raises NotUsable.
    """
    if keys_to is None:
        return read_master_keys(settings)
    if head.sealed_keys is None:
        raise NotUsable("There are no master keys in this backup.")
    if passphrase is None:
        raise NotUsable("The master keys in this backup are sealed: give --passphrase-file.")
    try:
        return open_keys(head.sealed_keys, passphrase, head.bound)
    except SecretsError as error:
        raise NotUsable(f"{error}.".capitalize()) from error


@contextmanager
def kept_keys(path: Path | None, keys: MasterKeys) -> Iterator[None]:
    """Have the keys in a new file of their owner's while the body runs; it goes again unless that ends well.

    A file that holds these very keys is taken: an attempt that was killed has left it. None: no file.
    Raises NotUsable.
    """
    made = path is not None and _write_keys(path, keys)
    try:
        yield
    except BaseException:
        if path is not None and made:
            path.unlink(missing_ok=True)
        raise


def _write_keys(path: Path, keys: MasterKeys) -> bool:
    """Write a file with the keys, whole or not at all; False when it is there already. Raises NotUsable."""
    text = written_keys(keys).replace(",", "\n") + "\n"
    try:
        with new_file(path) as file:
            file.write(text.encode())
    except FileExistsError as error:
        if _text(path) != text:
            raise NotUsable(
                f"{path} exists already and holds something else.", hints=["Name a file that is not there."]
            ) from error
        return False
    except OSError as error:
        raise NotUsable(f"{path} cannot be made: {error.strerror}.") from error
    return True


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return None


@asynccontextmanager
async def open_database(settings: AdminSettings) -> AsyncIterator[Database]:
    """Open the database, which has to have this version's schema. Raises AdminError."""
    _refuse_to_make(settings.database_url)
    database = Database(settings.database_url)
    try:
        async with database.reading() as session:
            connection = await session.connection()
            applied = await applied_revision(connection)
            ours = applied is not None or not await connection.run_sync(_table_names)
        newest = newest_revision()
        if not ours:
            # To migrate it would make our tables in somebody's database.
            raise AdminError(
                "The database is not Perdure's: it has tables of something else.",
                hints=["Set PERDURE_DATABASE_URL as for the API."],
            )
        if applied != newest:
            raise AdminError(
                f"The database's schema is at {applied or 'no revision'}, this version needs {newest}.",
                # An older schema of ours, or none yet. What we do not know may be a newer version's.
                hints=["Migrate with `python -m activities.db.migrate URL`, or use its own version."]
                if applied is None or known_revision(applied)
                else ["It is of a newer version, or not of Perdure: see what PERDURE_DATABASE_URL names."],
            )
        yield database
    finally:
        await database.dispose()


def _table_names(connection: Connection) -> list[str]:
    return inspect(connection).get_table_names()


def _refuse_to_make(url: str) -> None:
    """Raise NotUsable for a file that is not there: opened, it would be made."""
    parts = make_url(url)
    if parts.get_backend_name() == "sqlite" and not Path(parts.database or "").is_file():
        raise NotUsable(f"There is no database {parts.database}.", hints=["Set PERDURE_DATABASE_URL."])


@asynccontextmanager
async def open_gateway(settings: AdminSettings, name: str | None) -> AsyncIterator["Cluster"]:
    """Open a cluster by its name, without one the only or the usual one. Raises NotUsable."""
    # Late: the Kubernetes client takes a second.
    from clusters.gateway import ClusterConfig, open_cluster  # noqa: PLC0415

    name = name or settings.cluster
    known = settings.all_clusters
    if name not in known:
        raise NotUsable(
            f"There are no settings for a cluster {name!r}.",
            details=[f"known: {', '.join(known)}"],
            hints=[_CLUSTER_HINT],
        )
    config = ClusterConfig(kubeconfig=known[name].kubeconfig, context=known[name].context, name=name)
    async with AsyncExitStack() as stack:
        try:
            cluster = await stack.enter_async_context(open_cluster(config))
        except (ClusterError, OSError, ValueError) as error:
            reason = str(error).rstrip(".")
            raise NotUsable(
                f"The cluster {name!r} cannot be opened: {reason}.", hints=[_CLUSTER_HINT]
            ) from error
        yield cluster


def run(work: Callable[[], Coroutine[None, None, Result]]) -> Result:
    """Run to the end; what database, keys and cluster raise becomes a AdminError."""
    try:
        return asyncio.run(work())
    except SQLAlchemyError as error:
        # The driver's own text may hold addresses, not parameters.
        raise AdminError(f"The database refuses: {type(error).__name__}: {_first_line(error)}") from error
    except OSError as error:
        raise AdminError(f"{error.strerror or error}: {error.filename or 'no connection'}") from error
    except SecretsError as error:
        raise AdminError(f"The keys do not fit: {error}.") from error
    except ClusterError as error:
        raise AdminError(f"The cluster: {error}.") from error


def _first_line(error: SQLAlchemyError) -> str:
    return str(error).splitlines()[0][:200]
