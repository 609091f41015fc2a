"""Trust groups as an operator changes them while the system runs, beside what the policy file says of them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from forestall.demand.policy import PolicySet
from forestall.model.errors import WrongUse
from forestall.ports.trust_book import GroupTerms, TrustBook

LONGEST_NAME = 128
LEAST_HORIZON_SECONDS, MOST_HORIZON_SECONDS = 0.1, 86_400.0


class TrustGroups:
    """All trust groups: those of the policy file, and those of the book, whose word on a VM counts first.

    Parameters
    ----------
    book
        Where it is kept.
    """

    def __init__(self, book: TrustBook) -> None:
        self._book = book
        self._groups = dict(book.read())
        self._stated: PolicySet | None = None

    def beside(self, stated: PolicySet | None) -> PolicySet | None:
        """Take up the policies of the file; the same, with who is in which group by the book."""
        self._stated = stated
        return self.policies()

    def policies(self) -> PolicySet | None:
        """The policies of the file, with who is in which group by the book."""
        members = {vm_id: name for name, terms in self._groups.items() for vm_id in terms.members}
        stated = self._stated
        return replace(stated or PolicySet(), trust_members=members) if members or stated else None

    def terms(self, name: str) -> GroupTerms:
        """What holds for a group; for one of which nothing was said, nothing."""
        return self._groups.get(name, GroupTerms())

    def names(self) -> tuple[str, ...]:
        """Names of all groups."""
        return tuple(sorted({*self._groups, *(self._stated.trust_groups if self._stated else ())}))

    def create(self, name: str) -> None:
        """Make a group without VMs.

        Raises
        ------
        WrongUse
            It is there, or has no proper name.
        """
        if not name or len(name) > LONGEST_NAME or not name.isprintable() or name != name.strip():
            raise WrongUse(f"{name!r} is no name of a trust group: 1 to {LONGEST_NAME} printable characters")
        if name in self.names():
            raise WrongUse(f"there is a trust group {name!r} already")
        self._keep({name: GroupTerms(generation=secrets.token_hex(8))})

    def delete(self, name: str) -> None:
        """Forget what was said of a group; its VMs are in those that the policy file says, or in none."""
        self._known(name)
        if name not in self._groups:
            raise WrongUse(f"the trust group {name!r} is the policy file's: it goes when that does not name it")
        self._write({other: terms for other, terms in self._groups.items() if other != name})

    def add(self, name: str, vm_ids: Sequence[str]) -> None:
        """Put VMs into a group; out of that in which the book had them."""
        self._known(name)
        wanted = dict.fromkeys(_names(vm_ids))
        groups = {}
        for other, terms in self._groups.items():
            groups[other] = replace(terms, members=tuple(vm for vm in terms.members if vm not in wanted))
        own = groups.get(name, GroupTerms())
        groups[name] = replace(own, members=tuple(sorted({*own.members, *wanted})))
        self._write(groups)

    def remove(self, name: str, vm_ids: Sequence[str]) -> None:
        """Take VMs out of a group that were put into it.

        Raises
        ------
        WrongUse
            One of them is not in it, or by the policy file.
        """
        self._known(name)
        own = self.terms(name)
        for vm_id in _names(vm_ids):
            if vm_id not in own.members:
                by_file = self._stated is not None and self._stated.trust((vm_id,)) == (name,)
                why = "is in it by the policy file: change that" if by_file else "is not in it"
                raise WrongUse(f"the trust group {name!r}: {vm_id!r} {why}")
        gone = set(vm_ids)
        self._keep({name: replace(own, members=tuple(vm for vm in own.members if vm not in gone))})

    def shadow(self, name: str, *, on: bool) -> None:
        """Begin, or end, to stage memory for the VMs of a group."""
        self._known(name)
        self._keep({name: replace(self.terms(name), shadowing=on)})

    def set_horizon(self, name: str, seconds: float) -> None:
        """Say within which time a page must be touched after it was staged."""
        self._known(name)
        if not LEAST_HORIZON_SECONDS <= seconds <= MOST_HORIZON_SECONDS:
            raise WrongUse(
                f"a horizon of {seconds:g} s: must be at least {LEAST_HORIZON_SECONDS:g} and at most"
                f" {MOST_HORIZON_SECONDS:g}"
            )
        self._keep({name: replace(self.terms(name), horizon_seconds=float(seconds))})

    def views(self, groups: Mapping[str, str]) -> list[dict[str, Any]]:
        """Every group, with the VMs that are in it now: ``groups`` names the group of each VM."""
        return [self._view(name, groups) for name in self.names()]

    def _view(self, name: str, groups: Mapping[str, str]) -> dict[str, Any]:
        terms = self.terms(name)
        return {
            "group": name,
            "members": list(terms.members),
            "by_policy": self._stated is not None and name in self._stated.trust_groups,
            "vms": sorted(vm_id for vm_id, group in groups.items() if group == name),
            "shadowing": terms.shadowing,
            "horizon_seconds": terms.horizon_seconds,
        }

    def obey(self, request: Mapping[str, Any]) -> None:
        """Change what a request says: ``do``, ``group`` and, by what is to be done, ``vms`` or ``seconds``.

        Raises
        ------
        WrongUse
            It says something that cannot be done, or not enough.
        StoreError
            It could not be kept; then nothing has changed.
        """
        do, group = request.get("do"), request.get("group")
        vm_ids, seconds = request.get("vms"), request.get("seconds")
        if not isinstance(group, str):
            raise WrongUse("which trust group?")
        if do in ("add", "remove"):
            if not isinstance(vm_ids, list) or not all(isinstance(vm_id, str) for vm_id in vm_ids):
                raise WrongUse("which VMs?")
            (self.add if do == "add" else self.remove)(group, vm_ids)
        elif do in ("create", "delete"):
            (self.create if do == "create" else self.delete)(group)
        elif do in ("enable-shadowing", "disable-shadowing"):
            self.shadow(group, on=do == "enable-shadowing")
        elif do == "set-horizon":
            if isinstance(seconds, bool) or not isinstance(seconds, int | float):
                raise WrongUse("a horizon of how many seconds?")
            self.set_horizon(group, seconds)
        else:
            raise WrongUse(f"{do!r} is nothing that can be done with a trust group")

    def _known(self, name: str) -> None:
        if name not in (known := self.names()):
            there = f"there are {', '.join(known)}" if known else "there are none yet"
            raise WrongUse(f"there is no trust group {name!r}; {there}")

    def _keep(self, changed: Mapping[str, GroupTerms]) -> None:
        self._write({**self._groups, **changed})

    def _write(self, groups: Mapping[str, GroupTerms]) -> None:
        self._book.write(groups)
        self._groups = dict(groups)


def _names(vm_ids: Sequence[str]) -> Sequence[str]:
    if not vm_ids or not all(vm_ids):
        raise WrongUse("which VMs?")
    return vm_ids
