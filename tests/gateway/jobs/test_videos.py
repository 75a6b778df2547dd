"""Films: worked on by their providers, as jobs and in OpenAI's view of them."""

from __future__ import annotations

import time

import httpx
import pytest
from openai import NotFoundError

from gateway.jobs.models import Job
from gateway.media.models import MediaObject
from tests.gateway.jobs.conftest import Bureau, verify_money
from tests.live import LiveServer, until

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


def test_the_sdks_own_helpers(uvicorn: LiveServer, bureau: Bureau) -> None:
    with bureau.sdk(uvicorn) as sdk:
        made = sdk.videos.create_and_poll(model=bureau.film, prompt="soon a cat", seconds="8", poll_interval_ms=200)
        assert (made.status, made.seconds, made.object) == ("completed", "8", "video")
        assert sdk.videos.download_content(made.id).read()[4:8] == b"ftyp"
        assert made.id in [video.id for video in sdk.videos.list()]
        assert sdk.videos.retrieve(made.id).progress == 100
        failed = sdk.videos.create_and_poll(model=bureau.film, prompt="fail soon", poll_interval_ms=200)
        assert failed.status == "failed" and failed.error is not None and failed.error.code == "moderation_blocked"
        assert sdk.videos.delete(made.id).deleted
        with pytest.raises(NotFoundError):
            sdk.videos.retrieve(made.id)
    (charge,) = bureau.charges(made.id)
    assert (charge.cost_nano_usd, charge.units, charge.usage_source) == (800_000_000, {"seconds": 8}, "provider_final")
    assert bureau.charges(failed.id) == []
    assert not MediaObject.objects.filter(job_id=made.id, deleted_at=None).exists()
    verify_money()


def test_google_makes_a_film(uvicorn: LiveServer, bureau: Bureau) -> None:
    with bureau.sdk(uvicorn) as sdk:
        made = sdk.videos.create_and_poll(
            model=bureau.google_film, prompt="soon a dog", size="1280x720", poll_interval_ms=200
        )
        assert (made.status, made.seconds, made.size) == ("completed", "4", "1280x720")
        assert sdk.videos.download_content(made.id).read()[4:8] == b"ftyp"
        filtered = sdk.videos.create_and_poll(model=bureau.google_film, prompt="fail soon", poll_interval_ms=200)
        assert filtered.status == "failed" and filtered.error is not None and filtered.error.code == "content_filter"
    (charge,) = bureau.charges(made.id)
    assert (charge.cost_nano_usd, charge.usage_source) == (200_000_000, "local_count")


def test_sync_and_async_requests(uvicorn: LiveServer, bureau: Bureau) -> None:
    """Waited for, told as a job, and given up waiting for, in which case the job goes on."""
    with bureau.client(uvicorn) as client:
        body = {"model": bureau.film, "prompt": "soon a film"}
        waited = client.post("/videos", json=body, headers={"prefer": "wait=30"})
        assert (waited.status_code, waited.json()["status"]) == (200, "completed") and waited.json()["url"]
        told = client.post("/videos", json={**body, "async": True})
        assert (told.status_code, told.json()["object"], told.json()["mode"]) == (202, "job", "native")
        done = client.get(f"/jobs/{told.json()['id']}", params={"wait": 30}).json()
        assert done["status"] == "completed" and done["result"]["object"] == "video" and done["cost"] == "0.4"
        late = client.post("/videos", json={**body, "prompt": "never"}, headers={"prefer": "wait=0"})
        error = late.json()["error"]
        assert (late.status_code, error["code"]) == (504, "provider_timeout")
        assert client.get(f"/jobs/{error['job']}").json()["status"] in ("queued", "in_progress")
        client.post(f"/jobs/{error['job']}/cancel")
        bureau.over(error["job"])
        mock = client.post("/videos", json={"model": bureau.mock_film, "prompt": "x"}, headers={"prefer": "wait=30"})
        assert mock.json()["status"] == "completed"
    verify_money()


@pytest.mark.parametrize("vendor", ["openai", "google"])
@pytest.mark.parametrize("point", ["running", "stubborn", "over"])
def test_cancelled_while_the_provider_works(uvicorn: LiveServer, bureau: Bureau, vendor: str, point: str) -> None:
    model, fake = (bureau.film, bureau.openai) if vendor == "openai" else (bureau.google_film, bureau.google)
    prompt = {"running": "never", "stubborn": "stubborn", "over": "soon"}[point]
    with bureau.client(uvicorn) as client:
        job_id = client.post("/videos", json={"model": model, "prompt": prompt}).json()["id"]
        if point == "over":
            bureau.over(job_id)
            assert client.post(f"/jobs/{job_id}/cancel").status_code == 409
        else:
            until(lambda: Job.objects.exclude(upstream_id="").filter(pk=job_id).exists(), what="being taken up")
            assert client.post(f"/jobs/{job_id}/cancel").json()["status"] == "cancelling"
        job = bureau.over(job_id)
    told = [record for record in fake.records if record.method == "DELETE" or record.path.endswith(":cancel")]
    assert len(told) == (0 if point == "over" else 1)
    expected = {"running": ("cancelled", "confirmed"), "stubborn": ("completed", "failed"), "over": ("completed", "")}
    assert (job.status, job.cancel_upstream) == expected[point]
    assert len(bureau.charges(job_id)) == (0 if point == "running" else 1)
    verify_money()


def test_a_client_that_stops_waiting_has_its_film_cancelled(uvicorn: LiveServer, bureau: Bureau) -> None:
    with bureau.client(uvicorn) as client, pytest.raises(httpx.ReadTimeout):
        body = {"model": bureau.film, "prompt": "never to be waited for"}
        client.post("/videos", json=body, headers={"prefer": "wait=60"}, timeout=1.5)
    job = Job.objects.filter(tenant=bureau.tenant).order_by("-created_at")[0]
    assert bureau.over(job.pk).status == "cancelled"
    assert bureau.charges(job.pk) == []


def test_nonsense(uvicorn: LiveServer, bureau: Bureau) -> None:
    good = {"model": bureau.film, "prompt": "soon"}
    with bureau.client(uvicorn) as client:
        for wrong, param in (
            ({"prompt": ""}, "prompt"),
            ({"prompt": 7}, "prompt"),
            ({"seconds": 0}, "seconds"),
            ({"seconds": "many"}, "seconds"),
            ({"seconds": 10**9}, "seconds"),
            ({"size": "big"}, "size"),
            ({"model": ""}, "model"),
            ({"async": 1}, "async"),
        ):
            answer = client.post("/videos", json={**good, **wrong})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
        picture = client.post("/videos", data=good, files={"input_reference": ("a.png", b"\x89PNG")})
        assert picture.status_code in (400, 415)
        assert client.post("/videos", content=b"{").status_code == 400
        assert client.post("/videos", json=[]).status_code == 400
        chat = client.post("/videos", json={**good, "model": bureau.chat})
        assert chat.json()["error"]["code"] == "capability_not_supported"
        begun = time.monotonic()
        refused = client.post("/videos", json={**good, "seconds": 5}, headers={"prefer": "wait=30"})
        assert refused.status_code == 400, "as the provider says"
        assert time.monotonic() - begun < 25
        assert client.get(f"/videos/{'x' * 500}").status_code == 404
        assert client.get("/videos/none/content?variant=thumbnail").json()["error"]["param"] == "variant"
