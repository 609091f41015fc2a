"""A recurrent model in a folder: two graphs, and what it is.

about.json      kind, axes, what it was trained on, its scores
step.onnx       one step
window.onnx     several, to fill a state
"""

from __future__ import annotations

import json
from pathlib import Path

from forestall.learning.recurrent.model import About, RecurrentModel
from forestall.model.errors import BadInput

ABOUT, STEP, WINDOW = "about.json", "step.onnx", "window.onnx"


def write_model(folder: Path, model: RecurrentModel) -> None:
    """Write a model into a folder, which is made; what it is comes last, so that a model without it is not whole."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STEP).write_bytes(model.step)
    (folder / WINDOW).write_bytes(model.window)
    (folder / ABOUT).write_text(json.dumps(model.about.as_record(), indent=1) + "\n", "utf-8")


def read_model(folder: Path) -> RecurrentModel:
    """Read a model.

    Raises
    ------
    BadInput
        There is none, or it is not whole.
    """
    try:
        about = About.from_record(json.loads((folder / ABOUT).read_text("utf-8")))
        return RecurrentModel(about, (folder / STEP).read_bytes(), (folder / WINDOW).read_bytes())
    except OSError as error:
        raise BadInput(f"holds no recurrent model: {error.strerror}: {error.filename}", path=folder) from error
    except ValueError as error:
        raise BadInput(f"{ABOUT} is damaged: {error}", path=folder) from error
