"""What the demo contains: a configuration document that the first run applies, so that there is something to call."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

TENANT = "demo"
PROJECT = "playground"
KEY = "demo"
OPERATOR = "admin"
MOCK = "mock"
"""The offline provider: its kind, and its name in the demo."""

_MOCK_PROVIDER = {"name": MOCK, "kind": MOCK}
_MOCK_MODELS: list[dict[str, Any]] = [
    {
        "name": "mock-chat",
        "capabilities": ["chat", "stream", "tools", "json_schema", "vision", "audio", "documents"],
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
]

_GROUPS = ("high-reasoning", "fast-response", "cost-optimized")
_AGENT_TYPES = {
    "product-owner": "high-reasoning",
    "software-architect": "high-reasoning",
    "software-engineer": "high-reasoning",
    "qa-engineer": "fast-response",
    "devops-engineer": "fast-response",
    "project-manager": "fast-response",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """A public provider that the demo registers when the environment has its key."""

    name: str
    kind: str
    base_url: str
    api_key_env: str
    models: tuple[Mapping[str, Any], ...]
    preferred: Mapping[str, str] = field(default_factory=dict)
    """The model each group tries first, by group."""


def _openai_chat(name: str, **prices: str) -> dict[str, Any]:
    return {
        "name": name,
        "capabilities": ["chat", "stream", "tools", "json_schema", "vision"],
        "context_window": 128_000,
        "max_output_tokens": 16_384,
        "prices": prices,
        "deployments": [{"provider": "openai", "upstream_model": name}],
    }


VENDORS = (
    Vendor(
        name="openai",
        kind="openai",
        base_url="https://api.openai.com/v1",
        api_key_env="OPENAI_API_KEY",
        models=(
            _openai_chat("gpt-4o-mini", input="0.15", cache_read="0.075", output="0.60"),
            _openai_chat("gpt-4o", input="2.50", cache_read="1.25", output="10.00"),
        ),
        preferred={"high-reasoning": "gpt-4o", "fast-response": "gpt-4o-mini", "cost-optimized": "gpt-4o-mini"},
    ),
)


def demo_document(vendors: Collection[Vendor]) -> dict[str, Any]:
    """The demo in the form of a configuration file, with these vendors in front of the mock, and without keys."""
    models = [*(dict(model) for vendor in vendors for model in vendor.models), *(dict(model) for model in _MOCK_MODELS)]
    groups = [
        {"name": group, "members": [*(vendor.preferred[group] for vendor in vendors), "mock-chat"]} for group in _GROUPS
    ]
    return {
        "providers": [
            *(
                {
                    "name": vendor.name,
                    "kind": vendor.kind,
                    "base_url": vendor.base_url,
                    "api_key_env": vendor.api_key_env,
                }
                for vendor in vendors
            ),
            dict(_MOCK_PROVIDER),
        ],
        "models": models,
        "groups": groups,
        "agent_types": dict(_AGENT_TYPES),
        "tenants": [
            {
                "name": TENANT,
                "projects": [PROJECT],
                "approved": [*(model["name"] for model in models), *_GROUPS],
            }
        ],
    }
