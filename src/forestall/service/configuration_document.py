"""From the document of ``forestall.toml`` (what a TOML parser returns) to a :class:`Configuration`, and back."""

from __future__ import annotations

import ipaddress
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

from forestall.demand import policy_values as read
from forestall.demand.policy_reading import Place, PolicyProblem, read_table, read_values, refuse_unknown
from forestall.service.configuration import (
    ActuatorConfiguration,
    ApiConfiguration,
    ApplicationConfiguration,
    BurstConfiguration,
    Configuration,
    ControllerConfiguration,
    FabricConfiguration,
    GuestConfiguration,
    HostConfiguration,
    LearningConfiguration,
    Mode,
    SafetyConfiguration,
    SignInConfiguration,
    StagingConfiguration,
    StoreConfiguration,
    TierConfiguration,
    TimeLapseConfiguration,
)

TABLES: Mapping[str, type] = {
    "host": HostConfiguration,
    "actuators": ActuatorConfiguration,
    "safety": SafetyConfiguration,
    "store": StoreConfiguration,
    "learning": LearningConfiguration,
    "burst": BurstConfiguration,
    "staging": StagingConfiguration,
    "tiers": TierConfiguration,
    "guests": GuestConfiguration,
    "applications": ApplicationConfiguration,
    "fabric": FabricConfiguration,
    "controller": ControllerConfiguration,
    "api": ApiConfiguration,
    "sign_in": SignInConfiguration,
    "time_lapse": TimeLapseConfiguration,
}
_HOUR, _DAY = 3600, 86400
_LONGEST_URL = 1000
_SERVER, _OPTION = r"([^\s:/?#@,\[\]]+|\[[0-9a-fA-F:.%]+\])?(:\d{1,5})?", r"[a-z_]+=[^\s&=#?]*"
_DATABASE_URL = re.compile(
    rf"postgres(ql)?://([^\s:/?#@]+@)?{_SERVER}(,{_SERVER})*(/[^\s/?#@]*)?(\?(?P<options>{_OPTION}(&{_OPTION})*))?"
)
_SECRET = re.compile(r"(^|&)[a-z_]*(password|secret|_key)=")


def _whole(low: int, high: int) -> Callable[[object], int]:
    """Read a whole number from ``low`` to ``high``."""

    def whole(value: object) -> int:
        found = read.integer(value)
        if not low <= found <= high:
            raise ValueError(f"must be at least {low} and at most {high}, not {read.shown(found)}")
        return found

    return whole


def _times(value: object) -> tuple[float, ...]:
    """Read a list of numbers above 0, each greater than the one before."""
    if not isinstance(value, list):
        raise ValueError(f"must be a list, not {read.shown(value)}")
    found = tuple(float(read.number(0)(item)) for item in value)
    if any(after <= before for before, after in pairwise(found)):
        raise ValueError("must grow: the quickest tier comes first")
    return found


def _path(value: object) -> Path:
    return Path(read.text(value))


def _absolute(value: object) -> Path:
    path = _path(value)
    if not path.is_absolute():
        raise ValueError(f"must be a path from the root, as '/var/lib/forestall', not {read.shown(str(path))}")
    return path


def _https(value: object) -> str:
    if value == "":
        return ""
    url = read.text(value)
    if not re.fullmatch(r"https://[^/\s?#@]+/?", url):
        raise ValueError(f"must be as 'https://NAME:PORT', not {read.shown(url)}")
    return url


def _postgresql(value: object) -> str:
    """Read the URL of a database; what is wrong is said without it, for there may be a password in it.

    A URL is read as libpq does, which takes more for a name and a password than RFC 3986.
    """
    if value == "":
        return ""
    url = value if isinstance(value, str) and value.isprintable() and len(value) <= _LONGEST_URL else ""
    found = _DATABASE_URL.fullmatch(url)
    if re.match(r"postgres(ql)?://[^@/]*:[^@/]*@", url) or (found and _SECRET.search(found["options"] or "")):
        raise ValueError("must not have a password in it: name a file with ?passfile=/etc/forestall/pgpass")
    if not found:
        raise ValueError(f"must be as 'postgresql://HOST/NAME', at most {_LONGEST_URL} characters")
    return url


def _address(value: object) -> str:
    address = read.text(value)
    if not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}", address):
        raise ValueError(f"must be as '0.0.0.0:7443', not {read.shown(address)}")
    return address


def _text_or_nothing(value: object) -> str:
    return "" if value == "" else read.text(value)


def _provider(value: object) -> str:
    """Read an address of a provider, or of our pages: https, or http at this machine's own addresses; or none."""
    if value == "":
        return ""
    url = read.text(value)
    found = re.fullmatch(r"(https?)://(\[[0-9a-fA-F:]+\]|[^\s/:?#@]+)(:\d{1,5})?(/[^\s?#]*)?", url)
    if not found or (found[1] == "http" and not _is_loopback(found[2].strip("[]"))):
        raise ValueError(f"must be as 'https://id.example.org', not {read.shown(url)}")
    return url


def _own_address(value: object) -> str:
    return "" if value == "" else _address(value)


def _switches_door(value: object) -> str:
    listen = read.text(value)
    if not re.fullmatch(r"punix:/\S+|p(tcp|ssl):\d{1,5}(:[^\s:]+|:\[[0-9a-fA-F:]+\])?", listen):
        raise ValueError(f"must be as 'ptcp:6653:127.0.0.1' or 'punix:/run/openflow.sock', not {read.shown(listen)}")
    return listen


def _database(value: object) -> str:
    remote = read.text(value)
    if not re.fullmatch(r"unix:/\S+|tcp:([^\s:]+|\[[0-9a-fA-F:]+\]):\d{1,5}", remote):
        raise ValueError(f"must be as 'unix:/run/openvswitch/db.sock' or 'tcp:HOST:6640', not {read.shown(remote)}")
    return remote


def _mode(value: object) -> Mode:
    return Mode(read.one_of([mode.value for mode in Mode], "mode")(value))


_amount = read.number(0, low_too=True)
KEYS: Mapping[str, Mapping[str, read.Reader]] = {
    "": {
        "connect": read.text,
        "mode": _mode,
        "canary_share": read.number(0, 1),
        "step_seconds": _whole(1, _HOUR),
        "violation_budget": read.number(0, 0.5, high_too=False),
        "cold_seconds": _whole(0, _DAY),
        "max_changes_per_vm_hour": _amount,
        "resources": read.several(read.resource),
        "vms": read.several(read.text),
        "policies": _path,
        "state_folder": _absolute,
    },
    "host": {
        "reserved_cores": _amount,
        "reserved_bytes": _amount,
        "cpu_allocation_ratio": read.number(0, 100),
        "memory_allocation_ratio": read.number(0, 100),
    },
    "actuators": {
        "cpu": read.one_of(("quota", "quota+shares", "quota+hotplug", "quota+shares+hotplug", "off"), "means"),
        "memory": read.one_of(("auto", "balloon", "virtio-mem", "off"), "means"),
        "disk": read.one_of(("iotune", "off"), "means"),
        "network": read.one_of(("tc", "off"), "means"),
    },
    "safety": {
        "lease_seconds": _whole(1, _DAY),
        "floor_share": read.number(0, 1, low_too=True),
        "floor_cores": _amount,
        "floor_bytes": _amount,
        "stale_seconds": _whole(0, _DAY),
        "clock_jump_seconds": read.number(0),
        "actuator_errors": _whole(1, 1_000_000),
        "forecast_failures": _whole(1, 1_000_000),
        "crashes": _whole(1, 1_000_000),
        "recover_seconds": _whole(0, 7 * _DAY),
    },
    "store": {
        "url": _postgresql,
    },
    "learning": {
        "retrain": read.one_of(("auto", "off"), "ways"),
        "retrain_hours": _whole(24, 365 * 24),
        "cpu_seconds": _whole(60, 7 * _DAY),
    },
    "burst": {
        "loop": read.one_of(("auto", "off"), "ways"),
        "window_ms": _whole(25, 1_000),
        "beat_ms": _whole(5, 100),
        "violation_budget": read.number(0, 0.5, high_too=False),
        "whole_cores": read.flag,
    },
    "staging": {
        "memory": read.one_of(("auto", "off"), "ways"),
        "blocks": read.one_of(("auto", "off"), "ways"),
        "cached_bytes": _whole(1 << 20, 1 << 45),
        "log_bytes": _whole(0, 1 << 45),
        "horizon_seconds": read.number(0, _DAY),
        "staged_bytes": _whole(1 << 20, 1 << 45),
        "block_bytes": _whole(1 << 12, 1 << 30),
        "keep_free_bytes": _whole(0, 1 << 45),
        "least_precision": read.number(0, 1, low_too=True, high_too=False),
        "core_ratio_per_ten_vms": read.number(0, 10),
        "memory_use": read.one_of(("marks", "damon"), "ways"),
    },
    "tiers": {
        "names": read.several(read.text, may_be_empty=True),
        "request_ms": _times,
        "moves": read.one_of(("auto", "off"), "ways"),
        "move_bytes_per_s": _whole(1 << 20, 1 << 45),
        "look_ahead_hours": _whole(1, 7 * 24),
        "gain_ratio": read.number(1, 1_000_000, low_too=True),
        "least_seen_hours": _whole(1, 28 * 24),
        "keep_free_bytes": _whole(0, 1 << 50),
        "old_images": read.one_of(("remove", "keep"), "ways"),
    },
    "guests": {
        "channel": read.one_of(("auto", "off"), "ways"),
    },
    "applications": {
        "traffic": read.one_of(("auto", "off"), "ways"),
        "summary_vms": _whole(2, 1_000_000),
    },
    "fabric": {
        "listen": _switches_door,
        "databases": read.several(_database),
        "topology": _path,
        "step_seconds": read.number(0.1, _HOUR, low_too=True),
        "most_pairs": _whole(0, 100_000),
        "link_bytes_per_s": _amount,
        "queues": read.one_of(("auto", "off"), "ways"),
        "limits": read.one_of(("auto", "off"), "ways"),
        "latency_sensitive": read.several(read.text, may_be_empty=True),
        "interactive": read.several(read.text, may_be_empty=True),
        "bulk": read.several(read.text, may_be_empty=True),
        "background": read.several(read.text, may_be_empty=True),
    },
    "controller": {
        "url": _https,
        "listen": _address,
        "certificate": _absolute,
        "key": _absolute,
        "authority": _absolute,
        "revoked": _absolute,
        "spool_bytes": _whole(1_000_000, 1 << 40),
        "spool_seconds": _whole(60, 60 * _DAY),
    },
    "api": {
        "listen": _own_address,
        "certificate": _absolute,
        "key": _absolute,
    },
    "sign_in": {
        "issuer": _provider,
        "name": read.text,
        "client_id": read.text,
        "client_secret_file": _absolute,
        "address": _provider,
        "scopes": read.text,
        "name_claim": read.text,
        "groups_claim": read.text,
        "viewers": read.several(read.text, may_be_empty=True),
        "operators": read.several(read.text, may_be_empty=True),
        "admins": read.several(read.text, may_be_empty=True),
        "trust_groups_claim": _text_or_nothing,
    },
    "time_lapse": {
        "pace": read.number(1, 100_000, low_too=True),
        "midnight_at": _amount,
    },
}
"""What reads each key, by table; the empty name is the top of the file."""


def read_configuration(document: Mapping[str, Any]) -> Configuration:
    """Read the document of ``forestall.toml``.

    Raises
    ------
    PolicyProblem
        Unknown key, wrong type, impossible value, or two values that cannot both be meant.
    """
    _refuse_misplaced(document)
    refuse_unknown(document, (*KEYS[""], *TABLES), Place(""))
    given = read_values(document, KEYS[""], Place(""))
    for name, kind in TABLES.items():
        given[name] = kind(**read_table(document.get(name, {}), KEYS[name], _table_place(name)))
    configuration = Configuration(**given)
    _refuse_short(configuration, document, "lease_seconds", "a grant would end before it can be renewed")
    if configuration.safety.stale_seconds:
        _refuse_short(configuration, document, "stale_seconds", "every sample would be stale")
    _refuse_lapse(configuration)
    _refuse_tiers(configuration)
    refuse_open_api(configuration.api)
    _refuse_sign_in_for_nobody(configuration.sign_in)
    if configuration.burst.window_ms % configuration.burst.beat_ms:
        what = f"window_ms {configuration.burst.window_ms} is not a multiple of beat_ms {configuration.burst.beat_ms}"
        raise PolicyProblem(what, replace(_table_place("burst"), key="window_ms"))
    return configuration


def settings_of(configuration: Configuration) -> dict[str, Any]:
    """Every value by the name of its key, ``table.key`` for those that stand in a table."""
    found: dict[str, Any] = {}
    for item in fields(configuration):
        value = getattr(configuration, item.name)
        if item.name in TABLES:
            found |= {f"{item.name}.{inner.name}": getattr(value, inner.name) for inner in fields(value)}
        else:
            found[item.name] = value
    return found


def document_of(configuration: Configuration) -> str:
    """Write a configuration as TOML that reads back as the same; a key without a value is a comment."""
    lines: list[str] = []
    for name, value in settings_of(configuration).items():
        table, _, key = name.rpartition(".")
        if table and f"[{table}]" not in lines:
            lines += ["", f"[{table}]"]
        lines.append(f"# {key} is not set" if value is None else f"{key} = {toml_value(value)}")
    return "\n".join(lines) + "\n"


def toml_value(value: object) -> str:
    """One value as it stands in TOML; ``none`` for a key that is not set."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, StrEnum | str | Path):
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, float) and math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return f"{value:.1f}"
    return repr(value)


def _table_place(name: str) -> Place:
    return Place(name, words=f"[{name}]")


def _refuse_misplaced(document: Mapping[str, Any]) -> None:
    """Raise for a key that is known, but stands in the wrong table: the most frequent slip in TOML."""
    homes = {key: name for name, keys in KEYS.items() for key in keys if name}
    for key in document:
        if key in homes and key not in KEYS[""]:
            raise PolicyProblem(f"{key} belongs into the table [{homes[key]}]", Place("", key=key))
    for name in TABLES:
        table = document.get(name)
        for key in table if isinstance(table, dict) else ():
            if key not in KEYS[name] and key in KEYS[""]:
                what = f"{key} belongs to the top of the file, before the first table"
                raise PolicyProblem(what, Place(name, words=f"[{name}]", key=key))


def _refuse_lapse(configuration: Configuration) -> None:
    """Raise for a time lapse that would date everything wrongly."""
    lapse, place = configuration.time_lapse, Place("time_lapse", words="[time_lapse]", key="pace")
    if lapse.pace != 1.0 and not lapse.midnight_at:
        raise PolicyProblem("pace needs midnight_at, the instant at which a Monday of the guests began", place)
    if lapse.pace != 1.0 and configuration.connect.startswith("simulated:"):
        raise PolicyProblem("pace is for real guests; a simulated host has the time of its trace", place)


def refuse_open_api(api: ApiConfiguration) -> None:
    """Raise :class:`PolicyProblem` for an API that tokens would reach over the network in the clear."""
    place = Place("api", words="[api]", key="listen")
    if (api.certificate is None) != (api.key is None):
        raise PolicyProblem("certificate and key go together", replace(place, key="certificate"))
    if not api.listen:
        return
    try:
        address = _address(api.listen).rpartition(":")[0].strip("[]")
    except ValueError as error:
        raise PolicyProblem(f"listen {error}", place) from error
    if api.certificate is None and not _is_loopback(address):
        raise PolicyProblem(f"at {address} the API needs TLS: set certificate and key, or listen at 127.0.0.1", place)


def _refuse_sign_in_for_nobody(sign_in: SignInConfiguration) -> None:
    """Raise for a provider by whom nobody could come in."""
    place = Place("sign_in", words="[sign_in]", key="issuer")
    if not sign_in.issuer:
        return
    if not sign_in.address:
        raise PolicyProblem("issuer needs address, where browsers come back to: https://HOST:PORT", place)
    if not (sign_in.viewers or sign_in.operators or sign_in.admins):
        raise PolicyProblem("issuer needs viewers, operators or admins: groups whose members may come in", place)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _refuse_tiers(configuration: Configuration) -> None:
    """Raise for tiers of which it is not clear which is the quicker one."""
    names, times = configuration.tiers.names, configuration.tiers.request_ms
    place = Place("tiers", words="[tiers]", key="request_ms")
    if len(names) != len(times):
        raise PolicyProblem(f"request_ms has {len(times)} values for {len(names)} different names", place)
    if len(names) == 1:
        raise PolicyProblem("names one tier only; there is nothing to move between", replace(place, key="names"))


def _refuse_short(configuration: Configuration, document: Mapping[str, Any], key: str, why: str) -> None:
    """Raise for a time that is shorter than two cycles."""
    seconds, least = getattr(configuration.safety, key), 2 * configuration.step_seconds
    if seconds < least:
        stated = key in document.get("safety", {})
        place = Place("safety", words="[safety]", key=key) if stated else Place("", key="step_seconds")
        what = f"[safety] {key} {seconds} is less than two steps of {configuration.step_seconds} s: {why}"
        raise PolicyProblem(what.removeprefix("[safety] ") if stated else what, place)
