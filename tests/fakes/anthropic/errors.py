"""The vendor's refusals: status, envelope, and its usual words for a status."""

from typing import Any

_USUAL: dict[int, tuple[str, str]] = {
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your account has a billing problem."),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "model: claude-unknown"),
    413: ("request_too_large", "Request exceeds the maximum allowed number of bytes."),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit."),
    500: ("api_error", "Internal server error"),
    529: ("overloaded_error", "Overloaded"),
}


class VendorError(Exception):
    """The request is refused as the vendor would: raised by validation, answered by the application."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.envelope = envelope(status, message=message)


def envelope(status: int, **given: Any) -> dict[str, Any]:
    """`{"type": "error", "error": {type, message}, "request_id"}`, the vendor's usual words where none are given."""
    kind, message = _USUAL.get(status, ("invalid_request_error", "Invalid request."))
    return {"type": "error", "error": {"type": kind, "message": message} | given, "request_id": "req_fake"}
