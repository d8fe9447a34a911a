"""What lists can be narrowed to: parameters that several routes share, checked before the database sees
them.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final

from fastapi import Query
from pydantic import AfterValidator, AwareDatetime, BeforeValidator

from activities.db.repositories.environments import EnvironmentFilter, EnvironmentSort
from api.parameters import NO_NUL
from api.problems import ProblemError, ProblemField, RequestProblem
from workflows.domain import blueprint_rules as rules
from workflows.domain.operations import EnvironmentPhase

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


class OperationSort(StrEnum):
    """Order of a list of operations; `-`: the newest first."""

    CREATED = "createdAt"
    CREATED_LAST = "-createdAt"


class EnvironmentQuery:
    """The filters and the order of a list of environments, from the query."""

    def __init__(
        self,
        name: Annotated[Text | None, Query(description="Exactly this one")] = None,
        part: Annotated[Text | None, Query(alias="q", min_length=1, description="Part of the name")] = None,
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
        sort: Annotated[
            EnvironmentSort, Query(description="`-`: the greatest first")
        ] = EnvironmentSort.CREATED_LAST,
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
