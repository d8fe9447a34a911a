"""Validating a Blueprint: what would refuse it, and what it had better say differently."""

from __future__ import annotations

from activities.db.references import missing_references
from api.environments.documents import BlueprintRequest, blueprint_of
from api.environments.schemas import ValidationOut
from api.environments.shapes import field_problems
from api.problems import ProblemField
from api.state import AppState
from workflows.domain.blueprint import Blueprint
from workflows.domain.quality import warnings


async def validate(state: AppState, organization_id: str, found: BlueprintRequest) -> ValidationOut:
    """Check a Blueprint as `POST /environments` would, its references to stored secrets included."""
    blueprint, faults = await blueprint_of(found)
    if blueprint is not None:
        async with state.database.reading() as session:
            faults += field_problems(await missing_references(session, organization_id, blueprint))
    return ValidationOut(
        valid=not faults, errors=faults, warnings=findings(blueprint) if blueprint is not None else []
    )


def findings(blueprint: Blueprint) -> list[ProblemField]:
    """The findings of the quality gate."""
    return [
        ProblemField(
            path=finding.field, message=finding.message, suggestion=finding.suggestion, code=finding.code
        )
        for finding in warnings(blueprint)
    ]
