"""Pytest fixtures of the fakes; registered by the suite's `pytest_plugins`."""

from collections.abc import Iterator

import pytest
from openai import OpenAI

from tests.fakes.openai_server import FakeOpenAI


@pytest.fixture
def fake_openai() -> Iterator[FakeOpenAI]:
    """A fresh fake OpenAI server for this test, on its own port, with an empty log."""
    with FakeOpenAI() as fake:
        yield fake


@pytest.fixture
def vendor_sdk(fake_openai: FakeOpenAI) -> Iterator[OpenAI]:
    """The official SDK pointed straight at `fake_openai`, without retries."""
    with OpenAI(base_url=fake_openai.base_url, api_key=fake_openai.api_key, max_retries=0) as sdk:
        yield sdk
