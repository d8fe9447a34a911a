"""Secrets and data keys at rest. Values leave only through `secret_values`, which only sealing calls."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import ColumnElement, bindparam
from sqlmodel import col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from activities.db.core import insert_rows, table_of
from activities.db.errors import NotFound
from activities.db.ids import IdPrefix, new_id
from activities.db.records import SecretRecord, secret_record
from activities.db.repositories._rows import locked_organization, owned_row
from activities.db.repositories.paging import ByNameOrChange, Filter, Listing, Page, holding
from activities.db.tables import DataKey as DataKeyRow
from activities.db.tables import Secret
from activities.db.types import utc_now
from activities.secrets import DataKey, MasterKeys, WrappedKey

_DATA_KEYS: Final = table_of(DataKeyRow)
_LATEST_KEY: Final = (
    select(_DATA_KEYS.c.id, _DATA_KEYS.c.master_key_id, _DATA_KEYS.c.wrapped)
    .where(_DATA_KEYS.c.organization_id == bindparam("organization_id"))
    .order_by(_DATA_KEYS.c.number.desc())
    .limit(1)
)


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A value that is about to be stored; `generated`: by us, nobody has seen it."""

    value: str = field(repr=False)
    generated: bool


async def data_key(session: AsyncSession, organization_id: str, keys: MasterKeys) -> DataKey:
    """Return the organisation's current data key; makes the first one, under the organisation's lock.

    Raises NotFound for an unknown organisation, SecretsError when the master key is missing.
    """
    known = await _latest_key(session, organization_id)
    if known is None:
        await locked_organization(session, organization_id)
        known = await _latest_key(session, organization_id)
    if known is None:
        known = keys.new_data_key(new_id(IdPrefix.DATA_KEY), organization_id)
        row = DataKeyRow(
            id=known.id,
            organization_id=organization_id,
            number=1,
            master_key_id=known.master_key_id,
            wrapped=known.wrapped,
            created_at=utc_now(),
        )
        session.add(row)
        await session.flush()
    return keys.unwrap(known)


async def open_data_key(
    session: AsyncSession, organization_id: str, data_key_id: str, keys: MasterKeys
) -> DataKey:
    """Return one data key, the current or an older one. Raises NotFound and SecretsError."""
    row = await owned_row(session, DataKeyRow, data_key_id, organization_id, "data key")
    return keys.unwrap(_wrapped(row))


async def wrapped_keys(session: AsyncSession) -> tuple[WrappedKey, ...]:
    """Return the data keys of all organisations as they are stored, by organisation."""
    query = select(DataKeyRow).order_by(col(DataKeyRow.organization_id), col(DataKeyRow.number))
    return tuple(_wrapped(row) for row in await session.exec(query))


async def behind_in_rotation(session: AsyncSession, current_id: str) -> tuple[str, ...]:
    """Return the organisations that have data keys under another master key than this one."""
    query = select(DataKeyRow.organization_id).where(col(DataKeyRow.master_key_id) != current_id)
    rows = await session.exec(query.distinct().order_by(DataKeyRow.organization_id))
    return tuple(rows.all())


async def rewrap_data_keys(
    session: AsyncSession, keys: MasterKeys, organization_id: str | None = None
) -> int:
    """Wrap every data key that is under another master key anew under the current one; return how many.

    Only an organisation's, when one is given. Raises SecretsError, with nothing written, when one does not
    open.
    """
    query = select(DataKeyRow).where(col(DataKeyRow.master_key_id) != keys.current_id)
    if organization_id is not None:
        query = query.where(col(DataKeyRow.organization_id) == organization_id)
    rows = (await session.exec(query.order_by(col(DataKeyRow.id)).with_for_update())).all()
    renewed = [keys.rewrap(_wrapped(row)) for row in rows]
    for row, key in zip(rows, renewed, strict=True):
        row.wrapped = key.wrapped
        row.master_key_id = key.master_key_id
    await session.flush()
    return len(rows)


async def store_secret(
    session: AsyncSession,
    organization_id: str,
    name: str,
    value: str,
    *,
    key: DataKey,
    environment_id: str | None = None,
    generated: bool = False,
) -> SecretRecord:
    """Store a value encrypted, of an environment or (None) the organisation; a known name gets a new value.

    `key` is the organisation's data key.
    """
    row = await _find(session, organization_id, environment_id, name)
    now = utc_now()
    if row is None:
        row = Secret(
            id=new_id(IdPrefix.SECRET),
            organization_id=organization_id,
            environment_id=environment_id,
            name=name,
            data_key_id=key.id,
            ciphertext=b"",
            created_at=now,
            updated_at=now,
        )
    row.data_key_id = key.id
    row.ciphertext = key.encrypt(value, subject=_subject(row.id, row.environment_id))
    row.generated = generated
    row.updated_at = now
    session.add(row)
    await session.flush()
    return secret_record(row)


async def insert_secrets(
    session: AsyncSession,
    organization_id: str,
    environment_id: str,
    values: Mapping[str, NewSecret],
    key: DataKey,
    *,
    revision: int = 1,
) -> None:
    """Store values that an environment has from a revision on, by name.

    `key` is the organisation's data key.
    """
    now = utc_now()
    rows = []
    for name, new in values.items():
        identifier = new_id(IdPrefix.SECRET)
        rows.append(
            {
                "id": identifier,
                "organization_id": organization_id,
                "environment_id": environment_id,
                "name": name,
                "since_revision": revision,
                "data_key_id": key.id,
                "ciphertext": key.encrypt(new.value, subject=_subject(identifier, environment_id)),
                "generated": new.generated,
                "created_at": now,
                "updated_at": now,
            }
        )
    await insert_rows(session, Secret, *rows)


@dataclass(frozen=True, slots=True)
class SecretFilter(Filter):
    """Which secrets a list holds. `part` stands in the name."""

    part: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """What rows have to meet."""
        return holding(col(Secret.name), self.part)


_TABLE: Final = table_of(Secret)
_LISTING: Final = Listing(
    name="secrets",
    copy=secret_record,
    by={"name": _TABLE.c.name, "updatedAt": _TABLE.c.updated_at},
    identifier=_TABLE.c.id,
)


async def list_secrets(
    session: AsyncSession,
    organization_id: str,
    environment_id: str | None = None,
    *,
    wanted: SecretFilter = SecretFilter(),
    sort: ByNameOrChange = ByNameOrChange.NAME,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[SecretRecord]:
    """Return a page of an environment's secrets, or (None) the organisation's, without values.

    Raises InvalidCursor.
    """
    query = _of(organization_id, environment_id)
    return await _LISTING.page(
        session, query, environment_id, sort=sort, wanted=wanted, limit=limit, cursor=cursor
    )


async def get_secret(session: AsyncSession, organization_id: str, name: str) -> SecretRecord:
    """Return a secret of the organisation, without its value. Raises NotFound."""
    row = await _find(session, organization_id, None, name)
    if row is None:
        raise NotFound("secret", name)
    return secret_record(row)


async def secret_values(
    session: AsyncSession,
    organization_id: str,
    environment_id: str | None,
    keys: MasterKeys,
    *,
    revision: int | None = None,
) -> dict[str, str]:
    """Return the values of an environment's secrets, or (None) the organisation's, by name.

    `revision`: as that one of the environment has them; None: as the newest has them. Raises SecretsError
    when one cannot be opened.
    """
    query = _of(organization_id, environment_id).order_by(col(Secret.since_revision))
    if revision is not None:
        query = query.where(col(Secret.since_revision) <= revision)
    newest = {row.name: row for row in await session.exec(query)}
    opened: dict[str, DataKey] = {}
    values: dict[str, str] = {}
    for row in newest.values():
        if row.data_key_id not in opened:
            opened[row.data_key_id] = await open_data_key(session, organization_id, row.data_key_id, keys)
        values[row.name] = opened[row.data_key_id].decrypt(
            row.ciphertext, subject=_subject(row.id, row.environment_id)
        )
    return values


async def existing_names(session: AsyncSession, organization_id: str, names: Collection[str]) -> set[str]:
    """Return which of these names are secrets of the organisation."""
    query = _of(organization_id, None).where(col(Secret.name).in_(names))
    return {row.name for row in await session.exec(query)}


async def destroy_environment_secrets(
    session: AsyncSession, organization_id: str, environment_id: str
) -> None:
    """Remove an environment's secrets for good."""
    await session.exec(
        delete(Secret).where(
            col(Secret.organization_id) == organization_id, col(Secret.environment_id) == environment_id
        )
    )


async def _find(
    session: AsyncSession, organization_id: str, environment_id: str | None, name: str
) -> Secret | None:
    query = _of(organization_id, environment_id).where(col(Secret.name) == name)
    return (await session.exec(query.order_by(col(Secret.since_revision).desc()).limit(1))).one_or_none()


def _of(organization_id: str, environment_id: str | None) -> SelectOfScalar[Secret]:
    query = select(Secret).where(col(Secret.organization_id) == organization_id)
    if environment_id is None:
        return query.where(col(Secret.environment_id).is_(None))
    return query.where(col(Secret.environment_id) == environment_id)


async def _latest_key(session: AsyncSession, organization_id: str) -> WrappedKey | None:
    wanted = {"organization_id": organization_id}
    found = (await session.exec(_LATEST_KEY, params=wanted)).one_or_none()
    if found is None:
        return None
    key_id, master_key_id, wrapped = found
    return WrappedKey(key_id, organization_id, master_key_id, wrapped)


def _wrapped(row: DataKeyRow) -> WrappedKey:
    return WrappedKey(
        id=row.id,
        organization_id=row.organization_id,
        master_key_id=row.master_key_id,
        wrapped=row.wrapped,
    )


def _subject(secret_id: str, environment_id: str | None) -> str:
    return f"{secret_id}/{environment_id or ''}"
