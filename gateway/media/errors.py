"""What can go wrong with files, as clients are told."""

from __future__ import annotations

from gateway.errors import GatewayError


class NotKeptError(GatewayError):
    """A file was not kept. Whoever has paid for what is in it gives it to the client in another way."""


class StorageUnavailableError(NotKeptError):
    """The storage, or the database that knows what is in it, does not answer."""

    status, type, code = 503, "api_error", "storage_unavailable"

    def __init__(self, message: str = "The file storage does not answer at the moment.") -> None:
        super().__init__(message)
        self.headers["Retry-After"] = "5"


class StorageQuotaError(NotKeptError):
    status, type, code = 413, "invalid_request_error", "storage_quota_exceeded"

    def __init__(self, *, quota_bytes: int, used_bytes: int, needed_bytes: int) -> None:
        super().__init__(
            f"This tenant may keep {quota_bytes} bytes and keeps {used_bytes}; this file has {needed_bytes}. "
            "Delete files, or have an operator raise the quota.",
            quota_bytes=quota_bytes,
            used_bytes=used_bytes,
            needed_bytes=needed_bytes,
        )
        self.headers["x-should-retry"] = "false"


class NothingIsKeptError(NotKeptError):
    """The operator has set that this tenant's files are kept for no time at all."""

    status, type, code = 403, "permission_error", "storage_disabled"

    def __init__(self) -> None:
        super().__init__("No files are kept for this tenant. Send the content inline.")


class FileNotFoundInStorageError(GatewayError):
    """None of the caller's tenant's: another tenant's is not told apart from one that never was, or is no more."""

    status, type, code = 404, "not_found_error", "file_not_found"

    def __init__(self, file_id: str, *, param: str | None = None) -> None:
        super().__init__(f"There is no file {file_id[:64]!r}.", param=param)
