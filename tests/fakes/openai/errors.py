"""The vendor's refusals: status, envelope with all four keys, and its usual words for a status."""

from typing import Any

_USUAL: dict[int, tuple[str, str, str | None]] = {
    401: ("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
    403: ("You are not allowed to use this.", "invalid_request_error", "unsupported_country_region_territory"),
    404: ("The model does not exist or you do not have access to it.", "invalid_request_error", "model_not_found"),
    429: ("Rate limit reached. Please try again in 20ms.", "requests", "rate_limit_exceeded"),
    500: ("The server had an error while processing your request. Sorry about that!", "server_error", None),
    503: ("The engine is currently overloaded, please try again later", "server_error", None),
}


class VendorError(Exception):
    """The request is refused as the vendor would: raised by validation, answered by the application."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.envelope = envelope(status, message=message, param=param, code=code)


def envelope(status: int, **given: Any) -> dict[str, Any]:
    """`{"error": {message, type, param, code}}` with the vendor's usual values for `status` where none is given."""
    message, kind, code = _USUAL.get(status, ("Invalid request.", "invalid_request_error", None))
    return {"error": {"message": message, "type": kind, "param": None, "code": code} | given}
