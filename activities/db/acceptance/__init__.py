"""Accepting operations: all that a request changes, inside the caller's one transaction.

Nothing here talks to the workflow engine: the caller commits, then starts or tells the workflow; what gets
lost between the two is made good by the reconciler. Locks are taken in one order: organisation, environment,
operation, snapshot.
"""

from activities.db.acceptance._shared import Accepted
from activities.db.acceptance.adopt import FoundNamespace, adopt_environment
from activities.db.acceptance.cancel import cancel_operation
from activities.db.acceptance.clone import CloneSource, blueprint_for_clone
from activities.db.acceptance.create import Site, create_environment
from activities.db.acceptance.delete import delete_environment
from activities.db.acceptance.extend import extend_environment
from activities.db.acceptance.replay import (
    ReplayPreview,
    ReplayWish,
    preview_replay,
    replay_environment,
    replay_into,
)
from activities.db.acceptance.restore import (
    AsNew,
    create_from_snapshot,
    restore_as_new,
    restore_in_place,
)
from activities.db.acceptance.retry import retry_environment
from activities.db.acceptance.scale import restart_service, scale_service
from activities.db.acceptance.seed import PackageChoice, SeedWish, seed_environment
from activities.db.acceptance.settings import Settings, SettingsChanged, change_settings
from activities.db.acceptance.snapshot import (
    SnapshotAccepted,
    SnapshotWish,
    snapshot_environment,
)
from activities.db.acceptance.stop import resume_environment, stop_environment
from activities.db.acceptance.update import (
    Preview,
    Updated,
    Wanted,
    preview_update,
    rollback_environment,
    update_environment,
)
from activities.db.acceptance.wake import may_be_woken, wake_environment

__all__ = [
    "Accepted",
    "AsNew",
    "CloneSource",
    "FoundNamespace",
    "PackageChoice",
    "Preview",
    "ReplayPreview",
    "ReplayWish",
    "SeedWish",
    "Settings",
    "SettingsChanged",
    "Site",
    "SnapshotAccepted",
    "SnapshotWish",
    "Updated",
    "Wanted",
    "adopt_environment",
    "blueprint_for_clone",
    "cancel_operation",
    "change_settings",
    "create_environment",
    "create_from_snapshot",
    "delete_environment",
    "extend_environment",
    "may_be_woken",
    "preview_replay",
    "preview_update",
    "replay_environment",
    "replay_into",
    "restart_service",
    "restore_as_new",
    "restore_in_place",
    "resume_environment",
    "retry_environment",
    "rollback_environment",
    "scale_service",
    "seed_environment",
    "snapshot_environment",
    "stop_environment",
    "update_environment",
    "wake_environment",
]
