"""GET /v1/models and /v1/models/{id}: what the caller's tenant may ask for."""

from __future__ import annotations

import datetime as dt
from typing import Any

import orjson
from django.http import HttpResponse

from billing.pricing import PriceVersion
from billing.quotes import quote_rates
from gateway.context import Caller
from gateway.directory import Directory
from gateway.errors import ModelNotFoundError, ValidationError
from gateway.handler import DataPlaneRequest
from gateway.responses import json_response
from gateway.views import DataPlaneView
from providers.models import Capability
from providers.selectors import GroupEntry, ModelEntry
from tenants.models import Scope


class ModelListView(DataPlaneView):
    """The models and groups approved for the tenant; `?capability=` and `?provider=` narrow the list."""

    scope = Scope.MODELS

    async def get(self, request: DataPlaneRequest) -> HttpResponse:
        """Answer OpenAI's list, each entry with capabilities, limits and prices."""
        assert request.trace.caller is not None
        entries = _visible(request.gateway.directory, request.trace.caller)
        capability, provider = request.GET.get("capability"), request.GET.get("provider")
        if capability is not None:
            if capability not in Capability.values:
                known = ", ".join(Capability.values)
                raise ValidationError(f"There is no capability {capability!r}; there are {known}.", param="capability")
            entries = [entry for entry in entries if capability in entry["capabilities"]]
        if provider is not None:
            entries = [entry for entry in entries if provider in entry["providers"]]
        return json_response(orjson.dumps({"object": "list", "data": entries}))


class ModelView(DataPlaneView):
    """One model or group."""

    scope = Scope.MODELS

    async def get(self, request: DataPlaneRequest, name: str) -> HttpResponse:
        """Answer one entry of the list; what the tenant may not use is not found."""
        assert request.trace.caller is not None
        for entry in _visible(request.gateway.directory, request.trace.caller):
            if entry["id"] == name:
                return json_response(orjson.dumps(entry))
        raise ModelNotFoundError(f"There is no model or group called {name!r} for this tenant.", param="model")


def _visible(directory: Directory, caller: Caller) -> list[dict[str, Any]]:
    entries = []
    for name in sorted(caller.approved):
        if name in directory.catalogue.groups:
            entries.append(_describe_group(directory, directory.catalogue.groups[name]))
        elif name in directory.catalogue.models and directory.catalogue.models[name].serves:
            entries.append(_describe_model(directory, directory.catalogue.models[name]))
    return entries


def _describe_model(directory: Directory, model: ModelEntry) -> dict[str, Any]:
    price = directory.prices.at(model.id, dt.datetime.now(dt.UTC))
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
        "capabilities": sorted(model.capabilities),
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "pricing": _describe_price(price) if price is not None else None,
        "lifecycle": model.lifecycle,
        "providers": sorted({deployment.target.provider_name for deployment in model.deployments}),
    }


def _describe_price(price: PriceVersion) -> dict[str, Any]:
    """The base prices, and the tiers whose prices replace them; of those that apply the first wins."""
    return {
        "currency": "USD",
        "per": "1M units",
        "units": quote_rates(price.rates),
        "tiers": [{"name": tier.name, **tier.conditions(), "units": quote_rates(tier.rates)} for tier in price.tiers],
    }


def _describe_group(directory: Directory, group: GroupEntry) -> dict[str, Any]:
    """A group can do what any of its serving members can; its price is that of whichever member answers."""
    models = [directory.catalogue.models[name] for name in group.members if name in directory.catalogue.models]
    members = [model for model in models if model.serves]
    windows = [model.context_window for model in members if model.context_window]
    outputs = [model.max_output_tokens for model in members if model.max_output_tokens]
    return {
        "id": group.name,
        "object": "model",
        "created": group.created,
        "owned_by": "bursar",
        "capabilities": sorted(frozenset().union(*(model.capabilities for model in members))),
        "context_window": max(windows, default=None),
        "max_output_tokens": max(outputs, default=None),
        "pricing": None,
        "members": [model.name for model in members],
        "providers": sorted({place.target.provider_name for model in members for place in model.deployments}),
    }
