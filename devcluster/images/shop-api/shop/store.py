"""The shop's data: tables in Postgres and the queue in Redis."""

import json

import psycopg2
import psycopg2.extras
import redis

QUEUE = "orders"
SCHEMA = """
CREATE TABLE IF NOT EXISTS products (
    id serial PRIMARY KEY, name text UNIQUE NOT NULL, price_cents integer NOT NULL);
CREATE TABLE IF NOT EXISTS orders (
    id serial PRIMARY KEY, product_id integer NOT NULL REFERENCES products, quantity integer NOT NULL,
    state text NOT NULL DEFAULT 'new', created_at timestamptz NOT NULL DEFAULT now());
INSERT INTO products (name, price_cents) VALUES ('lamp', 4900), ('chair', 12900), ('table', 34900)
    ON CONFLICT (name) DO NOTHING;
"""


class UnknownProductError(Exception):
    """An order for something that is not sold here."""


class Store:
    """One connection to each server, made anew after a fault; used by one thread at a time."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self._database_url = database_url
        self._redis = redis.Redis.from_url(redis_url, socket_connect_timeout=5)
        self._connection = None

    def _cursor(self):
        if self._connection is None or self._connection.closed:
            self._connection = psycopg2.connect(self._database_url, connect_timeout=5)
            self._connection.autocommit = True
        return self._connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor)

    def prepare(self) -> None:
        """Make the tables unless they are there; one process at a time, or two would trip over each other."""
        with self._cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(20260)")
            try:
                cursor.execute(SCHEMA)
            finally:
                cursor.execute("SELECT pg_advisory_unlock(20260)")

    def products(self) -> list[dict]:
        """All products by number."""
        with self._cursor() as cursor:
            cursor.execute("SELECT id, name, price_cents FROM products ORDER BY id")
            return [dict(row) for row in cursor.fetchall()]

    def place_order(self, product_id: int, quantity: int) -> dict:
        """Write an order and put it into the queue."""
        with self._cursor() as cursor:
            try:
                cursor.execute(
                    "INSERT INTO orders (product_id, quantity) VALUES (%s, %s)"
                    " RETURNING id, product_id, quantity, state",
                    (product_id, quantity),
                )
            except psycopg2.errors.ForeignKeyViolation as e:
                raise UnknownProductError from e
            order = dict(cursor.fetchone())
        self._redis.rpush(QUEUE, json.dumps({"order": order["id"]}))
        return order

    def order(self, order_id: int) -> dict | None:
        """One order, None when there is no such."""
        with self._cursor() as cursor:
            cursor.execute("SELECT id, product_id, quantity, state FROM orders WHERE id = %s", (order_id,))
            row = cursor.fetchone()
            return dict(row) if row else None

    def next_order(self, seconds: int) -> int | None:
        """Take the oldest order out of the queue, waiting so long for one."""
        taken = self._redis.blpop([QUEUE], timeout=seconds)
        return int(json.loads(taken[1])["order"]) if taken else None

    def finish(self, order_id: int) -> None:
        """Note that an order is done; a second time changes nothing."""
        with self._cursor() as cursor:
            cursor.execute("UPDATE orders SET state = 'done' WHERE id = %s", (order_id,))
