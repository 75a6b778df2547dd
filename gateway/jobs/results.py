"""What a job came to: sealed in its row, or a file of its tenant's where it is long."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson
from django.http import HttpResponse

from gateway.errors import GatewayError, JobExpiredError, RequestCancelledError
from gateway.jobs.describing import as_video
from gateway.jobs.models import Job, JobStatus
from gateway.media import storage
from gateway.media.errors import FileNotFoundInStorageError, NotKeptError
from gateway.media.models import MediaSource
from gateway.media.storage import NewFile, keep
from gateway.responses import json_response
from tenants.sealing import SealError, seal, unseal

if TYPE_CHECKING:
    from gateway.runtime import Gateway

SEALED_BYTES = 256 * 1024
"""A longer result becomes a file, and is told of by its URL."""

JSON = "application/json"


class JobFailedError(GatewayError):
    """The error that a job's call came to, as it was."""

    def __init__(self, error: dict[str, Any]) -> None:
        details = {name: value for name, value in error.items() if name not in NAMED}
        super().__init__(error["message"], param=error.get("param"), **details)
        self.status, self.type, self.code = error["status"], error["type"], error["code"]


NAMED = frozenset({"message", "type", "code", "param", "request_id", "status"})


async def kept_result(gateway: Gateway, job: Job, *, body: bytes, content_type: str) -> dict[str, Any]:
    """The fields of the row that keep an answer."""
    fields: dict[str, Any] = {"result_type": content_type[:100]}
    if len(body) > SEALED_BYTES:
        new = NewFile(
            tenant_id=job.tenant_id,
            key_id=job.api_key_id,
            purpose="generated",
            source=MediaSource.GENERATED,
            job_id=job.pk,
        )
        try:
            return {**fields, "result_file": (await keep(gateway, body, new=new)).id}
        except NotKeptError:
            pass  # it is logged; the row then has to carry it
    return {**fields, "result": seal(body, bound_to=_bound_to(job))}


async def body_of(gateway: Gateway, job: Job) -> bytes:
    """The answer's bytes. Raises `JobExpiredError` where they are gone."""
    if job.result:
        try:
            return unseal(job.result, bound_to=_bound_to(job))
        except SealError as error:
            raise JobExpiredError(job.pk) from error
    if not job.result_file or job.deleted_at is not None:
        raise JobExpiredError(job.pk)
    stored = await storage.read(gateway, tenant_id=job.tenant_id, file_id=job.result_file)
    return await stored.read()


async def made(gateway: Gateway, job: Job) -> dict[str, Any]:
    """A film as its answer: OpenAI's video, and where it is kept."""
    told = as_video(job)
    try:
        stored = await storage.read(gateway, tenant_id=job.tenant_id, file_id=job.result_file)
    except FileNotFoundInStorageError:
        return told
    return {**told, "url": storage.signed_url(gateway, stored)}


async def told_result(gateway: Gateway, job: Job) -> Any:
    """The answer as a part of the job: as JSON, or as text. None where it is long, or there is none."""
    if job.status == JobStatus.COMPLETED and job.is_native:
        return await made(gateway, job)
    if job.status != JobStatus.COMPLETED or not job.result:
        return None
    body = await body_of(gateway, job)
    try:
        return orjson.loads(body) if job.result_type.startswith(JSON) else body.decode()
    except (orjson.JSONDecodeError, UnicodeDecodeError):
        return None


async def response_of(gateway: Gateway, job: Job) -> HttpResponse:
    """The answer as the call itself would have had it. Raises the error that it would have had."""
    if job.status == JobStatus.CANCELLED:
        raise RequestCancelledError()
    if job.status != JobStatus.COMPLETED:
        raise JobFailedError(job.error or dict(UNEXPLAINED))
    if job.is_native:
        response = json_response(orjson.dumps(await made(gateway, job)))
    else:
        response = HttpResponse(await body_of(gateway, job), content_type=job.result_type)
    if job.provider_name:
        response.headers["x-gateway-provider"] = job.provider_name
        response.headers["x-gateway-model"] = job.model_name
    return response


UNEXPLAINED = {"message": "The job was given up.", "type": "api_error", "code": "job_expired", "status": 410}


def error_of(body: bytes, *, status: int) -> dict[str, Any]:
    """The error that a call was answered by."""
    try:
        error = dict(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        error = {"message": "The call failed.", "type": "api_error", "code": "internal_error", "param": None}
    error.pop("request_id", None)
    return {**error, "status": status}


def failure(code: str, message: str, *, status: int = 502) -> dict[str, Any]:
    """An error of a job's own."""
    return {"message": message, "type": "api_error", "code": code, "param": None, "status": status}


def _bound_to(job: Job) -> bytes:
    return f"job result:{job.pk}:tenant:{job.tenant_id}".encode()
