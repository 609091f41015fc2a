"""Which role somebody has whom a provider of identities knows: by the groups that it says they are in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forestall.model.errors import WrongUse
from forestall.ports.token_book import Role
from forestall.service.access.tokens import Caller

PREFIX = "oidc:"
"""Of their names and handles: no token has such ones."""
LONGEST_NAME, MOST_GROUPS = 64, 1_000


@dataclass(frozen=True)
class PeopleRules:
    """What is read from what a provider says.

    Attributes
    ----------
    name_claim
        What people are called by.
    groups_claim
        Their groups there.
    roles
        Groups whose members have each role; the highest counts.
    trust_groups_claim
        Trust groups whose VMs they see; empty: they see all VMs.
    """

    name_claim: str
    groups_claim: str
    roles: Mapping[Role, frozenset[str]]
    trust_groups_claim: str = ""


def caller_of(claims: Mapping[str, Any], rules: PeopleRules) -> Caller:
    """Who somebody is here.

    Raises
    ------
    WrongUse
        They have no role, or would see no VM.
    """
    name = claims.get(rules.name_claim)
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        name = str(claims["sub"])
    groups = _names(claims, rules.groups_claim)
    role = next((role for role in reversed(Role) if groups & rules.roles.get(role, frozenset())), None)
    if role is None:
        raise WrongUse(f"{name[:LONGEST_NAME]!r} is in no group that has a role here")
    seen = None
    if rules.trust_groups_claim:
        seen = _names(claims, rules.trust_groups_claim)
        if not seen:
            raise WrongUse(f"{name[:LONGEST_NAME]!r} is for no trust group, and would see nothing")
    who = hashlib.sha256(f"{claims['iss']}\0{claims['sub']}".encode("utf-8", "replace")).hexdigest()[:32]
    return Caller(f"{PREFIX}{name[:LONGEST_NAME]}", role, seen, f"{PREFIX}{who}")


def is_of_a_provider(caller: Caller) -> bool:
    """Whether somebody came in without a token of ours."""
    return caller.handle.startswith(PREFIX)


def _names(claims: Mapping[str, Any], claim: str) -> frozenset[str]:
    """Names in a claim, which may be one or a list."""
    said = claims.get(claim, [])
    each = [said] if isinstance(said, str) else said if isinstance(said, list) else []
    return frozenset(name for name in each[:MOST_GROUPS] if isinstance(name, str) and name)
