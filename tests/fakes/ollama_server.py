"""The fake Ollama server, in a test as `FakeOllama`; see `tests/fakes/openai_server.py` for how it is used."""

from tests.fakes.ollama.app import OllamaApplication
from tests.fakes.server import FakeVendor


class FakeOllama(FakeVendor):
    """Ollama, as it runs on one's own machine: without a key."""

    application_class = OllamaApplication
