"""Policies, and what a draft of them says."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from forestall.model.resources import Resource


class PolicyVersion(BaseModel):
    """A version of the policies."""

    number: int = Field(description="0: there was none yet.")
    at: float = Field(description="Since when, seconds UTC.")
    origin: Literal["file", "applied"] = Field(description="From the file that the configuration names, or applied.")
    by: str = Field(description="Which file, or who.")
    comment: str
    digest: str = Field(description="SHA-256 of its text, hexadecimal.")


class Policy(PolicyVersion):
    """A version of the policies, with its text."""

    text: str = Field(description="TOML; docs/policy.md says what may stand in it.")


Text = Annotated[str, Field(max_length=1 << 20, description="TOML; docs/policy.md says what may stand in it.")]


class NewPolicy(BaseModel):
    """A policy to be put in force."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: Text
    comment: str = Field("", max_length=500, description="Why; it is kept with the version.")


class DraftPolicy(BaseModel):
    """A policy to be looked at."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: Text


class Rule(BaseModel):
    """A rule, as it was understood."""

    name: str
    priority: int
    matches: dict[str, list[str]] = Field(description="Patterns by what they are matched with; none: every VM.")
    calendar: str | None = Field(description="When it holds; null: always.")
    resources: list[Resource]
    sets: dict[str, float]


class CheckedPolicy(BaseModel):
    """What a policy says."""

    rules: list[Rule] = Field(description="In order of precedence, the highest first.")
    defaults: dict[str, float]
    warnings: list[str] = Field(description="What is probably not meant.")
