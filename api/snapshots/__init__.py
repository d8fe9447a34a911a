"""Snapshots of environments: taken, listed, restored, deleted."""
