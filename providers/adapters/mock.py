"""The offline mock provider: OpenAI's protocol to an address that is not dialled but answered in this process."""

from __future__ import annotations

import msgspec

from providers.adapters.openai_compatible import OpenAICompatibleAdapter
from providers.types import Target, UpstreamRequest, WireRequest

BASE_URL = "mock://local"


class MockAdapter(OpenAICompatibleAdapter):
    """See `providers.types.Adapter`. The transport answers `mock://` with `providers.mock_provider.answer`."""

    kind = "mock"
    fixed_base_url = BASE_URL

    def build_request(self, request: WireRequest, target: Target) -> UpstreamRequest:
        """The parent's request; whatever the row says, it has one address and needs no secret."""
        return super().build_request(request, msgspec.structs.replace(target, base_url=BASE_URL, secret=None))


ADAPTER = MockAdapter()
