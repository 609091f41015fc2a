"""The one tree of errors that Forestall raises on purpose.

::

    ForestallError                 exit code 1
      ├─ BadInput                  exit code 2: a file or value that a user gave is wrong
      │    └─ BadPolicy            a policy file says something it cannot mean
      ├─ WrongUse                  exit code 2: a command was called with options that do not fit together
      ├─ StoreError                the behaviour store cannot be read or written
      │    └─ FolderInUse          another process holds the lock of a folder
      ├─ TransportError            what is to be sent to the centre is not there
      │    ├─ CentreAway           it cannot be reached, or is too busy: worth a later try
      │    └─ FrameRefused         it will never take this frame
      ├─ GuestError                what runs inside a VM does not answer, or refused
      ├─ FabricError               a switch refused, or is gone
      ├─ ApiError                  the API refused, or cannot be reached
      ├─ IdentityError             a provider of identities does not confirm who somebody is
      └─ HypervisorError           the hypervisor refused, or is gone
           └─ Unsupported          this driver or domain cannot do that; never retried

Errors of libraries are translated into this tree at the edge (adapters, readers, commands). Anything
else that escapes is a defect of Forestall itself.
"""

from __future__ import annotations


class ForestallError(Exception):
    """Base of every error that Forestall raises on purpose; its text is one clear line."""

    exit_code = 1


class BadInput(ForestallError):
    """A file or value that a user gave is wrong.

    The text says where and why: ``FILE: row ROW, column COLUMN: what is wrong``.

    Parameters
    ----------
    what
        What is wrong, in one clause, with the offending value in it.
    path, row, column
        Where; each may be unknown. Rows count from 1, the header not counted.
    """

    exit_code = 2

    def __init__(self, what: str, *, path: object = None, row: int | None = None, column: str | None = None) -> None:
        place = [f"row {row}"] if row is not None else []
        place += [f"column {column}"] if column is not None else []
        parts = ([str(path)] if path is not None else []) + ([", ".join(place)] if place else []) + [what]
        super().__init__(": ".join(parts))
        self.what, self.path, self.row, self.column = what, path, row, column


class BadPolicy(BadInput):
    """A policy file says something it cannot mean: unknown key, impossible value, contradiction."""


class WrongUse(ForestallError):
    """Options of a command that do not fit together, or that the given input cannot serve."""

    exit_code = 2


class StoreError(ForestallError):
    """The behaviour store or the journal cannot be opened, read or written."""


class FolderInUse(StoreError):
    """Another process holds the lock of a folder."""


class TransportError(ForestallError):
    """What was to be sent to the centre is not there."""


class CentreAway(TransportError):
    """The centre cannot be reached, does not believe us, or is too busy: worth a later try."""


class FrameRefused(TransportError):
    """The centre has read the frame, and will never take it."""


class GuestError(ForestallError):
    """The agent inside a VM does not answer, or refused."""


class FabricError(ForestallError):
    """A switch refused what it was told, does not answer, or is gone."""


class IdentityError(ForestallError):
    """A provider of identities does not confirm who somebody is, or cannot be reached."""


class ApiError(ForestallError):
    """The API refused, or cannot be reached.

    Parameters
    ----------
    detail
        Why, in one line.
    status
        Of HTTP; None: it could not be reached.
    """

    def __init__(self, detail: str, status: int | None = None) -> None:
        super().__init__(detail)
        self.status = status


class HypervisorError(ForestallError):
    """The hypervisor refused an action or is gone."""


class Unsupported(HypervisorError):
    """This driver or domain cannot do that; the reason is the text. Never worth a retry."""


def in_one_line(error: BaseException) -> str:
    """What is said of an error that ends nothing: one of ours says it itself, a defect is named by its kind."""
    return str(error) if isinstance(error, ForestallError) else f"{type(error).__name__}: {error}"
