"""A program that takes and leaves memory at random and knows what it wrote: says LOST, and where, if any of it changes.

``python3 -S -m forestall.lab.guest.churn SECONDS MIB SEED``
"""

from __future__ import annotations

import mmap
import random
import sys
import time

PAGE = 4096
LONGEST_PAGES = 1024


class Piece:
    """Some pages: each holds a number of its own, all over it, or zeros that were written, or nothing as yet."""

    def __init__(self, draw: random.Random) -> None:
        self.pages = draw.randint(1, LONGEST_PAGES)
        self.memory = mmap.mmap(-1, self.pages * PAGE)
        self.known: dict[int, int] = {}

    def write(self, draw: random.Random) -> None:
        """Write a few pages that follow each other."""
        first = draw.randrange(self.pages)
        for page in range(first, min(first + draw.randint(1, 64), self.pages)):
            number = draw.choice((0, draw.randint(1, 1 << 62)))
            self.memory[page * PAGE : (page + 1) * PAGE] = content(number)
            self.known[page] = number

    def check(self) -> int:
        """Compare every page with what is known of it; how many there were."""
        for page in range(self.pages):
            if self.memory[page * PAGE : (page + 1) * PAGE] != content(self.known.get(page, 0)):
                print("LOST", page, self.known.get(page), flush=True)
                sys.exit(1)
        return self.pages


def content(number: int) -> bytes:
    """What stands in a page."""
    return number.to_bytes(8, "little") * (PAGE // 8)


def main(seconds: float, most_bytes: int, seed: int) -> None:
    """Work until the time is over, and check everything at the end."""
    draw = random.Random(seed)
    until, pieces, checked = time.monotonic() + seconds, list[Piece](), 0
    while time.monotonic() < until:
        if sum(piece.pages for piece in pieces) * PAGE < most_bytes:
            pieces.append(Piece(draw))
        for _ in range(4):
            draw.choice(pieces).write(draw)
        if draw.random() < 0.05 or sum(piece.pages for piece in pieces) * PAGE >= most_bytes:
            piece = pieces.pop(draw.randrange(len(pieces)))
            checked += piece.check()
            piece.memory.close()
        if draw.random() < 0.02:
            time.sleep(draw.random())
    checked += sum(piece.check() for piece in pieces)
    print("checked", checked, flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]) << 20, int(sys.argv[3]))
