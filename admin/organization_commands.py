"""`perdure admin org`: the tenants of an installation, what they may use, and what stands around it."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import OutputOption
from cli.output import OutputFormat, emit, tell
from cli.text import age, columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import JsonValue

    from activities.db.records import Caps, OrganizationRecord
    from admin.organizations import Made, Seen

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

OrganizationArgument = Annotated[
    str, typer.Argument(metavar="NAME|ID", help="Name or id of the organisation.")
]


@app.command("list")
def list_(output: OutputOption = OutputFormat.TABLE) -> None:
    """List the organisations, with what their environments use and how much they may."""
    from admin.opened import open_database, read_settings, run
    from admin.organizations import seen

    settings = read_settings()

    async def work() -> "Sequence[Seen]":
        async with open_database(settings) as database:
            return await seen(database)

    found = run(work)
    header = ["NAME", "ID", "AGE", "ENVIRONMENTS", "CPU", "MEMORY", "STORAGE"]
    emit(output, [_raw(each) for each in found], columns(header, [_row(each) for each in found]))


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new organisation.")],
    key_name: Annotated[
        str, typer.Option("--key-name", metavar="NAME", help="Name of the first owner and of their API key.")
    ] = "owner",
) -> None:
    """Make an organisation, and print the API key of its first owner: once, to standard output.

    It has no caps: `perdure admin org caps` sets them.
    """
    from admin.opened import open_database, read_settings, run
    from admin.organizations import create as create_organization

    settings = read_settings()

    async def work() -> "Made":
        async with open_database(settings) as database:
            return await create_organization(database, name, key_name)

    made = run(work)
    tell(
        f"Organisation {name} ({made.organization.id}) is made.",
        "Its owner's API key follows; it is not shown again.",
    )
    sys.stdout.write(f"{made.token}\n")


@app.command()
def caps(
    name: OrganizationArgument,
    environments: Annotated[
        int | None, typer.Option("--environments", min=0, metavar="N", help="Environments, stopped ones too.")
    ] = None,
    cpu: Annotated[
        str | None, typer.Option("--cpu", metavar="QUANTITY", help="Sum of CPU requests, such as 16 or 500m.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="QUANTITY", help="Sum of memory requests, such as 64Gi.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="QUANTITY",
            help="Sum of the sizes of volumes, not of those that removed or scaled-down services left.",
        ),
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Take away each cap that is not given.")] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Set what an organisation may use over all its environments; without options, show it.

    Caps that are not given stay. What is there already stays too: a cap refuses what would be more.
    """
    from activities.db.records import Caps
    from admin.opened import open_database, read_settings, run
    from admin.organizations import CapChange, change_caps, seen_one

    change = CapChange(
        Caps(environments=environments, cpu=cpu, memory=memory, storage=storage), from_none=none
    )
    settings = read_settings()

    async def work() -> "Seen":
        async with open_database(settings) as database:
            if change.asks:
                return await change_caps(database, name, change)
            return await seen_one(database, name)

    found = run(work)
    used = _texts(found.used.written())
    rows = [[cap, limit or "none", used[cap]] for cap, limit in _texts(found.organization.caps).items()]
    emit(output, _raw(found), columns(["CAP", "LIMIT", "USED"], rows))
    if found.over:
        tell(f"Over the cap: {', '.join(found.over)}. What is there stays, and no more is accepted.")


@app.command("guard-rails")
def guard_rails(
    name: OrganizationArgument,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE", help="Of its own, in place of the cluster's; repeatable."
        ),
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option("--unset", metavar="FIELD", help="As the cluster's again; repeatable.")
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Unset each field that is not set here.")] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Set what stands around each new environment of an organisation; without options, show it.

    Fields: quota, default-requests, default-limits (cpu=4,memory=8Gi), blocked-egress (10.0.0.0/8,...),
    ingress-class, ingress-namespace, base-domain, mirror-image. What is there already keeps what it has.
    """
    from admin.guard_rails import FIELDS, change_rails, own_fields, read_change, seen_rails, shown
    from admin.opened import open_database, read_settings, run
    from workflows.domain.environment import GuardRails

    set_ = {each.partition("=")[0] for each in given or ()}
    change = read_change(given or (), [each for each in FIELDS if each not in set_] if none else unset or ())
    settings = read_settings()

    async def work() -> "OrganizationRecord":
        async with open_database(settings) as database:
            if change.asks:
                return await change_rails(database, name, change)
            return await seen_rails(database, name)

    found = run(work)
    own = GuardRails.model_validate(found.guard_rails)
    rows = [
        [field, value or "none", "organisation" if field in own_fields(own) else "cluster"]
        for field, value in shown(own.on_top_of(settings.guard_rails())).items()
    ]
    raw: JsonValue = {"id": found.id, "name": found.name, "guardRails": found.guard_rails}
    emit(output, raw, columns(["FIELD", "VALUE", "FROM"], rows))


def _row(seen: "Seen") -> list[str]:
    caps, used = _texts(seen.organization.caps), _texts(seen.used.written())
    amounts = [f"{used[each]} of {cap}" if cap else used[each] for each, cap in caps.items()]
    return [seen.organization.name, seen.organization.id, age(seen.organization.created_at), *amounts]


def _texts(caps: "Caps") -> dict[str, str]:
    """Each cap by name; empty: there is none."""
    return {name: "" if value is None else str(value) for name, value in caps.model_dump().items()}


def _raw(seen: "Seen") -> "JsonValue":
    return {
        "id": seen.organization.id,
        "name": seen.organization.name,
        "createdAt": seen.organization.created_at.isoformat(),
        "caps": seen.organization.caps.model_dump(),
        "used": seen.used.written().model_dump(),
    }
