"""The database guest: orders come in one by one, each durable before the next, and now and then someone wants a report.

Its cache grows with the level and is given back when there is little to do; the orders of years lie on the disk.
"""

from __future__ import annotations

import random
import sqlite3

from forestall.lab.guest.worker import told_level, work_off

PATH = "/var/lib/orders.db"
OLD_ORDERS, IMPORTED_AT_ONCE, NOTE_BYTES = 30_000, 1_000, 3_000
REPORT_ORDERS, ORDERS_PER_REPORT = 4_000, 40
CACHE_KIB, CACHE_KIB_AT_FULL_LEVEL, CACHE_STEPS = 4_000, 120_000, 8
FULL_RATE_PER_SECOND, QUEUE = 12.0, 200
SCHEMA = """
create table if not exists orders (id integer primary key, customer integer, cents integer, note text);
create table if not exists customers (id integer primary key, orders integer, cents integer);
"""
IMPORT = f"""
insert into orders (customer, cents, note)
with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < {IMPORTED_AT_ONCE})
select abs(random()) % 1000, abs(random()) % 100000, hex(randomblob(20)) || printf('%.*c', {NOTE_BYTES}, 'x')
from numbers
"""
ORDER = "insert into orders (customer, cents, note) values (?, ?, ?)"
CUSTOMER = """
insert into customers (id, orders, cents) values (?, 1, ?)
on conflict (id) do update set orders = orders + 1, cents = cents + excluded.cents
"""
REPORT = "select customer, count(*), sum(cents), max(note) from orders where id between ? and ? group by customer"


class Shop:
    """The shop whose orders these are."""

    def __init__(self) -> None:
        self.database = sqlite3.connect(PATH, isolation_level=None)
        self.database.execute("pragma journal_mode = wal")
        self.database.execute("pragma synchronous = full")
        self.database.executescript(SCHEMA)
        self.served, self.step = 0, -1

    def orders(self) -> int:
        """Number of the newest order."""
        return int(self.database.execute("select coalesce(max(id), 0) from orders").fetchone()[0])

    def take_over(self) -> None:
        """Import the orders of years past, once; takes a while."""
        while self.orders() < OLD_ORDERS:
            self.database.execute(IMPORT)

    def serve(self) -> None:
        """Take an order; every so often write a report instead."""
        self.fit_cache(round(told_level() * CACHE_STEPS))
        self.served += 1
        if self.served % ORDERS_PER_REPORT:
            self.order()
        else:
            self.report()

    def fit_cache(self, step: int) -> None:
        """Let the cache grow to what this much work deserves, or give back what is too much."""
        if step != self.step:
            self.database.execute(f"pragma cache_size = -{CACHE_KIB + CACHE_KIB_AT_FULL_LEVEL * step // CACHE_STEPS}")
            self.database.execute("pragma shrink_memory")
            self.step = step

    def order(self) -> None:
        """Take an order, durably."""
        customer, cents = random.randrange(1000), random.randrange(100_000)
        self.database.execute("begin immediate")
        self.database.execute(ORDER, (customer, cents, "x" * NOTE_BYTES))
        self.database.execute(CUSTOMER, (customer, cents))
        self.database.execute("commit")

    def report(self) -> None:
        """Look over some thousand orders of any time."""
        first = random.randrange(max(1, self.orders() - REPORT_ORDERS))
        self.database.execute(REPORT, (first, first + REPORT_ORDERS)).fetchall()


def main() -> None:
    """Work for ever."""
    shop = Shop()
    shop.take_over()
    work_off(shop.serve, FULL_RATE_PER_SECOND, QUEUE)


if __name__ == "__main__":
    main()
