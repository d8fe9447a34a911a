"""`perdure admin orphans`, `adopt` and `purge`: what the cluster has and the database does not know."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.errors import CliError, ExitCode
from cli.options import OutputOption
from cli.output import OutputFormat, emit, tell
from cli.text import age, columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import JsonValue

    from admin.orphans import OrphanNamespace, Survey

ClusterOption = Annotated[
    str | None, typer.Option("--cluster", metavar="NAME", help="Which one. [PERDURE_CLUSTER]")
]


def orphans(cluster: ClusterOption = None, output: OutputOption = OutputFormat.TABLE) -> None:
    """List namespaces of this installation that no environment answers for, and environments that differ.

    Changes nothing, but notes since when each namespace is seen orphaned: `purge` goes by that.
    """
    from admin.opened import open_database, open_gateway, read_settings, run
    from admin.orphans import survey

    settings = read_settings()

    async def work() -> "Survey":
        async with open_database(settings) as database, open_gateway(settings, cluster) as gateway:
            return await survey(database, gateway)

    found = run(work)
    emit(output, _raw(found), _table(found))


def purge(
    namespaces: Annotated[
        list[str] | None, typer.Argument(metavar="NAMESPACE...", help="Which orphans.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every orphan that nothing speaks against; the others stay.")
    ] = False,
    cluster: ClusterOption = None,
    now: Annotated[bool, typer.Option("--now", help="Also those seen orphaned for less than 24 h.")] = False,
    with_volumes: Annotated[
        bool, typer.Option("--with-volumes", help="Also those with volumes: their data is lost.")
    ] = False,
    force: Annotated[
        str | None,
        typer.Option("--force", metavar="SENTENCE", help="When over 10 % look orphaned; it tells which."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete orphaned namespaces of this installation, with all that is in them. Asks before."""
    from admin.opened import open_database, open_gateway, read_settings, run
    from admin.orphans import chosen, remove, survey
    from admin.purge_rules import check_numbers

    if bool(namespaces) == every:
        raise typer.BadParameter("give the namespaces, or --all", param_hint="NAMESPACE")
    settings = read_settings()

    async def work() -> int:
        async with open_database(settings) as database, open_gateway(settings, cluster) as gateway:
            found = await survey(database, gateway)
            wanted = list(found.orphans) if every else chosen(found, namespaces or [])
            going = _without_objections(wanted, skip=every, at_once=now, volumes=with_volumes)
            if not going:
                tell("There is nothing to delete.")
                return 0
            check_numbers(found, len(going), force)
            _confirm(found.cluster, going, asked=yes)
            stuck = 0
            for each in going:
                became = await remove(database, gateway, each)
                stuck += became != "gone"
                tell(f"{each.name}: {became}")
            return stuck

    if run(work):
        raise typer.Exit(ExitCode.FAILED)


def _without_objections(
    wanted: "Sequence[OrphanNamespace]", *, skip: bool, at_once: bool, volumes: bool
) -> "list[OrphanNamespace]":
    """Return those that nothing speaks against; with `skip` the others are said to stay.

    Raises CliError without it, when anything speaks against one of them.
    """
    from admin.purge_rules import objections

    now = datetime.now(UTC)
    against = {each.name: objections(each, now, at_once=at_once, volumes=volumes) for each in wanted}
    refused = [f"{name}: {'; '.join(reasons)}" for name, reasons in against.items() if reasons]
    if refused and not skip:
        raise CliError("Nothing was deleted.", exit_code=ExitCode.REFUSED, details=refused)
    tell(*(f"Left alone: {line}" for line in refused))
    return [each for each in wanted if not against[each.name]]


def _confirm(cluster: str, going: "Sequence[OrphanNamespace]", *, asked: bool) -> None:
    """Say what is going to be deleted, and ask unless that was done. Raises CliError for a no."""
    tell(*(f"{each.name} ({each.environment_name}, {_volumes(each)})" for each in going))
    question = f"Delete {len(going)} namespaces of {cluster} with all that is in them?"
    if not asked and not typer.confirm(question, err=True):
        raise CliError("Nothing was deleted.")


def adopt(
    namespace: Annotated[str, typer.Argument(metavar="NAMESPACE", help="The orphan.")],
    file: Annotated[
        Path,
        typer.Option("--file", "-f", metavar="FILE", help="The environment's Blueprint, in YAML or JSON."),
    ],
    plan: Annotated[str | None, typer.Option("--plan", help="One of the Blueprint's named plans.")] = None,
    cluster: ClusterOption = None,
) -> None:
    """Take an orphan back as an environment: a provision makes what is there what the Blueprint says.

    The namespace tells id, name, organisation, revision number, fence and the values of generated secrets. It
    does not tell the Blueprint, earlier revisions, operations and events, who made it, its labels and timers,
    share links, or values of secrets of the organisation.
    """
    from activities.db.acceptance import Accepted
    from admin.adoption import adopt as adopt_namespace
    from admin.adoption import read_blueprint
    from admin.opened import open_database, open_gateway, read_master_keys, read_settings, run
    from admin.orphans import chosen, survey

    settings = read_settings()
    keys = read_master_keys(settings)

    async def work() -> Accepted:
        async with open_database(settings) as database, open_gateway(settings, cluster) as gateway:
            [orphan] = chosen(await survey(database, gateway), [namespace])
            blueprint = read_blueprint(file, name=orphan.environment_name, plan=plan)
            return await adopt_namespace(
                database, gateway, orphan, blueprint, keys=keys, guard_rails=settings.guard_rails()
            )

    accepted = run(work)
    tell(
        f"{accepted.environment.name} ({accepted.environment.id}) is an environment again, at revision "
        f"{accepted.environment.revision}.",
        f"Operation {accepted.operation.id} is started by the next look of a control worker: "
        f"`perdure op watch {accepted.operation.id}`.",
        "Not known any more: earlier revisions, operations, events, checkpoints, share links, who made it.",
    )


def _table(found: "Survey") -> list[str]:
    rows = [
        [
            each.name,
            each.environment_name,
            each.organization_id,
            age(each.made_at),
            age(each.seen_at),
            "being deleted" if each.going else _volumes(each),
        ]
        for each in found.orphans
    ]
    lines = [f"{len(found.orphans)} of {found.namespaces} namespaces of {found.cluster} are orphans."]
    if rows:
        header = ["NAMESPACE", "NAME", "ORGANIZATION", "AGE", "SEEN FOR", "HOLDS"]
        lines += ["", *columns(header, rows)]
    if found.missing:
        lines += ["", "Environments without their namespace (delete or retry them):"]
        lines += [f"  {each.name} ({each.id})" for each in found.missing]
    if found.changed:
        lines += ["", "Environments that were changed by operations that are not known here (update them):"]
        lines += [f"  {each.name} ({each.id})" for each in found.changed]
    return lines


def _volumes(orphan: "OrphanNamespace") -> str:
    if orphan.volumes is None:
        return "volumes unknown"
    return f"volumes {', '.join(orphan.volumes)}" if orphan.volumes else "no volumes"


def _raw(found: "Survey") -> "JsonValue":
    listed: list[JsonValue] = [
        {
            "namespace": each.name,
            "uid": each.uid,
            "environmentId": each.environment_id,
            "name": each.environment_name,
            "organizationId": each.organization_id,
            "seenAt": each.seen_at.isoformat(),
            "volumes": None if each.volumes is None else list(each.volumes),
            "beingDeleted": each.going,
        }
        for each in found.orphans
    ]
    return {
        "cluster": found.cluster,
        "namespaces": found.namespaces,
        "orphans": listed,
        "missing": [{"id": each.id, "name": each.name} for each in found.missing],
        "changed": [{"id": each.id, "name": each.name} for each in found.changed],
    }
