"""An organisation's own templates; the bundled ones are no rows."""

from dataclasses import dataclass

from pydantic import JsonValue
from sqlmodel import col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.errors import DomainError, NameTaken, NotFound
from activities.db.ids import IdPrefix, new_id
from activities.db.records import Actor, JsonObject, TemplateRecord, template_record
from activities.db.repositories._rows import locked_organization
from activities.db.repositories.audit import add_entry
from activities.db.tables import Template
from activities.db.types import utc_now

MOST_TEMPLATES = 200
"""Of one organisation: all of them are read at once."""


@dataclass(frozen=True, slots=True)
class TemplateContent:
    """What somebody writes of a template."""

    name: str
    description: str
    parameters: list[JsonValue]
    blueprint: JsonObject


class TooManyTemplates(DomainError):
    """The organisation has as many templates as it may."""

    def __init__(self) -> None:
        super().__init__(f"there are {MOST_TEMPLATES} templates already: delete one first")


async def list_templates(session: AsyncSession, organization_id: str) -> tuple[TemplateRecord, ...]:
    """Return all of an organisation's, by name."""
    query = select(Template).where(col(Template.organization_id) == organization_id)
    rows = await session.exec(query.order_by(col(Template.name)))
    return tuple(template_record(row) for row in rows)


async def get_template(session: AsyncSession, organization_id: str, key: str) -> TemplateRecord:
    """Return the one with this id or name. Raises NotFound."""
    return template_record(await _row(session, organization_id, key))


async def create_template(session: AsyncSession, actor: Actor, content: TemplateContent) -> TemplateRecord:
    """Store a template. Raises NameTaken, TooManyTemplates."""
    await locked_organization(session, actor.organization_id)
    known = await list_templates(session, actor.organization_id)
    _refuse_taken(known, content.name, None)
    if len(known) >= MOST_TEMPLATES:
        raise TooManyTemplates
    now = utc_now()
    row = Template(
        id=new_id(IdPrefix.TEMPLATE),
        organization_id=actor.organization_id,
        name=content.name,
        description=content.description,
        parameters=content.parameters,
        blueprint=content.blueprint,
        created_by=actor.principal_id,
        created_at=now,
        updated_at=now,
    )
    session.add(row)
    await add_entry(session, actor, "template.create", row.id, {"name": row.name})
    await session.flush()
    return template_record(row)


async def update_template(
    session: AsyncSession, actor: Actor, key: str, content: TemplateContent
) -> TemplateRecord:
    """Put another content in a template's place. Raises NotFound, NameTaken."""
    await locked_organization(session, actor.organization_id)
    row = await _row(session, actor.organization_id, key)
    _refuse_taken(await list_templates(session, actor.organization_id), content.name, row.id)
    row.name, row.description = content.name, content.description
    row.parameters, row.blueprint = content.parameters, content.blueprint
    row.updated_at = utc_now()
    session.add(row)
    await add_entry(session, actor, "template.update", row.id, {"name": row.name})
    await session.flush()
    return template_record(row)


async def delete_template(session: AsyncSession, actor: Actor, key: str) -> TemplateRecord:
    """Remove a template for good. Raises NotFound."""
    row = await _row(session, actor.organization_id, key)
    record = template_record(row)
    await session.delete(row)
    await add_entry(session, actor, "template.delete", row.id, {"name": row.name})
    await session.flush()
    return record


async def _row(session: AsyncSession, organization_id: str, key: str) -> Template:
    query = select(Template).where(
        col(Template.organization_id) == organization_id,
        or_(col(Template.id) == key, col(Template.name) == key),
    )
    row = (await session.exec(query)).one_or_none()
    if row is None:
        raise NotFound("template", key)
    return row


def _refuse_taken(known: tuple[TemplateRecord, ...], name: str, own: str | None) -> None:
    for record in known:
        if record.name == name and record.id != own:
            raise NameTaken("template", name, record.id)
