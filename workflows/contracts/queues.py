"""Task queues: who does what."""

from typing import Final

CONTROL_QUEUE: Final = "perdure"
"""Workflows, and activities on Perdure's own state. Served by workers that have the database."""


def cluster_queue(cluster: str) -> str:
    """Return the queue for activities on one cluster. Its workers never open the database."""
    return f"perdure-cluster-{cluster}"
