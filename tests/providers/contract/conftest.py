"""The adapters under contract, each behind the live server that the data plane's own tests use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import factories
from tests.gateway.conftest import committed, servers, wait_for_models
from tests.live import LiveServer
from tests.providers.contract.providers import UNDER_CONTRACT
from tests.providers.contract.reading import Side

__all__ = ["committed", "servers"]

ALL_CAN = ("chat", "stream", "tools", "json_schema", "vision", "audio", "documents", "reasoning", "embeddings")


@pytest.fixture(scope="module")
def sides(committed: None, servers: dict[str, LiveServer]) -> Iterator[dict[str, Side]]:
    tenant = factories.make_tenant()
    _, key = factories.make_key(tenant)
    found: dict[str, Side] = {}
    with servers["uvicorn"].client(key) as client:
        for entry in UNDER_CONTRACT:
            fake = entry.fake() if entry.fake is not None else None
            if fake is not None:
                fake.__enter__()
            address = fake.base_url if fake is not None else "mock://local"
            provider = factories.make_provider(address, secret=fake.api_key if fake else "", kind=entry.kind)
            model = factories.make_model(
                provider, name=factories.unique(f"contract-{entry.kind}"), capabilities=ALL_CAN,
                upstream_model=entry.upstream_model,
            )  # fmt: skip
            factories.approve(tenant, model)
            found[entry.kind] = Side(entry, fake, model.name, client)
        wait_for_models(servers["uvicorn"], key, *(side.model for side in found.values()))
        yield found
        for side in found.values():
            if side.fake is not None:
                side.fake.__exit__(None, None, None)


@pytest.fixture
def side(request: pytest.FixtureRequest, sides: dict[str, Side]) -> Side:
    found = sides[request.param]
    if found.fake is not None:
        found.fake.reset()
    return found
