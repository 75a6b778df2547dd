"""What applying a file did, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class NewKey:
    """An API key that was made, with the only copy of its text."""

    tenant: str
    name: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NewWebhookSecret:
    """The signing secret of a webhook that was made, readable this once."""

    tenant: str
    url: str
    secret: str = field(repr=False)


class Report:
    """What was created, changed and pruned, each thing under one name such as `model gpt-4o-mini`."""

    def __init__(self) -> None:
        self.keys: list[NewKey] = []
        self.webhook_secrets: list[NewWebhookSecret] = []
        self._created: dict[str, None] = {}
        self._changed: dict[str, dict[str, None]] = {}
        self._pruned: dict[str, str] = {}

    def created(self, subject: str) -> None:
        self._created[subject] = None

    def changed(self, subject: str, fields: Iterable[str]) -> None:
        """Fields of something that stood in the database before; what was just created is not changed as well."""
        fields = list(fields)
        if fields and subject not in self._created:
            self._changed.setdefault(subject, {}).update(dict.fromkeys(fields))

    def pruned(self, subject: str, fate: str) -> None:
        """`fate`: deleted, disabled, retired, revoked, suspended or withdrawn."""
        self._pruned[subject] = fate

    def as_json(self) -> dict[str, Any]:
        """`created`, `changed` and `pruned` as lists of texts, `keys` and `webhook_secrets`."""
        return {
            "created": list(self._created),
            "changed": [f"{subject}: {', '.join(fields)}" for subject, fields in self._changed.items()],
            "pruned": [f"{subject}: {fate}" for subject, fate in self._pruned.items()],
            "keys": [{"tenant": key.tenant, "name": key.name, "key": key.key} for key in self.keys],
            "webhook_secrets": [
                {"tenant": new.tenant, "url": new.url, "secret": new.secret} for new in self.webhook_secrets
            ],
        }

    def as_text(self) -> str:
        """The same for a terminal."""
        form = self.as_json()
        lines = [f"{verb:<8} {item}" for verb in ("created", "changed", "pruned") for item in form[verb]]
        lines = lines or ["Nothing changed."]
        if self.keys:
            lines += ["", "New API keys. They are shown this once and cannot be had again:"]
            lines += [f"  {key.tenant}/{key.name}  {key.key}" for key in self.keys]
        if self.webhook_secrets:
            lines += ["", "New webhook secrets. They are shown this once and cannot be had again:"]
            lines += [f"  {new.tenant}  {new.url}  {new.secret}" for new in self.webhook_secrets]
        return "\n".join(lines)
