"""`perdure snapshot`: take environments as they are, with their data, and bring them back."""

# ruff: noqa: PLC0415 - see the package: what a command needs is loaded when it runs
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.asking import confirm
from cli.completion import environment_names, snapshot_ids
from cli.errors import UsageFault
from cli.options import (
    EnvironmentArgument,
    LimitOption,
    MaskingOption,
    OutputOption,
    SearchOption,
    SinceOption,
    TimeoutOption,
    WaitOption,
    assignments,
    moment_before,
    parse_duration,
    several,
    several_option,
    sort_option,
    whole_hours,
    whole_minutes,
)
from cli.output import OutputFormat, emit, tell
from cli.session import session_of

if TYPE_CHECKING:
    from pydantic import JsonValue


class Floor(StrEnum):
    """The least consistency that is of use, the best first."""

    APPLICATION = "application"
    CRASH_GROUP = "crash-group"
    CRASH_VOLUME = "crash-volume"
    LIVE_COPY = "live-copy"
    CONFIG_ONLY = "config-only"


class SnapshotState(StrEnum):
    """Where a snapshot stands."""

    CREATING = "creating"
    AVAILABLE = "available"
    FAILED = "failed"
    DELETING = "deleting"


app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
SnapshotArgument = Annotated[
    str,
    typer.Argument(
        metavar="SNAPSHOT",
        help="Id of the snapshot (snap_...), or latest:NAME for an environment's newest that is available.",
        autocompletion=snapshot_ids,
    ),
]


@app.command("create")
def create(
    context: typer.Context,
    environment: EnvironmentArgument,
    name: Annotated[str | None, typer.Option("--name", help="A name for people.")] = None,
    floor: Annotated[
        Floor | None,
        typer.Option("--floor", help="Fail, and keep nothing, when no better than this can be had."),
    ] = None,
    days: Annotated[
        int | None,
        typer.Option("--expires-in-days", min=1, max=3650, help="Keep it for so long; 30 if absent."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep it until it is deleted.")] = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Take a snapshot of an environment that runs: Blueprint, secrets and data. It runs on meanwhile.

    It can be used once its operation has succeeded, and shows what was reached for each service.
    """
    from cli import views_snapshots
    from cli.commands.environments import finish
    from cli.lookup import environment_id

    if keep and days is not None:
        raise UsageFault("--keep and --expires-in-days exclude each other.")
    body: dict[str, JsonValue] = {}
    if name is not None:
        body["name"] = name
    if floor is not None:
        body["consistencyFloor"] = floor.value
    if keep or days is not None:
        body["expiresInDays"] = days
    with session_of(context).client() as client:
        answer = client.take_snapshot(environment_id(client, environment), body)
        finish(client, answer, environment, wait, timeout, output)
        snapshot = answer.value.snapshot_id
        if wait and snapshot is not None and output is OutputFormat.TABLE:
            taken = client.snapshot(snapshot)
            emit(output, taken.raw, views_snapshots.snapshot(taken.value))


@app.command("list")
def list_snapshots(
    context: typer.Context,
    environment: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|ID]",
            help="Name or id of an environment; all if absent, those that are gone too.",
            autocompletion=environment_names,
        ),
    ] = None,
    state: Annotated[
        list[SnapshotState] | None, typer.Option("--state", help="Only those in this state; repeatable.")
    ] = None,
    scheduled: Annotated[
        bool | None,
        typer.Option("--scheduled/--asked-for", help="Only those of a policy, or the others."),
    ] = None,
    verified: Annotated[
        bool | None,
        typer.Option("--verified/--unverified", help="Only those that were verified, or never."),
    ] = None,
    search: SearchOption = None,
    since: SinceOption = None,
    sort: Annotated[str | None, sort_option("createdAt or storedBytes", "-createdAt")] = None,
    limit: LimitOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List snapshots, the newest first unless `--sort` says otherwise."""
    from cli import views_snapshots
    from cli.lookup import snapshots_of

    wanted: dict[str, JsonValue] = {
        "state": several([each.value for each in state or ()]),
        "scheduled": scheduled,
        "verified": verified,
        "q": search,
        "since": moment_before(since),
        "sort": sort,
    }
    with session_of(context).client() as client:
        if environment is None:
            answer = client.snapshots(wanted=wanted, limit=limit)
        else:
            answer = snapshots_of(client, environment, wanted, limit=limit)
    emit(output, answer.raw, views_snapshots.snapshot_list(answer.value))


@app.command("get")
def get(
    context: typer.Context, snapshot: SnapshotArgument, output: OutputOption = OutputFormat.TABLE
) -> None:
    """Show a snapshot with what was reached for each service."""
    from cli import views_snapshots
    from cli.lookup import snapshot_id

    with session_of(context).client() as client:
        answer = client.snapshot(snapshot_id(client, snapshot))
    emit(output, answer.raw, views_snapshots.snapshot(answer.value))


@app.command("manifest")
def manifest(
    context: typer.Context,
    snapshot: SnapshotArgument,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="Write it there, as JSON.")
    ] = None,
    output: OutputOption = OutputFormat.JSON,
) -> None:
    """Print all that is written down of a snapshot but bytes and secrets: Blueprint, images, digests."""
    from cli.files import write_json
    from cli.lookup import snapshot_id
    from cli.output import to_yaml

    with session_of(context).client() as client:
        document = client.snapshot_manifest(snapshot_id(client, snapshot))
    if file is None:
        emit(output, document, [to_yaml(document).rstrip("\n")])
    else:
        write_json(file, document)


@app.command("restore")
def restore(
    context: typer.Context,
    snapshot: SnapshotArgument,
    into: Annotated[
        str | None, typer.Option("--into", metavar="NEW-NAME", help="Make a new environment of this name.")
    ] = None,
    in_place: Annotated[
        str | None,
        typer.Option(
            "--in-place",
            metavar="NAME|ID",
            help="Replace the data of this environment; its Blueprint and secrets stay.",
            autocompletion=environment_names,
        ),
    ] = None,
    storage_class: Annotated[
        list[str] | None,
        typer.Option(
            "--storage-class", metavar="OLD=NEW", help="Of a new environment's volumes. May be repeated."
        ),
    ] = None,
    masking: MaskingOption = None,
    run_init: Annotated[
        bool, typer.Option("--run-init", help="Run init over the data that are loaded, whether it ever ran.")
    ] = False,
    current_images: Annotated[
        bool,
        typer.Option(
            "--current-images",
            help="Of a new environment: run what the tags mean now, not the images that the snapshot saw.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; only a terminal is asked.")] = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Restore a snapshot: --into a new environment, or --in-place of the data of one that is there."""
    from cli.commands.environments import finish
    from cli.files import read_masking
    from cli.lookup import environment_id, snapshot_id

    classes = assignments("--storage-class", storage_class, "OLD=NEW")
    if (into is None) == (in_place is None):
        raise UsageFault("One of --into and --in-place says where to.")
    if in_place is not None and classes:
        raise UsageFault("--storage-class goes with --into: volumes of an environment that is there stay.")
    if in_place is not None and current_images:
        raise UsageFault("--current-images goes with --into: what is there has images of its own.")
    body: dict[str, JsonValue] = {}
    if masking is not None:
        body["masking"] = read_masking(masking)
    with session_of(context).client() as client:
        identifier = snapshot_id(client, snapshot)
        if in_place is not None:
            body["environmentId"] = environment_id(client, in_place, living=True)
            confirm(f"Replace the data of environment {in_place} by that of {identifier}?", yes=yes)
        else:
            body["name"] = into
            if classes:
                body["storageClasses"] = {**classes}
        if run_init:
            body["runInit"] = True
        if current_images:
            body["currentImages"] = True
        answer = client.restore_snapshot(identifier, body)
        finish(client, answer, in_place or into or "", wait, timeout, output)


@app.command("verify")
def verify(
    context: typer.Context,
    snapshot: SnapshotArgument,
    level: Annotated[
        int | None,
        typer.Option(
            "--level",
            min=0,
            max=2,
            help="0: objects, sizes, digests. 1: opened and read to the end; the default. "
            "2: restored into an environment of its own, compared, deleted.",
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Stay until the verification is over.")
    ] = True,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="DURATION",
            parser=parse_duration,
            help="Wait no longer (45s, 10m, 1h30m), then exit 5; it goes on. Default: no limit.",
        ),
    ] = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Verify that a snapshot is what it says; shows what is not, and then exits 1.

    It exits 1 too when it could not be told (`aborted`): that says nothing about the snapshot.
    """
    from cli import views_snapshots
    from cli.lookup import snapshot_id
    from cli.verifying import conclude, wait_for

    with session_of(context).client() as client:
        identifier = snapshot_id(client, snapshot)
        answer = client.verify_snapshot(identifier, level)
        if wait:
            answer = wait_for(client, answer.value, timeout=timeout)
    emit(output, answer.raw, views_snapshots.verification(answer.value))
    if wait:
        conclude(answer.value)
    else:
        tell(f"See what becomes of it: perdure snapshot verifications {identifier}")


@app.command("verifications")
def verifications(
    context: typer.Context,
    snapshot: SnapshotArgument,
    state: Annotated[list[str] | None, several_option("--state", "running, passed, failed, aborted")] = None,
    level: Annotated[int | None, typer.Option("--level", min=0, max=2, help="Only those of it.")] = None,
    sort: Annotated[str | None, sort_option("createdAt", "-createdAt")] = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List the verifications of a snapshot, the newest first unless `--sort` says otherwise."""
    from cli import views_snapshots
    from cli.lookup import snapshot_id

    with session_of(context).client() as client:
        answer = client.verifications(
            snapshot_id(client, snapshot), {"state": several(state), "level": level, "sort": sort}
        )
    emit(output, answer.raw, views_snapshots.verification_list(answer.value))


@app.command("delete")
def delete(
    context: typer.Context,
    snapshot: SnapshotArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; only a terminal is asked.")] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Delete a snapshot: it cannot be used from now on, and what is stored of it is removed soon."""
    from cli.lookup import snapshot_id

    with session_of(context).client() as client:
        identifier = snapshot_id(client, snapshot)
        confirm(f"Delete snapshot {identifier}?", yes=yes)
        answer = client.delete_snapshot(identifier)
    if output is OutputFormat.TABLE:
        tell(f"Snapshot {identifier} is {answer.value.state}.")
    else:
        emit(output, answer.raw, ())


@app.command("policy")
def policy(
    context: typer.Context,
    environment: EnvironmentArgument,
    every: Annotated[
        str | None, typer.Option("--every", metavar="DURATION", help="Take one so often: 1d, 6h, 30m.")
    ] = None,
    keep_last: Annotated[
        int | None, typer.Option("--keep-last", min=1, max=1000, help="Of those that it brings about.")
    ] = None,
    days: Annotated[
        int | None,
        typer.Option("--expires-in-days", min=1, max=3650, help="Keep each for so long; 30 if absent."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Let none expire.")] = False,
    floor: Annotated[
        Floor | None, typer.Option("--floor", help="Keep none when no better than this can be had.")
    ] = None,
    verify: Annotated[
        int | None, typer.Option("--verify", metavar="LEVEL", min=0, max=2, help="Verify each to this level.")
    ] = None,
    verify_every: Annotated[
        str | None,
        typer.Option("--verify-every", metavar="DURATION", help="Verify those that it keeps anew: 7d, 12h."),
    ] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Keep the policy, and take none.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take the policy away.")] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Show or set when an environment is taken a snapshot of by itself. Setting it says all of it anew."""
    from cli import views_snapshots
    from cli.lookup import environment_id

    given = (keep_last, days, floor, verify, verify_every)
    wanted = any(each is not None for each in given) or keep or paused
    if wanted and every is None:
        raise UsageFault("A policy needs --every.")
    if remove and (wanted or every is not None):
        raise UsageFault("--remove goes with nothing else.")
    if verify_every is not None and verify is None:
        raise UsageFault("--verify-every needs --verify, which says how far.")
    hours = None if verify_every is None else whole_hours("--verify-every", verify_every)
    minutes = None if every is None else whole_minutes("--every", every)
    if keep and days is not None:
        raise UsageFault("--keep and --expires-in-days exclude each other.")
    with session_of(context).client() as client:
        identifier = environment_id(client, environment)
        if remove:
            client.remove_snapshot_policy(identifier)
            tell(f"{environment} is taken no snapshots of by itself any more.")
            return
        if minutes is None:
            answer = client.snapshot_policy(identifier)
        else:
            body: dict[str, JsonValue] = {
                "everyMinutes": minutes,
                "keepLast": keep_last,
                "consistencyFloor": None if floor is None else floor.value,
                "verifyLevel": verify,
                "verifyEveryHours": hours,
                "paused": paused,
            }
            if keep or days is not None:
                body["expiresInDays"] = days
            answer = client.put_snapshot_policy(identifier, body)
    emit(output, answer.raw, views_snapshots.policy(answer.value))
