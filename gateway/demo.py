"""What the demo contains: a configuration document that the first run applies, so that there is something to call."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from billing.public_prices import Place, public_price
from billing.quotes import quote_rates, quote_tier

TENANT = "demo"
PROJECT = "playground"
KEY = "demo"
OPERATOR = "admin"
MOCK = "mock"
"""The offline provider: its kind, and its name in the demo."""

_MOCK_PROVIDER = {"name": MOCK, "kind": MOCK}
_MOCK_CHAT = "mock-chat"
_MOCK_MODELS: list[dict[str, Any]] = [
    {
        "name": _MOCK_CHAT,
        "capabilities": ["chat", "stream", "tools", "json_schema", "vision", "audio", "video", "documents"],
        "context_window": 128_000,
        "max_output_tokens": 16_384,
        "prices": {"input": "0.15", "cache_read": "0.075", "output": "0.60"},
        "deployments": [{"provider": MOCK, "upstream_model": "mock-chat"}],
    },
    {
        "name": "mock-embed",
        "capabilities": ["embeddings"],
        "context_window": 8_192,
        "prices": {"input": "0.02"},
        "deployments": [{"provider": MOCK, "upstream_model": "mock-embed"}],
    },
    {
        "name": "mock-image",
        "capabilities": ["image_generation", "image_edit"],
        "prices": {"images": "20000"},
        "deployments": [{"provider": MOCK, "upstream_model": "mock-image"}],
    },
    {
        "name": "mock-speech",
        "capabilities": ["speech"],
        "prices": {"characters": "15"},
        "deployments": [{"provider": MOCK, "upstream_model": "mock-speech"}],
    },
    {
        "name": "mock-transcribe",
        "capabilities": ["transcription"],
        "prices": {"seconds": "100"},
        "deployments": [{"provider": MOCK, "upstream_model": "mock-transcribe"}],
    },
    {
        "name": "mock-voice",
        "capabilities": ["realtime"],
        "prices": {
            "input": "4",
            "cache_read": "0.4",
            "output": "24",
            "audio_input": "32",
            "audio_cache_read": "0.4",
            "audio_output": "64",
        },
        "deployments": [{"provider": MOCK, "upstream_model": "mock-voice"}],
    },
    {
        "name": "mock-video",
        "capabilities": ["video_generation"],
        "prices": {"seconds": "100000"},
        "deployments": [{"provider": MOCK, "upstream_model": "mock-video"}],
    },
]

CLI = "cli"
"""The session pool: its kind, and its name in the demo."""

_CLI_PROVIDER = {"name": CLI, "kind": CLI}
_CLI_MODEL: dict[str, Any] = {
    "name": "cli-chat",
    "capabilities": ["chat", "stream"],
    "prices": {"input": "0", "output": "0"},
    "deployments": [{"provider": CLI, "upstream_model": "default"}],
}

_CHAINS = {
    "high-reasoning": ("claude-opus-5-5", "gpt-6.1-sol", "gemini-4-argon", "deepseek-flash", "llama3.2"),
    "fast-response": ("claude-haiku-5-5", "gpt-6-luna", "gemini-3.8-flash", "deepseek-flash"),
    "cost-optimized": ("llama3.2", "claude-haiku-5-5", "deepseek-flash", "gpt-6-luna", "gemini-3.8-flash"),
}
"""Which models each group tries, in this order, as far as their vendors are there."""

_AGENT_TYPES = {
    "product-owner": "high-reasoning",
    "software-architect": "high-reasoning",
    "software-engineer": "high-reasoning",
    "qa-engineer": "fast-response",
    "devops-engineer": "fast-response",
    "project-manager": "fast-response",
}

_CHAT = ("chat", "stream", "tools", "json_schema")
OLLAMA_PORT = 11434


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorModel:
    """A model by the vendor's name, which is the clients' name too."""

    name: str
    capabilities: tuple[str, ...]
    context_window: int
    max_output_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """A provider that the demo registers when the environment names it: by its API key, or by its address."""

    name: str
    kind: str
    models: tuple[VendorModel, ...]
    base_url: str = ""
    api_key_env: str = ""
    address_env: str = ""
    """Names a server of one's own: it is in a private network, wants no key and costs nothing."""

    @property
    def environment_variable(self) -> str:
        """The variable that says whether there is such a provider."""
        return self.api_key_env or self.address_env


VENDORS = (
    Vendor(
        name="openai",
        kind="openai",
        base_url="https://api.openai.com/v1",
        api_key_env="OPENAI_API_KEY",
        models=(
            VendorModel(
                name="gpt-6.1-sol",
                capabilities=(*_CHAT, "vision", "documents", "reasoning"),
                context_window=1_050_000,
                max_output_tokens=32_000,
            ),
            VendorModel(
                name="gpt-6-luna",
                capabilities=(*_CHAT, "vision", "documents", "reasoning"),
                context_window=1_050_000,
                max_output_tokens=32_000,
            ),
            VendorModel(name="text-embedding-3-small", capabilities=("embeddings",), context_window=8_192),
        ),
    ),
    Vendor(
        name="anthropic",
        kind="anthropic",
        base_url="https://api.anthropic.com",
        api_key_env="ANTHROPIC_API_KEY",
        models=(
            VendorModel(
                name="claude-opus-5-5",
                capabilities=(*_CHAT, "vision", "documents", "reasoning"),
                context_window=1_000_000,
                max_output_tokens=32_000,
            ),
            VendorModel(
                name="claude-haiku-5-5",
                capabilities=(*_CHAT, "vision", "documents", "reasoning"),
                context_window=1_000_000,
                max_output_tokens=32_000,
            ),
        ),
    ),
    Vendor(
        name="google",
        kind="google",
        base_url="https://generativelanguage.googleapis.com",
        api_key_env="GEMINI_API_KEY",
        models=(
            VendorModel(
                name="gemini-4-argon",
                capabilities=(*_CHAT, "vision", "audio", "video", "documents", "reasoning"),
                context_window=1_048_576,
                max_output_tokens=32_000,
            ),
            VendorModel(
                name="gemini-3.8-flash",
                capabilities=(*_CHAT, "vision", "audio", "video", "documents", "reasoning"),
                context_window=1_000_000,
                max_output_tokens=32_000,
            ),
            VendorModel(name="gemini-embedding-2", capabilities=("embeddings",), context_window=8_192),
        ),
    ),
    Vendor(
        name="deepseek",
        kind="deepseek",
        base_url="https://api.deepseek.com",
        api_key_env="DEEPSEEK_API_KEY",
        models=(
            VendorModel(
                name="deepseek-flash",
                capabilities=(*_CHAT, "vision", "reasoning"),
                context_window=1_000_000,
                max_output_tokens=32_000,
            ),
        ),
    ),
    Vendor(
        name="ollama",
        kind="ollama",
        address_env="OLLAMA_HOST",
        # The window is what the server is told to make room for; the model could read more.
        models=(VendorModel(name="llama3.2", capabilities=_CHAT, context_window=16_384, max_output_tokens=4_096),),
    ),
)


def demo_document(
    vendors: Collection[Vendor],
    *,
    addresses: Mapping[str, str],
    mock_first: bool,
    now: dt.datetime,
    with_cli: bool = False,
) -> dict[str, Any]:
    """The demo in the form of a configuration file, without keys, with these vendors beside the mock.

    `addresses` has the base URL of each vendor without one. `mock_first`: the groups prefer the mock to the vendors.
    `now` is when the public prices of the vendors' models are to hold. `with_cli`: the session pool is asked first.
    """
    providers = [*([dict(_CLI_PROVIDER)] if with_cli else []), *(_provider(vendor, addresses) for vendor in vendors)]
    offered = [_model(model, vendor, now=now) for vendor in vendors for model in vendor.models]
    first = [dict(_CLI_MODEL)] if with_cli else []
    models = [*first, *offered, *map(dict, _MOCK_MODELS)]
    names = {model["name"] for model in offered}
    return {
        "providers": [*providers, dict(_MOCK_PROVIDER)],
        "models": models,
        "groups": [
            {
                "name": group,
                "members": [*(model["name"] for model in first), *_members(chain, names, mock_first=mock_first)],
            }
            for group, chain in _CHAINS.items()
        ],
        "agent_types": dict(_AGENT_TYPES),
        "tenants": [
            {
                "name": TENANT,
                "projects": [PROJECT],
                "approved": [*(model["name"] for model in models), *_CHAINS],
            }
        ],
    }


def ollama_url(host: str) -> str:
    """The base URL of what OLLAMA_HOST says: a host, with or without a scheme and a port, as Ollama itself reads it."""
    parts = urlsplit(host if "://" in host else f"http://{host}")
    name = parts.hostname or "127.0.0.1"
    if name in ("0.0.0.0", "::"):  # noqa: S104 - where a server listens, which is no place to call
        name = "127.0.0.1"
    port = parts.port or (443 if parts.scheme == "https" else OLLAMA_PORT)
    return f"{parts.scheme}://{f'[{name}]' if ':' in name else name}:{port}{parts.path.rstrip('/')}"


def _members(chain: Iterable[str], names: Collection[str], *, mock_first: bool) -> list[str]:
    members = [name for name in chain if name in names]
    return [_MOCK_CHAT, *members] if mock_first else [*members, _MOCK_CHAT]


def _provider(vendor: Vendor, addresses: Mapping[str, str]) -> dict[str, Any]:
    provider: dict[str, Any] = {"name": vendor.name, "kind": vendor.kind}
    if vendor.address_env:
        return {**provider, "base_url": addresses[vendor.name], "allow_private_network": True}
    return {**provider, "base_url": vendor.base_url, "api_key_env": vendor.api_key_env}


def _model(model: VendorModel, vendor: Vendor, *, now: dt.datetime) -> dict[str, Any]:
    form: dict[str, Any] = {
        "name": model.name,
        "capabilities": list(model.capabilities),
        "context_window": model.context_window,
        "deployments": [{"provider": vendor.name, "upstream_model": model.name}],
    }
    if model.max_output_tokens is not None:
        form["max_output_tokens"] = model.max_output_tokens
    if vendor.address_env:
        return {**form, "prices": {"requests": "0"}}
    public = public_price([Place(vendor.kind, vendor.base_url, model.name)], now)
    if public is None:
        return form
    tiers = [quote_tier(tier) for tier in public.tiers]
    return {**form, "prices": quote_rates(public.rates), "price_tiers": tiers}
