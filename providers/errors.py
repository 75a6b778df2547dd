"""How a call to a provider can fail, in terms the gateway decides on. No Django."""

from __future__ import annotations

from enum import StrEnum

MESSAGE_LIMIT = 8 * 1024
"""Provider text is untrusted and can be megabytes long; more than this says nothing more to a person."""


class Failure(StrEnum):
    """Why a call failed."""

    UNREACHABLE = "unreachable"
    """No byte of the request was taken: refused, unresolved, not permitted."""
    TIMEOUT = "timeout"
    BROKEN = "broken"
    """5xx, a reset, garbage, a stream that stops half-way."""
    THROTTLED = "throttled"
    REFUSED_CREDENTIAL = "refused_credential"
    REFUSED_INPUT = "refused_input"
    """The client's own request is wrong in the provider's eyes: no other deployment would help."""
    UNSUPPORTED = "unsupported"
    """This provider cannot do what the request needs, which our adapter knows: nothing was sent."""


class ProviderError(Exception):
    """A call that failed at the provider or on the way there."""

    def __init__(
        self,
        failure: Failure,
        message: str,
        *,
        status: int | None = None,
        param: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message[:MESSAGE_LIMIT])
        self.failure = failure
        self.status = status
        self.param = param
        self.retry_after_seconds = retry_after_seconds

    @property
    def message(self) -> str:
        """What the provider or the network said, cut to `MESSAGE_LIMIT`."""
        return str(self.args[0])

    @property
    def may_try_another(self) -> bool:
        """Whether another deployment might answer the same request."""
        return self.failure is not Failure.REFUSED_INPUT


class UnsupportedError(ProviderError):
    """A request that the provider's protocol cannot express; `capability` names what is missing."""

    def __init__(self, capability: str, message: str, *, param: str | None = None) -> None:
        super().__init__(Failure.UNSUPPORTED, message, param=param)
        self.capability = capability


class DeadlineError(ProviderError):
    """A provider that took too long; `deadline` is connect, first_token, idle or total."""

    def __init__(self, deadline: str, seconds: float) -> None:
        super().__init__(Failure.TIMEOUT, f"The provider exceeded the {deadline} deadline of {seconds:g} s.")
        self.deadline = deadline
