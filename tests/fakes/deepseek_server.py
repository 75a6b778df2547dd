"""The fake DeepSeek server, in a test as `FakeDeepSeek`; see `tests/fakes/openai_server.py` for how it is used."""

from tests.fakes.deepseek.app import DeepSeekApplication
from tests.fakes.server import FakeVendor


class FakeDeepSeek(FakeVendor):
    """DeepSeek's API."""

    application_class = DeepSeekApplication
    default_api_key = "sk-fake-deepseek-key-4242"
