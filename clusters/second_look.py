"""Refusals that need a second look at the cluster before it is clear what they mean."""

from collections.abc import Sequence
from dataclasses import replace

from clusters.answers import Unexplained
from clusters.connection import Call, Connection
from clusters.errors import ClusterError, Conflict, Invalid, NotFound, PreconditionFailed
from clusters.objects import Manifest, ObjectRef
from workflows.domain.json_reading import mapping, strings, text
from workflows.domain.names import FENCE


async def explain_apply(connection: Connection, call: Call, error: Unexplained) -> ClusterError:
    """Tell a wrong manifest from a server in trouble: both are answered with a 500 without a reason.

    A manifest is checked before anything is stored: if it passes as a dry run, the storing failed; if it
    fails again while the server can read, it is the manifest.
    """
    rehearsal = replace(call, params={**call.params, "dryRun": "All"})
    try:
        await connection.request(rehearsal)
    except Unexplained:
        try:
            await connection.request(Call("GET", call.path))
        except NotFound:
            pass
        except ClusterError:
            return error
        return Invalid(str(error), error.faults or (("", str(error)),))
    except ClusterError as other:
        return other
    return error


def explain_delete(
    ref: ObjectRef, live: Manifest | None, uid: str | None, resource_version: str | None, error: Conflict
) -> bool:
    """Return what a delete that met a conflict should answer, from what is there now.

    False: gone; True: on its way out already. `PreconditionFailed` when it is another object.
    """
    if live is None:
        return False
    if uid is not None:
        check_uid(ref, live, uid)
    if resource_version not in (None, text(live, "metadata", "resourceVersion")):
        raise PreconditionFailed(f"{ref.title} has changed since it was read") from error
    if text(live, "metadata", "deletionTimestamp"):
        return True
    raise error


def check_uid(ref: ObjectRef, live: Manifest, uid: str) -> None:
    """Raise `PreconditionFailed` unless the live object has this UID."""
    found = text(live, "metadata", "uid")
    if found != uid:
        raise PreconditionFailed(f"{ref.title} is another object by now: UID {found}, not {uid}")


def without_finalizers(live: Manifest, finalizers: Sequence[str], fence: int | None) -> Manifest | None:
    """Return the merge patch that leaves these finalizers out, None when there are none of them."""
    present = strings(live, "metadata", "finalizers")
    kept = [finalizer for finalizer in present if finalizer not in finalizers]
    if len(kept) == len(present):
        return None
    metadata: Manifest = {
        "uid": text(live, "metadata", "uid"),
        "resourceVersion": text(live, "metadata", "resourceVersion"),
        "finalizers": list(kept),
    }
    if fence is not None:
        metadata["annotations"] = {**mapping(live, "metadata", "annotations"), FENCE: str(fence)}
    return {"metadata": metadata}
