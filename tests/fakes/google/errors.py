"""The vendor's refusals: status, envelope, and its usual words for a status."""

from typing import Any

_USUAL: dict[int, tuple[str, str]] = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: ("UNAUTHENTICATED", "Request had invalid authentication credentials."),
    403: ("PERMISSION_DENIED", "The caller does not have permission."),
    404: ("NOT_FOUND", "models/unknown is not found for API version v1."),
    429: ("RESOURCE_EXHAUSTED", "You exceeded your current quota."),
    500: ("INTERNAL", "An internal error has occurred."),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
}


class VendorError(Exception):
    """The request is refused as the vendor would: raised by validation, answered by the application."""

    def __init__(self, message: str, *, status: int = 400, **given: Any) -> None:
        super().__init__(message)
        self.status = status
        self.envelope = envelope(status, message=message, **given)


def envelope(status: int, **given: Any) -> dict[str, Any]:
    """`{"error": {code, message, status, details?}}`, the vendor's usual words where none are given."""
    name, message = _USUAL.get(status, ("UNKNOWN", "Unknown error."))
    return {"error": {"code": status, "message": message, "status": name} | given}
