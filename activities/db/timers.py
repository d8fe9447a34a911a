"""An environment's timers in its row: what they go by, and when the sweeper has to look at it next."""

from datetime import datetime, timedelta

from activities.db.tables import Environment
from workflows.domain.blueprint import Blueprint
from workflows.domain.environment import GuardRails
from workflows.domain.manifests import exposed_services
from workflows.domain.timers import Timers, next_look


def timers_of(environment: Environment, blueprint: Blueprint | None = None) -> Timers:
    """Return what the timers of a row go by; without its Blueprint, as if every way in were measured."""
    rails = GuardRails.model_validate(environment.guard_rails)
    unseen = blueprint is not None and rails.ingress_class is not None and bool(exposed_services(blueprint))
    return Timers(
        phase=environment.phase,
        created_at=environment.created_at,
        last_active_at=environment.last_active_at or environment.created_at,
        expires_at=environment.expires_at,
        protected=environment.protected,
        auto_shutdown_enabled=environment.auto_shutdown_enabled,
        auto_shutdown_delay=timedelta(minutes=environment.auto_shutdown_delay_minutes),
        measured=environment.auto_shutdown_unmeasured or not unseen,
        expiry_warned_for=environment.expiry_warned_for,
        idle_warned_for=environment.idle_warned_for,
    )


def expiry(created_at: datetime, ttl_minutes: int | None) -> datetime | None:
    """Return when an environment's time is over, by its time to live alone; None: it has no end."""
    return None if ttl_minutes is None else created_at + timedelta(minutes=ttl_minutes)


def reschedule(environment: Environment) -> None:
    """Note in a locked row when to look at it next; earlier than needed does no harm."""
    environment.next_look_at = next_look(timers_of(environment))


def used(environment: Environment, now: datetime) -> None:
    """Note in a locked row that somebody used the environment."""
    environment.last_active_at = now
    reschedule(environment)
