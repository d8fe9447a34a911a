"""What lists are narrowed to and ordered by: for each a class of query parameters, which FastAPI fills in and
checks before the database sees them, with `wanted` and `sort` as the list's repository takes them.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import Query
from pydantic import AfterValidator, AwareDatetime, BeforeValidator

from activities.db.access import PrincipalFilter
from activities.db.repositories.audit import AuditFilter, AuditSort
from activities.db.repositories.checkpoints import CheckpointFilter
from activities.db.repositories.environments import EnvironmentFilter, EnvironmentSort
from activities.db.repositories.keys import KeyFilter, KeyState
from activities.db.repositories.operations import OperationFilter
from activities.db.repositories.paging import ByNameOrChange, ByTime, ByTimeOrName
from activities.db.repositories.registry_credentials import RegistryCredentialFilter
from activities.db.repositories.revisions import RevisionFilter, RevisionSort
from activities.db.repositories.secrets import SecretFilter
from activities.db.repositories.shares import ShareFilter, ShareSort, ShareState
from activities.db.repositories.snapshots import SnapshotFilter, SnapshotSort
from activities.db.repositories.verifications import VerificationFilter
from activities.db.tables import PrincipalKind, Role
from api.parameters import NO_NUL
from api.problems import ProblemError, ProblemField, RequestProblem
from workflows.domain import blueprint_rules as rules
from workflows.domain.operations import EnvironmentPhase, OperationKind, OperationState
from workflows.domain.snapshot_manifest import SnapshotState
from workflows.domain.verification import VerificationState, VerifyLevel

_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)
_WRITTEN_OUT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}")


def _storable(at: datetime) -> datetime:
    """Nothing is older or younger than these; what a database cannot compare means the same as they."""
    return min(max(at, _EARLIEST), _LATEST)


def _written_out(at: object) -> object:
    """Read a time from text, and from nothing else: pydantic would take `642` for seconds since 1970."""
    if isinstance(at, str):
        if not _WRITTEN_OUT.match(at):
            raise ValueError("is not a time as RFC 3339 writes it, with its zone")
        return datetime.fromisoformat(at.upper())
    return at


Moment = Annotated[AwareDatetime, BeforeValidator(_written_out), AfterValidator(_storable)]
"""A time with its zone, RFC 3339."""
Text = Annotated[str, Query(max_length=100, pattern=NO_NUL)]
Since = Annotated[Moment | None, Query(description="Not older than that")]


def part_of(what: str) -> Any:
    """Return the parameter `q` of a list: what stands somewhere in a text of it."""
    return Query(alias="q", min_length=1, description=f"Part of the {what}, in any case")


Part = Annotated[Text | None, part_of("name")]
Greatest = Query(description="`-`: the greatest first")
"""Of the parameter `sort`."""
Repeated = Query(description="May be repeated")


class EnvironmentQuery:
    """The filters and the order of a list of environments, from the query."""

    def __init__(
        self,
        name: Annotated[Text | None, Query(description="Exactly this one")] = None,
        part: Part = None,
        status: Annotated[
            list[EnvironmentPhase] | None,
            Query(description="May be repeated; `deleted` ones only when asked for"),
        ] = None,
        label: Annotated[
            list[Text] | None,
            Query(description="`key=value`, or `key`: has it; repeated: has all", max_length=20),
        ] = None,
        created_after: Annotated[Moment | None, Query(alias="createdAfter")] = None,
        created_before: Annotated[Moment | None, Query(alias="createdBefore")] = None,
        sort: Annotated[EnvironmentSort, Greatest] = EnvironmentSort.CREATED_LAST,
    ) -> None:
        self.sort = sort
        self.wanted = EnvironmentFilter(
            phases=frozenset(status or ()),
            name=name,
            part=part,
            labels=_labels(label or ()),
            created_after=created_after,
            created_before=created_before,
        )


class OperationQuery:
    """The filters and the order of a list of operations, from the query."""

    def __init__(
        self,
        environment_id: Annotated[Text | None, Query(alias="environmentId")] = None,
        kind: Annotated[list[OperationKind] | None, Repeated] = None,
        state: Annotated[list[OperationState] | None, Repeated] = None,
        since: Since = None,
        sort: Annotated[ByTime, Greatest] = ByTime.NEWEST,
    ) -> None:
        self.sort = sort
        self.wanted = OperationFilter(
            environment_id=environment_id,
            kinds=frozenset(kind or ()),
            states=frozenset(state or ()),
            since=since,
        )


class ReplayQuery:
    """The filters and the order of a list of replays, from the query."""

    def __init__(
        self,
        state: Annotated[list[OperationState] | None, Repeated] = None,
        since: Since = None,
        sort: Annotated[ByTime, Greatest] = ByTime.NEWEST,
    ) -> None:
        self.sort = sort
        self.wanted = OperationFilter(states=frozenset(state or ()), since=since)


class AuditQuery:
    """The filters and the order of the audit trail, from the query."""

    def __init__(
        self,
        action: Annotated[Text | None, Query(description="As `environment.update`")] = None,
        subject: Annotated[Text | None, Query(description="Id of what it was done to")] = None,
        principal: Annotated[Text | None, Query(description="Id of who did it")] = None,
        key: Annotated[Text | None, Query(description="Id of the API key that it was done with")] = None,
        since: Since = None,
        until: Annotated[Moment | None, Query(description="Older than that")] = None,
        sort: Annotated[AuditSort, Greatest] = AuditSort.NEWEST,
    ) -> None:
        self.sort = sort
        self.wanted = AuditFilter(
            action=action,
            subject_id=subject,
            principal_id=principal,
            key_id=key,
            since=since,
            until=until,
        )


class RevisionQuery:
    """The filters and the order of a list of revisions, from the query."""

    def __init__(
        self,
        part: Annotated[Text | None, part_of("message")] = None,
        principal: Annotated[Text | None, Query(description="Id of who made it")] = None,
        named: Annotated[
            bool | None, Query(description="true: with a checkpoint; false: without one")
        ] = None,
        since: Since = None,
        sort: Annotated[RevisionSort, Greatest] = RevisionSort.NEWEST,
    ) -> None:
        self.sort = sort
        self.wanted = RevisionFilter(part=part, created_by=principal, named=named, since=since)


class CheckpointQuery:
    """The filters and the order of a list of checkpoints, from the query."""

    def __init__(
        self, part: Part = None, sort: Annotated[ByTimeOrName, Greatest] = ByTimeOrName.NEWEST
    ) -> None:
        self.sort = sort
        self.wanted = CheckpointFilter(part=part)


class ShareQuery:
    """The filters and the order of a list of share links, from the query."""

    def __init__(
        self,
        state: Annotated[list[ShareState] | None, Repeated] = None,
        part: Annotated[Text | None, part_of("label")] = None,
        sort: Annotated[ShareSort, Greatest] = ShareSort.NEWEST,
    ) -> None:
        self.sort = sort
        self.wanted = ShareFilter(states=frozenset(state or ()), part=part)


class SnapshotQuery:
    """The filters and the order of a list of snapshots, from the query."""

    def __init__(
        self,
        state: Annotated[list[SnapshotState] | None, Repeated] = None,
        scheduled: Annotated[
            bool | None, Query(description="true: those that a policy brought about; false: the others")
        ] = None,
        verified: Annotated[
            bool | None, Query(description="true: a verification passed; false: none has")
        ] = None,
        part: Part = None,
        since: Since = None,
        sort: Annotated[SnapshotSort, Greatest] = SnapshotSort.NEWEST,
    ) -> None:
        self.sort = sort
        self.wanted = SnapshotFilter(
            states=frozenset(state or ()), scheduled=scheduled, verified=verified, part=part, since=since
        )


class VerificationQuery:
    """The filters and the order of a list of verifications, from the query."""

    def __init__(
        self,
        state: Annotated[list[VerificationState] | None, Repeated] = None,
        level: Annotated[VerifyLevel | None, Query()] = None,
        sort: Annotated[ByTime, Greatest] = ByTime.NEWEST,
    ) -> None:
        self.sort = sort
        self.wanted = VerificationFilter(states=frozenset(state or ()), level=level)


class PrincipalQuery:
    """The filters and the order of a list of principals, from the query."""

    def __init__(
        self,
        kind: Annotated[PrincipalKind | None, Query()] = None,
        part: Part = None,
        sort: Annotated[ByTimeOrName, Greatest] = ByTimeOrName.OLDEST,
    ) -> None:
        self.sort = sort
        self.wanted = PrincipalFilter(kind=kind, part=part)


class KeyQuery:
    """The filters and the order of a list of API keys, from the query."""

    def __init__(
        self,
        state: Annotated[list[KeyState] | None, Repeated] = None,
        principal: Annotated[Text | None, Query(description="Id of whose they are")] = None,
        role: Annotated[list[Role] | None, Repeated] = None,
        part: Part = None,
        sort: Annotated[ByTimeOrName, Greatest] = ByTimeOrName.NEWEST,
    ) -> None:
        self.sort = sort
        self.wanted = KeyFilter(
            states=frozenset(state or ()), principal_id=principal, roles=frozenset(role or ()), part=part
        )


class SecretQuery:
    """The filters and the order of a list of secrets, from the query."""

    def __init__(
        self, part: Part = None, sort: Annotated[ByNameOrChange, Greatest] = ByNameOrChange.NAME
    ) -> None:
        self.sort = sort
        self.wanted = SecretFilter(part=part)


class RegistryCredentialQuery:
    """The filters and the order of a list of registry credentials, from the query."""

    def __init__(
        self,
        registry: Annotated[Text | None, Query(description="Exactly this one")] = None,
        part: Part = None,
        sort: Annotated[ByNameOrChange, Greatest] = ByNameOrChange.NAME,
    ) -> None:
        self.sort = sort
        self.wanted = RegistryCredentialFilter(host=registry, part=part)


def _labels(given: list[str] | tuple[str, ...]) -> tuple[tuple[str, str | None], ...]:
    """Read label selectors. Raises ProblemError with every fault."""
    labels: list[tuple[str, str | None]] = []
    faults: list[ProblemField] = []
    for place, text in enumerate(given):
        key, equals, value = text.partition("=")
        problem = rules.label_key(key) or (rules.label_value(value) if equals else None)
        if problem is not None:
            faults.append(
                ProblemField(path=f"query.label[{place}]", message=problem[0], suggestion=problem[1])
            )
        labels.append((key, value if equals else None))
    if faults:
        raise ProblemError(
            RequestProblem.VALIDATION_FAILED, "The label selectors are not valid.", errors=faults
        )
    return tuple(sorted(labels, key=lambda each: (each[0], each[1] or "")))
