"""Asking ``qemu-img`` about images: qemu-img(1). The format is always said, never guessed: guests write into images."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from typing import Any

from forestall.model.errors import HypervisorError

ASK_SECONDS = 60.0
MOST_BYTES = 32 << 20
"""Some 250,000 pieces: an image in more of them is left alone."""


def qemu_img(verb: str, path: str, image_format: str, *options: str, doing: str) -> Any:
    """What it says of an image, from JSON; ``doing`` is what it cannot do where it fails.

    Raises
    ------
    HypervisorError
        It is missing, takes too long, or cannot tell.
    """
    command = ["nice", "-n", "19", "qemu-img", verb, *options, "--output=json", "-f", image_format, path]
    try:
        with tempfile.TemporaryFile() as said:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.PIPE,
                check=True,
                timeout=ASK_SECONDS,
            )
            if (size_bytes := said.seek(0, os.SEEK_END)) > MOST_BYTES:
                raise HypervisorError(f"{path}: lies in too many pieces: {size_bytes} bytes would say where")
            said.seek(0)
            return json.load(said)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        why = getattr(error, "stderr", b"") or str(error).encode()
        raise HypervisorError(f"{path}: qemu-img {doing}: {_line(why)}") from error


def _line(said: bytes) -> str:
    return " ".join(said.decode("utf-8", "replace").split())[-200:]
