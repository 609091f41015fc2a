"""The guest that streams: films as MPEG transport streams over RTP, to whoever asks for one by RTSP.

Sources: RFC 2326 (RTSP), RFC 3550 (RTP), RFC 2250 (transport streams in RTP).
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
import time
from pathlib import Path

from forestall.lab.guest.worker import told_port

FILMS = Path("/var/lib/films")
FILM_COUNT, FILM_PACKETS = 4, 40_000
TS_BYTES, TS_SYNC = 188, 0x47
PER_PACKET = 7
"""Transport stream packets in a packet of RTP: as many as an Ethernet frame holds."""
PACKETS_PER_S, LONGEST_SECONDS = 40, 300.0
PAYLOAD_TYPE, CLOCK_HZ = 33, 90_000
SDP = f"v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=film\r\nt=0 0\r\nm=video 0 RTP/AVP {PAYLOAD_TYPE}\r\n"


def shoot() -> None:
    """Make the films, once."""
    FILMS.mkdir(parents=True, exist_ok=True)
    for number in range(FILM_COUNT):
        path = FILMS / f"{number}.ts"
        if not path.exists():
            frame = struct.pack(">BHB", TS_SYNC, 0x100, 0x10)
            with path.open("wb") as film:
                for _ in range(FILM_PACKETS // 100):
                    film.write(b"".join(frame + os.urandom(TS_BYTES - 4) for _ in range(100)))


async def play(number: int, address: str, port: int, served: socket.socket) -> None:
    """Send a film to a port, a packet each fortieth of a second, until cancelled or long enough."""
    source, began = random.getrandbits(32), time.monotonic()
    with (FILMS / f"{number}.ts").open("rb") as film:
        for sequence in range(int(LONGEST_SECONDS * PACKETS_PER_S)):
            if len(content := film.read(TS_BYTES * PER_PACKET)) < TS_BYTES * PER_PACKET:
                film.seek(0)
                content = film.read(TS_BYTES * PER_PACKET)
            instant = sequence * CLOCK_HZ // PACKETS_PER_S
            header = struct.pack(">BBHII", 0x80, PAYLOAD_TYPE, sequence & 0xFFFF, instant & 0xFFFFFFFF, source)
            served.sendto(header + content, (address, port))
            await asyncio.sleep(max(0.0, began + (sequence + 1) / PACKETS_PER_S - time.monotonic()))


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one viewer until he hangs up."""
    address = writer.get_extra_info("peername")[0]
    served = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    served.bind(("", 0))
    port, playing = 0, None
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, url, _ = head[0].split(" ")
            fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
            more, body = "", ""
            if method == "DESCRIBE":
                more, body = "Content-Type: application/sdp\r\n", SDP
            elif method == "SETUP":
                port = int(fields["transport"].rpartition("client_port=")[2].split("-")[0])
                more = f"Transport: {fields['transport']};server_port={served.getsockname()[1]}\r\nSession: 1\r\n"
            elif method == "PLAY" and playing is None:
                number = int(url.rpartition("/")[2]) % FILM_COUNT
                playing = asyncio.create_task(play(number, address, port, served))
            answer = f"RTSP/1.0 200 OK\r\nCSeq: {fields.get('cseq', 0)}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
            writer.write((answer + body).encode())
    except (OSError, EOFError, ValueError, KeyError):
        pass  # gone, or no viewer at all
    finally:
        if playing is not None:
            playing.cancel()
        served.close()
        writer.close()


async def stream() -> None:
    """Serve for ever."""
    server = await asyncio.start_server(serve, "", told_port())
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    shoot()
    asyncio.run(stream())
