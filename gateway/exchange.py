"""One request to a provider and the head of its answer; what is not 2xx becomes the error it stands for."""

from __future__ import annotations

from billing.fault_points import fault_point
from providers.registry import adapter_for
from providers.transport import Deadlines, Transport, UpstreamResponse, read_error
from providers.types import Target, UpstreamRequest


async def exchange(
    transport: Transport, request: UpstreamRequest, *, target: Target, deadlines: Deadlines
) -> UpstreamResponse:
    """Send the request. The body is yet to be read, and the response to be closed. Raises `ProviderError`."""
    response = await transport.send(request, deadlines=deadlines, allow_private_network=target.allow_private_network)
    fault_point("after_headers")
    if 200 <= response.status < 300:
        return response
    try:
        body = await read_error(response)
    finally:
        response.close()
    if target.secret:  # a provider that quotes our credential must not have it passed on or logged
        body = body.replace(target.secret.encode(), b"[credential]")
    raise adapter_for(target.kind).parse_error(response.status, headers=response.headers, body=body)
