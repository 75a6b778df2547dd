"""Who may open a session, how that is told, and what becomes of one that nobody answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from billing.models import Attempt
from tenants.services import revoke_key
from tests import factories
from tests.fakes.realtime_openai import FakeRealtime
from tests.gateway.conftest import forget_health, wait_for_models
from tests.gateway.realtime.conftest import VOICE, VOICE_PRICES, Speaker, event, say, until_event
from tests.gateway.realtime.test_lifetime import Start, start
from tests.live import LiveServer

__all__ = ["start"]


def refused(speaker: Speaker, server: LiveServer, **options: Any) -> tuple[int, str]:
    async def knock() -> tuple[int, str]:
        with pytest.raises(InvalidStatus) as caught:
            async with speaker.connect(server, **options):
                pass
        answer = caught.value.response
        return answer.status_code, json.loads(answer.body or b"{}").get("error", {}).get("code", "")

    return asyncio.run(knock())


def test_refusals_have_a_status_and_an_envelope(speaker: Speaker, uvicorn: LiveServer) -> None:
    chat_only = factories.make_model(speaker.provider)
    factories.approve(speaker.tenant, chat_only)
    wait_for_models(uvicorn, speaker.key, chat_only.name)
    narrow = factories.make_key(speaker.tenant, scopes=["usage"])[1]
    assert refused(speaker, uvicorn, key="bsr_live_nonsense") == (401, "invalid_api_key")
    assert refused(speaker, uvicorn, key=narrow) == (403, "permission_denied")
    assert refused(speaker, uvicorn, query="?model=nothing") == (404, "model_not_found")
    assert refused(speaker, uvicorn, query=f"?model={chat_only.name}") == (400, "capability_not_supported")
    assert refused(speaker, uvicorn, query="?x=1") == (400, "validation_error")
    assert refused(speaker, uvicorn, query="/else") == (404, "unknown_url")


def test_another_tenants_key_does_not_open_it(speaker: Speaker, uvicorn: LiveServer) -> None:
    outsider = factories.make_key(factories.make_tenant())[1]
    assert refused(speaker, uvicorn, key=outsider) == (403, "model_not_approved")


def test_a_browser_sends_its_key_among_the_subprotocols(
    speaker: Speaker, voice: FakeRealtime, uvicorn: LiveServer
) -> None:
    async def talk(key: str) -> tuple[str | None, list[dict[str, Any]], int | None]:
        offered = ["realtime", f"openai-insecure-api-key.{key}"]
        knocking = speaker.connect(uvicorn, subprotocols=offered)
        knocking.additional_headers = {}
        async with knocking as socket:
            told = [await event(socket)]
            if told[0]["type"] == "session.created":
                await say(socket, type="session.close")
            await socket.wait_closed()
            return socket.subprotocol, told, socket.close_code

    chosen, told, code = asyncio.run(talk(speaker.key))
    assert (chosen, told[0]["type"], code) == ("realtime", "session.created", 1000)
    chosen, told, code = asyncio.run(talk("bsr_live_nonsense"))
    assert (chosen, told[0]["error"]["code"], code) == ("realtime", "invalid_api_key", 1008)
    assert all(speaker.key not in str(seen.headers) for seen in voice.connections)


def test_a_client_secret_opens_sessions_of_its_model(
    speaker: Speaker, voice: FakeRealtime, uvicorn: LiveServer
) -> None:
    other = factories.make_model(speaker.provider, capabilities=VOICE, prices=VOICE_PRICES)
    factories.approve(speaker.tenant, other)
    wait_for_models(uvicorn, speaker.key, other.name)
    session = {"type": "realtime", "model": speaker.model.name, "instructions": "Be brief."}
    with uvicorn.client(speaker.key) as client:
        made = client.post("/realtime/client_secrets", json={"session": session}).json()
        unapproved = client.post("/realtime/client_secrets", json={"session": {"model": "nothing"}})
        too_long = {"session": session, "expires_after": {"seconds": 9999}}
        assert client.post("/realtime/client_secrets", json=too_long).status_code == 400
    assert unapproved.json()["error"]["code"] == "model_not_approved"
    assert made["value"].startswith("ek_") and made["session"] == session
    with uvicorn.client(made["value"]) as client:
        assert client.get("/models").status_code == 401
    assert refused(speaker, uvicorn, key=made["value"], query=f"?model={other.name}") == (403, "permission_denied")
    assert refused(speaker, uvicorn, key=made["value"][:-1] + "x") == (401, "invalid_api_key")

    async def talk() -> dict[str, Any]:
        async with speaker.session(uvicorn, key=made["value"], query="?") as socket:
            updated = await until_event(socket, "session.updated")
            await say(socket, type="session.close")
            await until_event(socket, "session.closed")
            return updated

    assert asyncio.run(talk())["session"]["instructions"] == "Be brief."
    (told,) = voice.connections[-1].received
    assert told["session"] == {**session, "model": "gpt-realtime-2"}
    revoke_key(speaker.tenant.keys.get())
    from_now_on = asyncio.run(_until_refused(speaker, uvicorn, made["value"]))
    assert from_now_on == 401


async def _until_refused(speaker: Speaker, server: LiveServer, key: str) -> int:
    for _ in range(100):
        try:
            async with speaker.connect(server, key=key, query="?"):
                await asyncio.sleep(0.05)
        except InvalidStatus as error:
            return error.response.status_code
    return 0


@pytest.mark.parametrize(("status", "told"), [(401, 502), (403, 502), (429, 503), (500, 502), (503, 502)])
def test_a_provider_that_refuses_costs_nothing(
    speaker: Speaker, voice: FakeRealtime, uvicorn: LiveServer, status: int, told: int
) -> None:
    forget_health(uvicorn)
    voice.refuse = (status, {"error": {"message": f"no, {voice.api_key}", "type": "x", "code": None}})
    assert refused(speaker, uvicorn)[0] == told
    assert speaker.charges() == []
    (attempt,) = Attempt.objects.filter(tenant=speaker.tenant)
    assert (attempt.state, attempt.reserved_nano_usd) == ("voided", 0)
    assert voice.api_key not in uvicorn.log.read_text()


def test_another_deployment_is_asked_before_the_session_is_created(
    committed: None, voice: FakeRealtime, uvicorn: LiveServer
) -> None:
    voice.reset()
    broken = factories.make_provider("http://127.0.0.1:1/v1", secret="x")
    sound = factories.make_provider(voice.base_url, secret=voice.api_key)
    model = factories.make_model(
        broken, sound, capabilities=VOICE, prices=VOICE_PRICES, upstream_model="gpt-realtime-2"
    )
    tenant = factories.make_tenant()
    factories.approve(tenant, model)
    speaker = Speaker(tenant, factories.make_key(tenant)[1], model, sound).known_to(uvicorn)

    async def talk() -> str | None:
        async with speaker.session(uvicorn) as socket:
            await say(socket, type="session.close")
            await until_event(socket, "session.closed")
            assert socket.response is not None
            return socket.response.headers.get("x-gateway-provider")

    assert asyncio.run(talk()) == sound.name
    assert speaker.charges() == []
    states = list(Attempt.objects.filter(tenant=tenant).order_by("created_at").values_list("failure", flat=True))
    assert states == ["unreachable", "nothing_used"]


def test_pages_of_other_origins_may_not_open_sessions(speaker: Speaker, start: Start) -> None:
    """Whatever cookie or key they have: the platform's own pages and those that are named may."""
    server = start(CORS_ORIGINS="https://app.example")
    speaker.known_to(server)

    def opens(origin: str) -> tuple[int, str]:
        return refused(speaker, server, headers={"Origin": origin, "Cookie": "sessionid=x"})

    assert opens("https://evil.example") == opens("null") == (403, "permission_denied")
    assert opens(f"https://evil.example/127.0.0.1:{server.port}") == (403, "permission_denied")

    async def talk(origin: str) -> None:
        async with speaker.session(server, headers={"Origin": origin}) as socket:
            await say(socket, type="session.close")
            await until_event(socket, "session.closed")

    asyncio.run(talk("https://app.example"))
    asyncio.run(talk(server.origin))
