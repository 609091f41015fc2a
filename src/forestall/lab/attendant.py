"""The process that attends to a lab: passes reports and commands on, and visits the guests that serve something.

A virtio-serial port has one connection; the attendant holds it, and offers each guest's link to any number of clients.
It ends by itself when the lab's folder is gone.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from forestall.lab.exchange import Exchange
from forestall.lab.place import Place
from forestall.lab.plan import chosen
from forestall.lab.visitors import visit

GONE_LOOK_SECONDS = 2.0


async def attend(place: Place, names: tuple[str, ...]) -> None:
    """Attend to these guests until the lab's folder is gone."""
    async with asyncio.TaskGroup() as tasks:
        started = []
        for plan in chosen(names):
            exchange = Exchange(place.port(plan.name), place.link(plan.name), place.report(plan.name))
            started.append(tasks.create_task(exchange.run()))
            started.append(tasks.create_task(visit(plan, exchange)))
        while place.folder.exists():
            await asyncio.sleep(GONE_LOOK_SECONDS)
        for task in started:
            task.cancel()


def main(folder: str, name: str, guests: str) -> None:
    """Run from the command line: the folder and the name of the lab, and its guests, as chosen, with commas between."""
    asyncio.run(attend(Place.at(Path(folder), name), tuple(guests.split(","))))


if __name__ == "__main__":
    main(*sys.argv[1:])
