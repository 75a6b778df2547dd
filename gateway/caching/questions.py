"""Which calls are the same question: what goes into the key, and what keeps a call out of the cache."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

import msgspec

from gateway.caching.entries import Entry, Shape
from gateway.caching.rules import CacheRule
from gateway.context import Call
from providers.parameters import FOR_THE_GATEWAY
from providers.selectors import Catalogue

FORMAT = 1
"""Raise it when an entry's form or the key's parts change: older entries are then not found."""

SHAPES_NOTHING = frozenset(FOR_THE_GATEWAY) | {"prompt_cache_key", "prompt_cache_retention"}
"""Members that say nothing about what the answer should be. The model is in the key by what it stands for."""

MEDIA = frozenset({"vision", "audio", "video", "documents"})
TOOLS = ("tools", "functions")
LIVE = ("web_search_options", "modalities", "audio")
"""Members whose answers are about the moment, or refer to what a provider keeps for an hour."""

NOTHING = frozenset({b"null", b"[]", b"{}"})

_decode = msgspec.json.decode


@dataclass(frozen=True, slots=True)
class Question:
    """One call as the cache sees it."""

    base: str
    """The key in Redis but for the answer's shape."""
    shape: Shape
    rule: CacheRule
    max_age_seconds: int | None

    @property
    def key(self) -> str:
        """Where this call's own answer is kept."""
        return f"{self.base}:{self.shape}"

    @property
    def keys(self) -> list[str]:
        """Where an answer may be, the best first: a stream can also be made of a whole answer."""
        return [self.key] if self.shape is Shape.WHOLE else [self.key, f"{self.base}:{Shape.WHOLE}"]

    def accepts(self, entry: Entry) -> bool:
        """Whether an entry is fresh enough, and can be given in the shape that is asked for."""
        age = entry.age_seconds(time.time())
        fresh = age <= self.rule.ttl_seconds and (self.max_age_seconds is None or age <= self.max_age_seconds)
        return fresh and entry.serves(self.shape)


KEPT_OPERATIONS = frozenset({"chat", "embeddings"})


def objection(call: Call, rule: CacheRule) -> str:
    """Why a call is not answered from the cache, in one word; empty where it may be."""
    wish, members = call.cache_wish, call.wire.members
    if not wish.is_stored:
        return "no_store"
    if wish.context_dependent:
        return "context"
    if call.wire.tool_turns or any(_says(members.get(name)) for name in TOOLS):
        return "tools"
    if call.operation not in KEPT_OPERATIONS or call.needs & MEDIA or any(_says(members.get(name)) for name in LIVE):
        return "media"
    drawn = call.operation == "chat" and not _is_zero(members.get("temperature"))
    return "temperature" if drawn and not (wish.any_temperature or rule.any_temperature) else ""


def question_of(call: Call, rule: CacheRule, *, name: str, revision: str) -> Question:
    """The key of a call: equal for calls that ask the same, whatever the order of their objects' members."""
    tenant_id = call.caller.principal.tenant_id
    members = {
        member: _decode(raw)
        for member, raw in call.wire.members.items()
        if member not in SHAPES_NOTHING and bytes(raw) != b"null"
    }
    parts = msgspec.json.encode([FORMAT, tenant_id, call.operation, name, revision, members], order="sorted")
    digest = hashlib.sha256(parts).hexdigest()
    # The braces keep a tenant's keys in one slot of a Redis Cluster.
    base = f"{prefix(tenant_id, rule.id)}:{rule.epoch.hex}:{digest}"
    return Question(base, _shape_of(call), rule, call.cache_wish.max_age_seconds)


def prefix(tenant_id: int, rule_id: int) -> str:
    """What the keys of all entries of a rule begin with."""
    return f"{{t:{tenant_id}}}:cache:{rule_id}"


def revision_of(catalogue: Catalogue, name: str) -> str:
    """What a model or group stands for in the registry. Which of its deployments answers makes no difference."""
    group = catalogue.groups.get(name)
    members = group.members if group is not None else (name,)
    models = [catalogue.models[member] for member in members if member in catalogue.models]
    places = [
        (model.id, sorted({(place.target.provider_name, place.target.upstream_model) for place in model.deployments}))
        for model in models
    ]
    return hashlib.sha256(msgspec.json.encode(places)).hexdigest()[:16]


def _shape_of(call: Call) -> Shape:
    if not call.wire.stream:
        return Shape.WHOLE
    return Shape.STREAM_WITH_USAGE if call.wants_usage_chunk else Shape.STREAM


def _says(raw: msgspec.Raw | None) -> bool:
    return raw is not None and bytes(raw) not in NOTHING


def _is_zero(raw: msgspec.Raw | None) -> bool:
    """Whether a temperature is given and 0. Where none is, providers take 1."""
    return raw is not None and _decode(raw) == 0
