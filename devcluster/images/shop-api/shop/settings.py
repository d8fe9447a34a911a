"""Settings from the environment, as containers get them."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Where the shop listens and what it talks to."""

    port: int
    database_url: str
    redis_url: str
    version: str


def load() -> Settings:
    """DATABASE_URL (without one, health does not ask for the database), REDIS_URL, PORT and SHOP_VERSION."""
    return Settings(
        port=int(os.environ.get("PORT", "8080")),
        database_url=os.environ.get("DATABASE_URL", ""),
        redis_url=os.environ.get("REDIS_URL") or "redis://127.0.0.1:6379",
        version=os.environ.get("SHOP_VERSION", "1"),
    )
