"""The consumer of the queue: marks orders as done."""

import time

import psycopg2
import redis

from shop.settings import Settings
from shop.store import Store


def work(settings: Settings) -> None:
    """Take orders until the process is told to stop; a server that does not answer is asked again."""
    store = Store(settings.database_url, settings.redis_url)
    print("waiting for orders", flush=True)
    while True:
        try:
            order = store.next_order(5)
            if order is not None:
                store.finish(order)
                print(f"order {order} is done", flush=True)
        except (psycopg2.Error, redis.RedisError) as e:
            print(f"waiting for the servers: {str(e).strip()}", flush=True)
            time.sleep(0.5)
