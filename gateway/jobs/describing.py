"""Jobs as the API, webhooks and events tell them."""

from __future__ import annotations

import datetime as dt
from typing import Any

from billing.money import usd
from gateway.jobs.models import Job, JobEvent


def thin(job: Job) -> dict[str, Any]:
    """What of a job is told without being asked: where it is, never what it made."""
    return {
        "id": job.pk,
        "object": "job",
        "operation": job.operation,
        "endpoint": job.endpoint,
        "model": job.requested_model,
        "status": job.status,
        "progress": job.progress,
        "created_at": int(job.created_at.timestamp()),
        "started_at": _seconds(job.started_at),
        "completed_at": _seconds(job.ended_at),
        "expires_at": int(job.expires_at.timestamp()) if job.is_over else None,
        "error": job.error,
        "usage": job.usage,
        "cost": usd(job.cost_nano_usd) if job.cost_nano_usd is not None else None,
        "result_url": f"/v1/jobs/{job.pk}/result" if job.is_over and job.result_type else None,
    }


def full(job: Job, *, result: Any = None, cost_nano_usd: int | None = None) -> dict[str, Any]:
    """A job as whoever asks for it is told; `result` is its answer, where that is JSON or text."""
    cancel = None
    if job.cancel_requested_at is not None:
        cancel = {"requested_at": _seconds(job.cancel_requested_at), "upstream": job.cancel_upstream or None}
    cost = job.cost_nano_usd if job.cost_nano_usd is not None else cost_nano_usd
    return {
        **thin(job),
        "cost": usd(cost) if cost is not None else None,
        "mode": "native" if job.is_native else "simulated",
        "served_by": {"model": job.model_name, "provider": job.provider_name} if job.provider_name else None,
        "request_id": job.request_id,
        "result": result,
        "cancel": cancel,
        "attempts": len(job.notes),
        "retry_of": job.retry_of or None,
    }


def as_event(event: JobEvent) -> dict[str, Any]:
    """A change of a job."""
    return {
        "id": event.job_id,
        "object": "job.event",
        "number": event.number,
        "at": int(event.at.timestamp()),
        "status": event.status,
        "message": event.message,
        "progress": event.progress,
    }


def as_video(job: Job) -> dict[str, Any]:
    """A job as OpenAI's video."""
    status = {"cancelling": "in_progress", "cancelled": "failed", "expired": "failed"}.get(job.status, job.status)
    error = job.error or {}
    if job.status in ("cancelled", "expired"):
        error = {"code": job.status, "message": f"The video was {job.status}."}
    return {
        "id": job.pk,
        "object": "video",
        "model": job.requested_model,
        "status": status,
        "progress": job.progress or 0,
        "created_at": int(job.created_at.timestamp()),
        "completed_at": _seconds(job.ended_at) if job.status == "completed" else None,
        "expires_at": int(job.expires_at.timestamp()) if job.is_over else None,
        "prompt": None,
        "seconds": job.parameters.get("seconds"),
        "size": job.parameters.get("size"),
        "remixed_from_video_id": None,
        "error": {"code": error.get("code") or "", "message": error.get("message") or ""} if error else None,
        "job_status": job.status,
        "file_id": job.result_file or None,
    }


def _seconds(moment: dt.datetime | None) -> int | None:
    return int(moment.timestamp()) if moment is not None else None
