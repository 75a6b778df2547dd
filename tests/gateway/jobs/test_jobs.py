"""Calls as jobs, through the public door and a real worker."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

import httpx
import pytest
from django.utils import timezone

from billing.models import Budget
from gateway.jobs.models import ACTIVE, Job
from gateway.jobs.recovery import purge
from gateway.models import RequestRecord
from gateway.notifications.delivery import deliver_due
from providers.models import Deployment
from tests import factories
from tests.fakes.openai.scripts import Script
from tests.fakes.test_openai_media import wav
from tests.fakes.webhook_receiver import WebhookReceiver
from tests.gateway.jobs.conftest import ASK, Bureau, verify_money
from tests.live import LiveServer, until


def submit(client: httpx.Client, path: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    """Ask for a job, which is told of by 202."""
    answer = client.post(path, json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}" and job["object"] == "job"
    assert answer.headers["preference-applied"].startswith("respond-async")
    return job


def test_a_chat_becomes_a_job_and_goes_through_the_pipeline(uvicorn: LiveServer, bureau: Bureau) -> None:
    body = {"model": bureau.chat, "messages": ASK, "async": True}
    with bureau.client(uvicorn) as client:
        job = submit(client, "/chat/completions", body, **{"x-user-id": "u-7"})
        assert (job["status"], job["mode"], job["operation"], job["model"]) == (
            "queued", "simulated", "chat", bureau.chat,
        )  # fmt: skip
        done = client.get(f"/jobs/{job['id']}", params={"wait": 20}).json()
        assert done["status"] == "completed", done
        assert done["result"]["object"] == "chat.completion" and done["attempts"] == 1
        plain = client.get(f"/jobs/{job['id']}/result")
        assert plain.json() == done["result"] and plain.headers["x-gateway-model"] == bureau.chat
        told = client.get(f"/requests/{job['id']}")
    (charge,) = bureau.charges(job["id"])
    assert (charge.user, charge.operation) == ("u-7", "chat") and float(done["cost"]) == charge.cost_nano_usd / 1e9
    assert told.status_code == 200
    until(lambda: RequestRecord.objects.filter(request_id=job["id"]).count() == 1, what="one line in the log")
    (asked,) = bureau.openai.records
    assert "async" not in asked.body
    verify_money()


@pytest.mark.parametrize("how", ["images", "speech", "transcription", "embeddings"])
def test_every_kind_of_call_becomes_a_job(uvicorn: LiveServer, bureau: Bureau, how: str) -> None:
    with bureau.client(uvicorn) as client:
        prefer = {"prefer": "respond-async, wait=20"}
        if how == "transcription":
            form = {"model": bureau.hearing, "async": "true"}
            answer = client.post("/audio/transcriptions", data=form, files={"file": ("a.wav", wav(1))}, headers=prefer)
        elif how == "images":
            answer = client.post("/images/generations", json={"model": bureau.image, "prompt": "a"}, headers=prefer)
        elif how == "speech":
            answer = client.post(
                "/audio/speech", json={"model": bureau.speech, "input": "Hi.", "voice": "alloy"}, headers=prefer
            )
        else:
            answer = client.post("/embeddings", json={"model": bureau.embed, "input": "a"}, headers=prefer)
        assert answer.status_code == 200, answer.text
        assert answer.headers["preference-applied"] == "respond-async, wait=20"
        job = client.get(answer.headers["location"].removeprefix("/v1")).json()
    assert job["status"] == "completed" and job["result"] == answer.json()
    found = {"images": "data", "speech": "file_id", "transcription": "text", "embeddings": "data"}[how]
    assert answer.json()[found]
    assert len(bureau.charges(job["id"])) == 1


def test_what_cannot_be_asked_for_is_refused_at_once(uvicorn: LiveServer, bureau: Bureau) -> None:
    chat = {"model": bureau.chat, "messages": ASK}
    with bureau.client(uvicorn) as client:

        def refused(body: dict[str, Any], path: str = "/chat/completions", **headers: str) -> tuple[int, str, str]:
            answer = client.post(path, json=body, headers=headers)
            error = answer.json()["error"]
            return answer.status_code, error["code"], error["param"]

        assert refused({**chat, "async": "yes"}) == (400, "validation_error", "async")
        assert refused({**chat, "async": True, "stream": True}) == (400, "validation_error", "stream")
        assert refused({**chat, "async": False}, prefer="respond-async") == (400, "validation_error", "async")
        for wait in ("-1", "x", "601", "1e3"):
            assert refused(chat, prefer=f"respond-async, wait={wait}") == (400, "validation_error", "Prefer")
        assert refused({**chat, "model": "nobody", "async": True}) == (404, "model_not_found", "model")
        assert refused({"model": bureau.chat, "async": True})[:2] == (400, "validation_error")
        speech = {"model": bureau.speech, "input": "Hi.", "voice": "alloy", "stream_format": "sse", "async": True}
        assert refused(speech, "/audio/speech") == (400, "validation_error", "stream")
        assert client.post("/chat/completions", json=chat, headers={"prefer": "return=minimal"}).status_code == 200
        Budget.objects.filter(pk=bureau.budget.pk).update(limit_nano_usd=1)
        try:
            assert refused({**chat, "async": True})[:2] == (402, "budget_exceeded")
        finally:
            Budget.objects.filter(pk=bureau.budget.pk).update(limit_nano_usd=bureau.budget.limit_nano_usd)
        for path in (
            "?limit=0",
            "?limit=x",
            "?order=up",
            "?status=done",
            "?after=job_none",
            "/x?wait=61",
            "/x?wait=-1",
        ):
            answer = client.get(f"/jobs{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "validation_error"), path
    assert not Job.objects.filter(tenant=bureau.tenant, status__in=ACTIVE).exists()


def test_a_list_is_paged_and_a_job_is_followed(uvicorn: LiveServer, bureau: Bureau) -> None:
    body = {"model": bureau.mock_chat, "messages": ASK, "async": True}
    with bureau.client(uvicorn) as client:
        ids = [submit(client, "/chat/completions", body)["id"] for _ in range(3)]
        for job_id in ids:
            bureau.over(job_id)
        listed = [job["id"] for job in client.get("/jobs", params={"limit": 2, "order": "desc"}).json()["data"]]
        assert listed == [ids[2], ids[1]]
        rest = client.get("/jobs", params={"limit": 1, "after": ids[1], "status": "completed"}).json()
        assert [job["id"] for job in rest["data"]] == [ids[0]]
        events = client.get(f"/jobs/{ids[0]}/events")
        numbers = [line for line in events.text.splitlines() if line.startswith("id: ")]
        assert numbers == ["id: 1", "id: 2", "id: 3"] and "event: job.completed" in events.text
        again = client.get(f"/jobs/{ids[0]}/events", headers={"last-event-id": "2"}).text
        assert again.startswith("id: 3\nevent: job.completed")
        assert client.delete(f"/jobs/{ids[0]}").json() == {"id": ids[0], "object": "job", "deleted": True}
        assert client.get(f"/jobs/{ids[0]}").json()["error"]["code"] == "job_not_found"
        Job.objects.filter(pk=ids[1]).update(expires_at=timezone.now())
        gone = client.get(f"/jobs/{ids[1]}")
        assert (gone.status_code, gone.json()["error"]["code"]) == (410, "job_expired")
        purge()
        assert Job.objects.get(pk=ids[1]).result == "" and Job.objects.get(pk=ids[2]).result


def test_outsiders_find_nothing(uvicorn: LiveServer, bureau: Bureau) -> None:
    other = factories.make_tenant()
    stranger = factories.make_key(other)[1]
    only_embeds = factories.make_key(bureau.tenant, scopes=["embeddings"])[1]
    only_files = factories.make_key(bureau.tenant, scopes=["files"])[1]
    with bureau.client(uvicorn) as client:
        job_id = submit(client, "/chat/completions", {"model": bureau.mock_chat, "messages": ASK, "async": True})["id"]
        bureau.over(job_id)
    routes = [("GET", ""), ("GET", "/result"), ("GET", "/events"), ("POST", "/cancel"), ("DELETE", "")]
    for key, status, code in ((stranger, 404, "job_not_found"), (only_embeds, 404, "job_not_found"),
                              (only_files, 403, "permission_denied"), ("", 401, "invalid_api_key")):  # fmt: skip
        with uvicorn.client(key) as client:
            for method, route in routes:
                answer = client.request(method, f"/jobs/{job_id}{route}")
                assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), (key, route)
            if status == 404:
                assert job_id not in client.get("/jobs").text
                assert client.get(f"/videos/{job_id}").status_code in (403, 404)
                assert client.get(f"/videos/{job_id}/content").status_code in (403, 404)
                assert client.delete(f"/videos/{job_id}").status_code in (403, 404)
    assert Job.objects.get(pk=job_id).deleted_at is None


def waiting(bureau: Bureau, client: httpx.Client, path: str, body: dict[str, Any]) -> str:
    """A job that nobody can work on at the moment: its deployment was switched off after it was asked for."""
    deployments = Deployment.objects.filter(model__name=body["model"])
    deployments.update(enabled=False)
    until(lambda: client.post(path, json={**body, "async": False}).status_code == 503, what="nobody to ask")

    def put_back() -> str:
        """Until the worker knows as well."""
        job_id: str = submit(client, path, {**body, "async": True})["id"]
        tried = Job.objects.filter(pk=job_id).exclude(status="in_progress").filter(runs__gte=1)
        return job_id if until(tried.first, what="being tried").status == "queued" else ""

    found: str = until(put_back, what="a job that waits")
    return found


@pytest.mark.parametrize("point", ["queued", "running", "over"])
def test_cancelled_at_three_points(uvicorn: LiveServer, bureau: Bureau, point: str) -> None:
    body, held = {"model": bureau.chat, "messages": ASK, "async": True}, bureau.openai.counters.held
    with bureau.client(uvicorn) as client:
        if point == "queued":
            job_id = waiting(bureau, client, "/chat/completions", {"model": bureau.closed, "messages": ASK})
        else:
            if point == "running":
                bureau.openai.script(Script(hold_before_headers=True))
            job_id = submit(client, "/chat/completions", body)["id"]
            if point == "running":
                bureau.openai.wait_until(lambda _: bureau.openai.counters.held == held + 1)
            else:
                bureau.over(job_id)
        answer = client.post(f"/jobs/{job_id}/cancel")
        if point == "over":
            assert (answer.status_code, answer.json()["error"]["code"]) == (409, "job_conflict")
        else:
            assert answer.status_code == 200 and answer.json()["status"] in ("cancelling", "cancelled")
            assert bureau.over(job_id).status == "cancelled"
            assert client.post(f"/jobs/{job_id}/cancel").json()["status"] == "cancelled"
            told = client.get(f"/jobs/{job_id}/result")
            assert (told.status_code, told.json()["error"]["code"]) == (499, "request_cancelled")
        if point == "running":
            (record,) = bureau.openai.all_ended()
            assert record.client_left
    assert len(bureau.charges(job_id)) == {"queued": 0, "running": 1, "over": 1}[point]
    verify_money()


def test_the_end_is_told_by_a_signed_webhook(uvicorn: LiveServer, bureau: Bureau) -> None:
    with WebhookReceiver() as receiver, bureau.client(uvicorn) as client:
        _, secret = bureau.webhook(receiver.url)
        job_id = submit(client, "/chat/completions", {"model": bureau.mock_chat, "messages": ASK, "async": True})["id"]
        bureau.over(job_id)
        receiver.answers = [500]
        deliver_due()
        deliver_due(timezone.now() + dt.timedelta(minutes=1))
        first, second = [one for one in receiver.received if job_id in one.body.decode()]
    assert first.id == second.id
    payload = first.verified(secret, now=time.time())
    assert (payload["type"], payload["data"]["id"], payload["data"]["status"]) == ("job.completed", job_id, "completed")
    assert "result" not in payload["data"] and payload["data"]["result_url"] == f"/v1/jobs/{job_id}/result"


def test_an_idempotency_key_makes_one_job(uvicorn: LiveServer, bureau: Bureau) -> None:
    body = {"model": bureau.chat, "messages": ASK, "async": True}
    with bureau.client(uvicorn) as client:
        first = client.post("/chat/completions", json=body, headers={"idempotency-key": "once"})
        again = client.post("/chat/completions", json=body, headers={"idempotency-key": "once"})
        other = client.post("/chat/completions", json={**body, "async": False}, headers={"idempotency-key": "once"})
    assert (first.status_code, again.status_code, other.status_code) == (202, 202, 422)
    assert first.json()["id"] == again.json()["id"]
    bureau.over(first.json()["id"])
    assert len(bureau.openai.records) == 1
