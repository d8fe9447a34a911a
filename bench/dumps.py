"""Streams as the tools write them, of made-up orders: for measuring what reads them.

A block of rows larger than what zstd looks back over comes again and again, so that it compresses like one.
"""

import io
import random
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from activities.snapshots.postgres_archive import written, written_text

_BLOCK: Final = 4 << 20
"""Bytes, twice the window of level 3."""
_WORDS: Final = ("Anna", "Baker", "Chen", "Diaz", "Eriksen", "Fofana", "Green", "Haddad", "Ito", "Jensen")
_STATES: Final = ("new", "paid", "sent", "returned")
_CREATE: Final = """CREATE TABLE public.orders (
    id bigint NOT NULL,
    customer text,
    email text,
    at timestamp without time zone,
    state text,
    amount numeric,
    note text
);
"""
_CREATE_MARIADB: Final = """CREATE TABLE `orders` (
  `id` bigint(20) NOT NULL,
  `customer` varchar(100) DEFAULT NULL,
  `email` varchar(100) DEFAULT NULL,
  `at` datetime DEFAULT NULL,
  `state` varchar(20) DEFAULT NULL,
  `amount` decimal(10,2) DEFAULT NULL,
  `note` text DEFAULT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
"""
_ROWS_IN_A_STATEMENT: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Order:
    id: int
    customer: str
    email: str
    at: str
    state: str
    amount: str


def postgres(size: int) -> bytes:
    """Return about `size` bytes of what `pg_dump -Fc -Z0` writes of one table."""
    nothing, offset = b"\1" + (1).to_bytes(4, "little"), bytes(9)

    def entry(number: int, sort: str, definition: str, copy: str) -> bytes:
        texts = (definition, "", copy, "public", "", "heap", "app", "false")
        return b"".join(
            (
                *(written(number), written(int(bool(copy))), written_text("0"), written_text("0")),
                *(written_text("orders"), written_text(sort), written(2)),
                *(written_text(each) for each in texts),
                *(nothing, offset),
            )
        )

    copy = "COPY public.orders (id, customer, email, at, state, amount, note) FROM stdin;\n"
    head = b"PGDMP" + bytes((1, 14, 0, 4, 8, 1)) + written(0) * 8
    head += b"".join(written_text(each) for each in ("shop", "15.5", "15.5")) + written(2)
    head += entry(1, "TABLE", _CREATE, "") + entry(2, "TABLE DATA", "", copy)

    def row(order: _Order) -> bytes:
        fields = (str(order.id), order.customer, order.email, order.at, order.state, order.amount, "\\N")
        line = "\t".join(fields).encode() + b"\n"
        return written(len(line)) + line

    end = b"\\.\n\n\n"
    return head + b"\1" + written(2) + _filled(size, row) + written(len(end)) + end + written(0)


def mariadb(size: int) -> bytes:
    """Return about `size` bytes of what `mariadb-dump` writes of one table, a row to a line."""

    def rows() -> Iterator[bytes]:
        for order in _orders():
            texts = (order.customer, order.email, order.at, order.state)
            quoted = ",".join(f"'{each}'" for each in texts)
            yield f"({order.id},{quoted},{order.amount},NULL)".encode()

    statements, length, made = [], 0, rows()
    while length < min(size, _BLOCK):
        some = [next(made) for _ in range(_ROWS_IN_A_STATEMENT)]
        statements.append(b"INSERT INTO `orders` VALUES\n" + b",\n".join(some) + b";\n")
        length += len(statements[-1])
    head = f"-- MariaDB dump\nUSE `shop`;\n{_CREATE_MARIADB}".encode()
    end = b"-- Dump completed on 2026-01-01 00:00:00\n"
    return head + b"".join(statements) * max(1, size // length) + end


def redis(size: int) -> bytes:
    """Return about `size` bytes of an RDB file: texts, and each fourth key a hash of three fields."""

    def string(data: str) -> bytes:
        if len(data) < 64:
            return bytes((len(data),)) + data.encode()
        return bytes((0x40 | len(data) >> 8, len(data) & 0xFF)) + data.encode()

    def record(order: _Order) -> bytes:
        if order.id % 4:
            value = f"{order.customer} <{order.email}> at {order.at}: {order.amount}, {order.state}"
            return b"\0" + string(f"customer:{order.id}") + string(value)
        fields = {"customer": order.customer, "email": order.email, "amount": order.amount}
        pairs = b"".join(string(name) + string(value) for name, value in fields.items())
        return b"\4" + string(f"order:{order.id}") + bytes((len(fields),)) + pairs

    # A sum of zeros says that the server was told not to make one; it is taken all the same.
    return b"REDIS0010\xfe\0" + _filled(size, record) + b"\xff" + bytes(8)


def tar(size: int, *, of: int) -> bytes:
    """Return about `size` bytes of a tar of files of `of` bytes each; every other does not compress."""
    buffer = io.BytesIO()
    text = _filled(max(of, _BLOCK), lambda order: f"{order}\n".encode())
    made = random.Random(of)
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for number in range(max(1, size // (of + 512))):
            member = tarfile.TarInfo(f"./{number // 100}/{number}")
            member.size = of
            start = number * of % (len(text) - of + 1)
            content = made.randbytes(of) if number % 2 else text[start : start + of]
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _filled(size: int, write: Callable[[_Order], bytes]) -> bytes:
    """Return about `size` bytes of orders, as `write` writes them."""
    block, length, orders = [], 0, _orders()
    while length < min(size, _BLOCK):
        block.append(write(next(orders)))
        length += len(block[-1])
    return b"".join(block) * max(1, size // length)


def _orders() -> Iterator[_Order]:
    """Yield orders without end, the same each time."""
    chosen = random.Random(1)
    number = 1_000_000
    while True:
        number += 1
        first, last = chosen.choice(_WORDS), chosen.choice(_WORDS)
        day, minute = chosen.randrange(1, 29), chosen.randrange(60)
        yield _Order(
            id=number,
            customer=f"{first} {last}",
            email=f"{first.lower()}.{chosen.randrange(10_000)}@example.org",
            at=f"2026-{chosen.randrange(1, 13):02}-{day:02} 12:{minute:02}:00",
            state=chosen.choice(_STATES),
            amount=f"{chosen.randrange(100_000) / 100:.2f}",
        )
