"""Visitors of the guests that serve something: they come at the rate of the guest's day, whether it keeps up or not."""

from __future__ import annotations

import asyncio
import os
import random
from abc import ABC, abstractmethod
from contextlib import suppress

from forestall.lab.exchange import Exchange
from forestall.lab.guest.arrivals import Arrivals
from forestall.lab.guest.work_web import FILE_KIB
from forestall.lab.guest.worker import SAY_SECONDS, Worklog
from forestall.lab.plan import GuestPlan

REQUEST_SECONDS = 20.0
PAUSE_SECONDS = 0.02
AGAIN_SECONDS = 1.0
QUEUE = 200
CHUNK_BYTES = 65536


class Visitor(ABC):
    """Someone with a connection to a guest, who asks for one thing after the other."""

    port: int
    full_rate_per_second: float

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @abstractmethod
    async def ask(self) -> None:
        """Ask for something and take it in; it is an error (OSError, EOFError, ValueError) when it does not come."""


class Reader(Visitor):
    """Reads static pages, and every so often something from the shop."""

    port, full_rate_per_second = 80, 24.0
    SHOP_SHARE = 0.25

    async def ask(self) -> None:
        """Get a page."""
        page = "shop" if random.random() < self.SHOP_SHARE else f"{random.choice(FILE_KIB)}.bin"
        self.writer.write(f"GET /{page} HTTP/1.1\r\nHost: lab\r\n\r\n".encode())
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length:"))
        await _skip(self.reader, length)


class CacheUser(Visitor):
    """Puts something into the cache, which expires after a while, and takes something out: the cache is as large as
    the rate of the last minutes."""

    port, full_rate_per_second = 6379, 32.0
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


async def _skip(reader: asyncio.StreamReader, length: int) -> None:
    """Take in so many bytes."""
    while length > 0:
        chunk = await reader.read(min(length, CHUNK_BYTES))
        if not chunk:
            raise EOFError
        length -= len(chunk)


VISITORS: dict[str, type[Visitor]] = {"web": Reader, "redis": CacheUser}


async def visit(plan: GuestPlan, exchange: Exchange) -> None:
    """Visit a guest for ever, at the level that it reports, and tell it how it was; nobody visits some guests."""
    if (kind := VISITORS.get(plan.role)) is None:
        return
    arrivals = Arrivals(kind.full_rate_per_second, QUEUE, exchange.level)
    log = Worklog(lambda work: exchange.tell({"work": work}))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_keep_telling(arrivals, log))
        tasks.create_task(_come_again(kind, plan.address, arrivals, log))


async def _keep_telling(arrivals: Arrivals, log: Worklog) -> None:
    """Tell the guest how it looks from outside, also while it does not answer."""
    while True:
        log.update(len(arrivals))
        await asyncio.sleep(SAY_SECONDS)


async def _come_again(kind: type[Visitor], address: str, arrivals: Arrivals, log: Worklog) -> None:
    """Stay as long as the guest serves, and come again when it has stopped."""
    while True:
        with suppress(OSError, EOFError, ValueError, StopIteration, asyncio.LimitOverrunError):
            await _stay(kind, address, arrivals, log)
        await asyncio.sleep(AGAIN_SECONDS)


async def _stay(kind: type[Visitor], address: str, arrivals: Arrivals, log: Worklog) -> None:
    """Serve the queue over one connection until that breaks; who is being served then has come in vain."""
    async with asyncio.timeout(REQUEST_SECONDS):
        reader, writer = await asyncio.open_connection(address, kind.port)
    visitor = kind(reader, writer)
    try:
        while True:
            if (arrived_at := arrivals.next()) is None:
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                async with asyncio.timeout(REQUEST_SECONDS):
                    await visitor.ask()
                log.completed(arrived_at)
    finally:
        writer.close()
