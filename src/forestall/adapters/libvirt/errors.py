"""The one place where an error of libvirt becomes one of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import libvirt

from forestall.model.errors import HypervisorError, Unsupported

_UNSUPPORTED = (
    libvirt.VIR_ERR_NO_SUPPORT,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
    libvirt.VIR_ERR_OPERATION_DENIED,
)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise :class:`HypervisorError` or :class:`Unsupported` in place of ``libvirtError``: ``doing: why``."""
    try:
        yield
    except libvirt.libvirtError as error:
        why = " ".join(str(error).split()) or "libvirt gives no reason"
        kind = Unsupported if error.get_error_code() in _UNSUPPORTED else HypervisorError
        raise kind(f"{doing}: {why}") from error


def is_missing(error: BaseException | None) -> bool:
    """Whether libvirt said that there is no such domain, or that it does not run."""
    if not isinstance(error, libvirt.libvirtError):
        return False
    return error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID)
