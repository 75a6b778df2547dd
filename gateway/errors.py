"""The errors clients see: OpenAI's envelope, one class for each code of docs/reference/errors.md."""

from __future__ import annotations

from typing import Any

import orjson

from billing.errors import Refusal
from billing.money import usd
from providers.errors import DeadlineError, Failure, ProviderError, UnsupportedError

LONGEST_RETRY_AFTER_SECONDS = 120
"""OpenAI's SDKs do not retry at all when asked to wait longer."""


class GatewayError(Exception):
    """A refusal or failure with its place in the API: status, type, code, and which member of the request is meant."""

    status = 500
    type = "api_error"
    code = "internal_error"

    def __init__(self, message: str, *, param: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.details = details
        self.headers: dict[str, str] = {}

    def envelope(self, request_id: str) -> bytes:
        """The error object as JSON."""
        error = {
            "message": self.message,
            "type": self.type,
            "code": self.code,
            "param": self.param,
            "request_id": request_id,
            **self.details,
        }
        return orjson.dumps({"error": error})


class InternalError(GatewayError):
    """A bug of ours; says nothing about it to the outside."""

    def __init__(self) -> None:
        super().__init__("The gateway failed. The request id finds the reason in its log.")


class InvalidApiKeyError(GatewayError):
    status, type, code = 401, "authentication_error", "invalid_api_key"

    def __init__(self) -> None:
        super().__init__(
            "The API key is missing, malformed, unknown, expired or revoked. Send it as Authorization: Bearer KEY."
        )


class PermissionDeniedError(GatewayError):
    status, type, code = 403, "permission_error", "permission_denied"


class TenantSuspendedError(GatewayError):
    status, type, code = 403, "permission_error", "tenant_suspended"


class ModelNotFoundError(GatewayError):
    status, type, code = 404, "not_found_error", "model_not_found"


class TypeNotFoundError(GatewayError):
    """Neither the caller's tenant's nor every tenant's."""

    status, type, code = 404, "not_found_error", "type_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no type {name[:200]!r} for this tenant.", param="name")


class UnknownUrlError(GatewayError):
    status, type, code = 404, "not_found_error", "unknown_url"


class RequestNotFoundError(GatewayError):
    """None of the caller's tenant's: another tenant's is not told apart from one that never was."""

    status, type, code = 404, "not_found_error", "request_not_found"

    def __init__(self, request_id: str, *, where: str = "") -> None:
        super().__init__(f"There is no request {request_id[:128]!r}{where}.")


class RealtimeSessionNotFoundError(GatewayError):
    """None of the caller's tenant's: another tenant's is not told apart from one that never was."""

    status, type, code = 404, "not_found_error", "realtime_session_not_found"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"There is no voice session {session_id[:128]!r}.")


class JobNotFoundError(GatewayError):
    """None of the caller's tenant's: another tenant's is not told apart from one that never was."""

    status, type, code = 404, "not_found_error", "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no job {job_id[:64]!r}.")


class JobExpiredError(GatewayError):
    status, type, code = 410, "not_found_error", "job_expired"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"The job {job_id[:64]!r} has expired: its result is not kept any more.")


class JobConflictError(GatewayError):
    """The job's state does not allow it."""

    status, type, code = 409, "invalid_request_error", "job_conflict"


class RequestCancelledError(GatewayError):
    """The status is what proxies log when a client has closed its request."""

    status, type, code = 499, "invalid_request_error", "request_cancelled"

    def __init__(self, **details: Any) -> None:
        super().__init__("The request was cancelled through the API. What it had used is charged.", **details)
        self.headers["x-should-retry"] = "false"


class MethodNotAllowedError(GatewayError):
    status, type, code = 405, "invalid_request_error", "method_not_allowed"


class ModelNotApprovedError(GatewayError):
    status, type, code = 403, "permission_error", "model_not_approved"


class ValidationError(GatewayError):
    status, type, code = 400, "invalid_request_error", "validation_error"


class CapabilityNotSupportedError(GatewayError):
    status, type, code = 400, "invalid_request_error", "capability_not_supported"


class _BlockedError(GatewayError):
    """A hook said no, or failed where nothing may pass without it."""

    what = ""

    def __init__(self, hook: str, reason: str, *, hook_failed: bool) -> None:
        because = f": {reason}" if reason else ""
        super().__init__(
            f"The {self.what} was blocked by the hook {hook!r}{because}.",
            hook=hook,
            reason=reason or None,
            hook_failed=hook_failed,
        )
        if not hook_failed:
            self.headers["x-should-retry"] = "false"


class RequestBlockedError(_BlockedError):
    """Nothing was asked, and nothing is charged."""

    status, type, code = 403, "permission_error", "request_blocked"
    what = "request"


class ResponseBlockedError(_BlockedError):
    """The provider has answered, and is paid."""

    status, type, code = 403, "permission_error", "response_blocked"
    what = "answer"


class BudgetRefusedError(GatewayError):
    """A hard budget has no room. 402, because OpenAI's SDKs would retry a 429 by themselves."""

    status, type, code = 402, "insufficient_quota", "budget_exceeded"

    def __init__(self, refusal: Refusal) -> None:
        whose = f"{refusal.scope} {refusal.subject!r}" if refusal.subject else refusal.scope
        resets = f" It begins anew at {refusal.resets_at:%Y-%m-%d %H:%M} UTC." if refusal.resets_at else ""
        super().__init__(
            f"The {refusal.period} budget of this {whose} is {usd(refusal.limit_nano_usd)} USD: "
            f"{usd(refusal.spent_nano_usd)} are spent and {usd(refusal.reserved_nano_usd)} held by calls under way; "
            f"this call may need {usd(refusal.needed_nano_usd)}.{resets}",
            scope=refusal.scope,
            subject=refusal.subject,
            period=refusal.period,
            limit_usd=usd(refusal.limit_nano_usd),
            spent_usd=usd(refusal.spent_nano_usd),
            reserved_usd=usd(refusal.reserved_nano_usd),
            needed_usd=usd(refusal.needed_nano_usd),
            resets_at=refusal.resets_at,
        )
        self.headers["x-should-retry"] = "false"
        if refusal.spent_nano_usd + refusal.needed_nano_usd <= refusal.limit_nano_usd:
            self.headers["Retry-After"] = "1"  # what other calls hold may come free


class PriceUnknownError(GatewayError):
    status, type, code = 402, "insufficient_quota", "price_unknown"

    def __init__(self, model_name: str) -> None:
        super().__init__(
            f"The model {model_name!r} has no price, and a hard budget applies: an operator must set the price.",
            param="model",
        )
        self.headers["x-should-retry"] = "false"


class RateLimitedError(GatewayError):
    """A rate limit has no room. OpenAI's SDKs wait as told and ask again, unless that can never help."""

    status, type, code = 429, "rate_limit_error", "rate_limited"

    def __init__(self, message: str, *, retry_after_seconds: int, may_retry: bool, **details: Any) -> None:
        super().__init__(message, **details)
        self.headers["Retry-After"] = str(min(LONGEST_RETRY_AFTER_SECONDS, max(1, retry_after_seconds)))
        if not may_retry:
            self.headers["x-should-retry"] = "false"


class IdempotencyConflictError(GatewayError):
    """A call with this key was made, or is being made, and its answer cannot be given now."""

    status, type, code = 409, "invalid_request_error", "idempotency_conflict"

    def __init__(self, message: str, *, may_retry: bool = False, **details: Any) -> None:
        super().__init__(message, param="Idempotency-Key", **details)
        if may_retry:
            self.headers["Retry-After"] = "1"
        else:
            self.headers["x-should-retry"] = "false"


class IdempotencyMismatchError(IdempotencyConflictError):
    """The key stands for another request."""

    status = 422


class PayloadTooLargeError(GatewayError):
    status, type, code = 413, "invalid_request_error", "payload_too_large"

    def __init__(self, limit_bytes: int, *, what: str = "request body", param: str | None = None) -> None:
        super().__init__(f"The {what} is larger than {limit_bytes} bytes.", param=param)


class UnsupportedMediaError(GatewayError):
    """The content is none of what it was said to be, or of what is taken here."""

    status, type, code = 415, "invalid_request_error", "unsupported_media"


class UpstreamError(GatewayError):
    """The provider broke, or refused our credential; its own words are inside."""

    status, type, code = 502, "api_error", "provider_error"


class ResponseValidationFailedError(GatewayError):
    """The model's answer does not match the schema it is held to, also when asked again. It is charged, so OpenAI's
    SDKs must not ask again by themselves."""

    status, type, code = 502, "api_error", "response_validation_failed"

    def __init__(
        self,
        violations: list[dict[str, str]],
        *,
        asked_again: bool = False,
        reason: str = "",
        reason_code: str = "",
        **details: Any,
    ) -> None:
        first = violations[0]
        problem = f"{first['path'] or first['in']}: {first['message']}."
        again = " also when asked again" if asked_again else ""
        why = f" It was not asked again: {reason}" if reason else ""
        super().__init__(
            f"The model's answer does not match its schema{again}: {problem}{why}",
            violations=violations,
            asked_again=asked_again,
            **({"not_asked_again": reason_code or "attempts"} if reason else {}),
            **details,
        )
        self.headers["x-should-retry"] = "false"


class ProviderTimeoutError(GatewayError):
    status, type, code = 504, "api_error", "provider_timeout"


class JobTimeoutError(ProviderTimeoutError):
    """The client waited for work that goes on without it."""

    def __init__(self, job_id: str, *, waited_seconds: int) -> None:
        super().__init__(
            f"The provider was not done within {waited_seconds} s. The job goes on: ask for /v1/jobs/{job_id}.",
            deadline="total",
            job=job_id,
        )
        self.headers["x-should-retry"] = "false"  # which would begin, and pay for, another


class ProviderUnavailableError(GatewayError):
    status, type, code = 503, "api_error", "provider_unavailable"

    def __init__(self, message: str, *, retry_after_seconds: float | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        if retry_after_seconds is not None:
            self.headers["Retry-After"] = str(min(LONGEST_RETRY_AFTER_SECONDS, max(1, round(retry_after_seconds))))


class OverloadedError(GatewayError):
    status, type, code = 503, "api_error", "overloaded"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message, **details)
        self.headers["Retry-After"] = "1"


def from_provider(error: ProviderError, *, attempts: list[str], deployments: int) -> GatewayError:
    """What a client is told about a call that failed at every provider that could have answered. `deployments`: how
    many were asked; one of them perhaps more than once."""
    if error.failure is Failure.REFUSED_INPUT:
        return ValidationError(error.message, param=error.param)
    if isinstance(error, UnsupportedError):
        return CapabilityNotSupportedError(error.message, param=error.param, capability=error.capability)
    if deployments > 1 or error.failure in (Failure.UNREACHABLE, Failure.THROTTLED):
        return ProviderUnavailableError(
            f"No provider could answer. The last one said: {error.message}",
            retry_after_seconds=error.retry_after_seconds if error.retry_after_seconds is not None else 1,
            attempts=attempts,
        )
    if isinstance(error, DeadlineError):
        return ProviderTimeoutError(error.message, deadline=error.deadline)
    return UpstreamError(
        f"The provider failed: {error.message}", provider_status=error.status, provider_message=error.message
    )


def error_codes() -> list[str]:
    """Every code a client may be told."""
    found, kinds = {GatewayError.code}, [GatewayError]
    while kinds:
        kind = kinds.pop()
        found.add(kind.code)
        kinds += kind.__subclasses__()
    return sorted(found)
