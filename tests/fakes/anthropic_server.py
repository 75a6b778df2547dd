"""The fake Anthropic server, in a test as `FakeAnthropic`; see `tests/fakes/openai_server.py` for how it is used."""

from tests.fakes.anthropic.app import AnthropicApplication
from tests.fakes.server import FakeVendor


class FakeAnthropic(FakeVendor):
    """Anthropic."""

    application_class = AnthropicApplication
    default_api_key = "sk-ant-fake-upstream-key-4242"
