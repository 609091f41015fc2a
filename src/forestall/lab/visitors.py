"""Visitors of the guests that serve something: they come at the rate of the guest's day, whether it keeps up or not."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import sys
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from forestall.lab.exchange import Exchange
from forestall.lab.guest.arrivals import Arrivals
from forestall.lab.guest.work_stream import FILM_COUNT
from forestall.lab.guest.work_web import FILE_KIB
from forestall.lab.guest.worker import SAY_SECONDS, Worklog
from forestall.lab.plan import GuestPlan

if TYPE_CHECKING:
    from psycopg import AsyncConnection

REQUEST_SECONDS = 20.0
PAUSE_SECONDS = 0.02
AGAIN_SECONDS = 1.0
QUEUE = 200
CHUNK_BYTES = 65536


class Visitor(ABC):
    """Someone with a connection to a guest, who asks for one thing after the other."""

    full_rate_per_second: float
    together = 1
    """How many there are at a time."""
    patience_seconds = REQUEST_SECONDS
    requests = sys.maxsize
    stays_seconds = float("inf")
    """After so many requests, or so long, one comes anew."""

    @classmethod
    @abstractmethod
    async def connect(cls, address: str, port: int) -> Self:
        """Come."""

    @abstractmethod
    async def ask(self) -> None:
        """Ask for something and take it in; it is an error (OSError, EOFError, ValueError) when it does not come."""

    @abstractmethod
    async def leave(self) -> None:
        """Go."""


class StreamVisitor(Visitor):
    """One over a connection of TCP."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, address: str, port: int) -> Self:
        """Open the connection."""
        return cls(*await asyncio.open_connection(address, port))

    async def leave(self) -> None:
        """Close it."""
        self.writer.close()


class Reader(StreamVisitor):
    """Reads static pages, and every so often something from the shop."""

    full_rate_per_second = 24.0
    SHOP_SHARE = 0.25

    async def ask(self) -> None:
        """Get a page."""
        page = "shop" if random.random() < self.SHOP_SHARE else f"{random.choice(FILE_KIB)}.bin"
        self.writer.write(f"GET /{page} HTTP/1.1\r\nHost: lab\r\n\r\n".encode())
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length:"))
        await _skip(self.reader, length)


class CacheUser(StreamVisitor):
    """Puts something into the cache, which expires after a while, and takes something out: the cache is as large as
    the rate of the last minutes."""

    full_rate_per_second = 32.0
    KEYS, LONGEST_BYTES, EXPIRES_SECONDS = 20_000, 96 * 1024, 100
    PUT_SHARE = 0.6

    async def ask(self) -> None:
        """Put or get; see the protocol specification of redis (RESP)."""
        key = b"page:%d" % random.randrange(self.KEYS)
        if random.random() < self.PUT_SHARE:
            content = os.urandom(random.randrange(self.LONGEST_BYTES))
            words = [b"SET", key, content, b"EX", b"%d" % self.EXPIRES_SECONDS]
        else:
            words = [b"GET", key]
        self.writer.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
        reply = await self.reader.readuntil(b"\r\n")
        if reply.startswith(b"$") and (length := int(reply[1:])) >= 0:
            await _skip(self.reader, length + 2)


class Clerk(Visitor):
    """Keeps orders in the network database: takes one, looks one up, and now and then wants a summary; connects anew
    every so often."""

    full_rate_per_second, together, requests, stays_seconds = 16.0, 2, 150, 20.0
    ORDERS, CUSTOMERS, SUMMARY_ORDERS = 60_000, 1_000, 3_000
    ORDER_SHARE, SUMMARY_SHARE = 0.5, 0.03
    SCHEMA = """
        create table if not exists orders (id serial primary key, customer integer, cents integer, note text);
        insert into orders (customer, cents, note)
            select n %% {customers}, n, repeat(md5(n::text), 12) from generate_series(1, {orders}) n
            where not exists (select from orders);
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection, self.newest = connection, self.ORDERS

    @classmethod
    async def connect(cls, address: str, port: int) -> Self:
        """Connect, and fill the database if nobody has yet."""
        try:
            import psycopg
        except ImportError as error:
            raise OSError("psycopg is missing: pip install 'forestall[live]'") from error
        try:
            connection = await psycopg.AsyncConnection.connect(
                host=address, port=port, user="postgres", dbname="postgres", autocommit=True
            )
            script = cls.SCHEMA.replace("%%", "%").format(customers=cls.CUSTOMERS, orders=cls.ORDERS)
            async with connection.transaction():
                await connection.execute("select pg_advisory_xact_lock(1)")
                for statement in script.split(";")[:-1]:
                    await connection.execute(statement.encode())
        except psycopg.Error as error:
            raise OSError(str(error)) from error
        return cls(connection)

    async def ask(self) -> None:
        """Take an order (the oldest makes room), or look at some."""
        import psycopg

        first, chance = self.newest - random.randrange(1, self.ORDERS), random.random()
        try:
            if chance < self.SUMMARY_SHARE:
                await self.connection.execute(
                    "select customer, sum(cents) from orders where id between %s and %s group by 1 order by 2",
                    (first, first + self.SUMMARY_ORDERS),
                )
            elif chance < self.SUMMARY_SHARE + self.ORDER_SHARE:
                order = (random.randrange(self.CUSTOMERS), random.randrange(100_000), "x" * 400)
                taken = await self.connection.execute(
                    "insert into orders (customer, cents, note) values (%s, %s, %s) returning id", order
                )
                self.newest = ((await taken.fetchone()) or (self.newest,))[0]
                await self.connection.execute("delete from orders where id = (select min(id) from orders)")
            else:
                await self.connection.execute("select * from orders where id between %s and %s", (first, first + 20))
        except psycopg.Error as error:
            raise OSError(str(error)) from error

    async def leave(self) -> None:
        """Disconnect."""
        await self.connection.close()


class Viewer(Visitor):
    """Watches films, each for a while; see RFC 2326."""

    full_rate_per_second, together, patience_seconds = 0.4, 8, 60.0
    WATCHED_SECONDS = (8.0, 20.0)

    def __init__(self, address: str, port: int) -> None:
        self.address, self.port = address, port

    @classmethod
    async def connect(cls, address: str, port: int) -> Self:
        """Nothing yet: every film is a connection of its own."""
        return cls(address, port)

    async def ask(self) -> None:
        """Watch a film from its beginning to wherever one has had enough."""
        reader, writer = await asyncio.open_connection(self.address, self.port)
        film = f"rtsp://{self.address}:{self.port}/{random.randrange(FILM_COUNT)}"
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as screen:  # what comes is not looked at
                screen.bind(("", 0))
                port = screen.getsockname()[1]
                transport = f"Transport: RTP/AVP;unicast;client_port={port}-{port + 1}\r\n"
                for sequence, (method, more) in enumerate((("DESCRIBE", ""), ("SETUP", transport), ("PLAY", "")), 1):
                    writer.write(f"{method} {film} RTSP/1.0\r\nCSeq: {sequence}\r\n{more}\r\n".encode())
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                    await _skip(reader, int(head.partition("content-length: ")[2].split("\r\n")[0]))
                await asyncio.sleep(random.uniform(*self.WATCHED_SECONDS))
        finally:
            writer.close()

    async def leave(self) -> None:
        """There is nothing to close."""


async def _skip(reader: asyncio.StreamReader, length: int) -> None:
    """Take in so many bytes."""
    while length > 0:
        chunk = await reader.read(min(length, CHUNK_BYTES))
        if not chunk:
            raise EOFError
        length -= len(chunk)


VISITORS: dict[str, type[Visitor]] = {"web": Reader, "redis": CacheUser, "postgres": Clerk, "stream": Viewer}


async def visit(plan: GuestPlan, exchange: Exchange) -> None:
    """Visit a guest for ever, at the level that it reports, and tell it how it was; nobody visits some guests."""
    if (kind := VISITORS.get(plan.role)) is None:
        return
    arrivals = Arrivals(kind.full_rate_per_second, QUEUE, exchange.level)
    log = Worklog(lambda work: exchange.tell({"work": work}))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_keep_telling(arrivals, log))
        for _ in range(kind.together):
            tasks.create_task(_come_again(kind, plan, arrivals, log))


async def _keep_telling(arrivals: Arrivals, log: Worklog) -> None:
    """Tell the guest how it looks from outside, also while it does not answer."""
    while True:
        log.update(len(arrivals))
        await asyncio.sleep(SAY_SECONDS)


async def _come_again(kind: type[Visitor], plan: GuestPlan, arrivals: Arrivals, log: Worklog) -> None:
    """Stay as long as the guest serves, and come again when it has stopped."""
    while True:
        with suppress(OSError, EOFError, ValueError, StopIteration, asyncio.LimitOverrunError):
            await _stay(kind, plan, arrivals, log)
        await asyncio.sleep(AGAIN_SECONDS)


async def _stay(kind: type[Visitor], plan: GuestPlan, arrivals: Arrivals, log: Worklog) -> None:
    """Serve the queue over one connection, until that breaks: who is being served then has come in vain."""
    async with asyncio.timeout(REQUEST_SECONDS):
        visitor = await kind.connect(plan.address, plan.port)
    served, until = 0, time.monotonic() + kind.stays_seconds
    try:
        while served < kind.requests and time.monotonic() < until:
            if (arrived_at := arrivals.next()) is None:
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                async with asyncio.timeout(visitor.patience_seconds):
                    await visitor.ask()
                log.completed(arrived_at)
                served += 1
    finally:
        await visitor.leave()
