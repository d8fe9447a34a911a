"""Snapshots' bytes: how they are sealed, stored and opened again."""
