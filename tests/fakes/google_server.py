"""The fake Gemini server, in a test as `FakeGoogle`; see `tests/fakes/openai_server.py` for how it is used."""

from tests.fakes.google.app import GoogleApplication
from tests.fakes.server import FakeVendor


class FakeGoogle(FakeVendor):
    """Google's Gemini Developer API."""

    application_class = GoogleApplication
    default_api_key = "AIza-fake-upstream-key-4242"
