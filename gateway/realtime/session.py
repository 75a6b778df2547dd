"""A session that is under way: frames both ways, each read once, and all that is counted and checked on the way.

Four tasks move frames, two for each direction with a bounded queue between them, and one keeps the purse. The first to
find a reason ends the session; then the provider is asked to stop, what it still reports is charged, and the client is
told what it has used.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from billing.models import Ending, UsageSource
from gateway.context import Call, Trace
from gateway.errors import GatewayError, PayloadTooLargeError, RequestBlockedError, ValidationError
from gateway.realtime.charges import Charge
from gateway.realtime.client import ClientClosedError, ClientSocket
from gateway.realtime.closing import TOO_BIG, End, closed_event, error_event, passed_on, summary_of
from gateway.realtime.frames import read_frame
from gateway.realtime.hearing import Hearing
from gateway.realtime.keeping import Keeping
from gateway.realtime.lanes import Lanes, LanesClosedError
from gateway.realtime.models import SessionReason
from gateway.realtime.pace import Pace
from gateway.realtime.policing import ModelSwapError, Terms
from gateway.realtime.purse import Purse
from gateway.realtime.screening import Heard, Screen
from gateway.realtime.watch import Watch
from providers.errors import ProviderError
from providers.realtime.types import Conversation, ServerEvent, SocketClosedError, UpstreamSocket
from providers.types import Target

if TYPE_CHECKING:
    from gateway.runtime import Gateway

MAX_FRAME_CHARACTERS = 16 * 1024 * 1024
MOST_BAD_FRAMES = 100
URGENT_FOR_PROVIDER = frozenset({"response.cancel", "conversation.item.truncate", "output_audio_buffer.clear"})
URGENT_FOR_CLIENT = frozenset({"input_audio_buffer.speech_started"})
"""Barging in: whoever is interrupted must hear of it before what is still queued."""

LAST_WORD_SECONDS = {SessionReason.BUDGET_EXCEEDED: 1.0, SessionReason.KEY_REVOKED: 1.0}
LAST_WORD_SECONDS_OTHERWISE = 3.0
"""How long a provider may take to report a response that was cancelled."""

GOODBYE_SECONDS = 2.0
TICK_SECONDS = 0.5


class Session:
    """One conversation. `run` returns when it is over and paid."""

    def __init__(self, gateway: Gateway, call: Call, *, trace: Trace, purse: Purse, terms: Terms) -> None:
        self._gateway = gateway
        self.call = call
        self.trace = trace
        self.purse = purse
        self.terms = terms
        self.hearing = Hearing(call, terms, prices=gateway.directory.prices)
        self.screen = Screen(gateway, call, trace=trace, target=terms.target)
        self._keeping = Keeping(call, trace)
        self.wants_summary = True
        self.key_digest = b""
        """Of the key that it was opened with."""
        self.begins_with: dict[str, Any] = {}
        """The configuration that a client secret prescribes."""
        self.charged: deque[Charge] = deque()
        """What is over and not paid yet."""
        self._up, self._down = Lanes(), Lanes()
        self._muted = False
        self._bad_frames = 0
        self._told: dict[str, Any] = {}
        self._ending: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._wake = asyncio.Event()
        self._quiet = asyncio.Event()
        """Set whenever nothing is under way at the provider that is still to be reported."""
        self._provider_gone = False

    @property
    def id(self) -> str:
        """Ours; the provider's own is not shown."""
        return self.call.request_id

    @property
    def target(self) -> Target:
        """The deployment it has."""
        return self.terms.target

    def follow(self, call: Call) -> None:
        """The key's tenant has other budgets or approvals now."""
        self.call = call
        self.terms.caller = call.caller
        self.purse.follow(call)
        self.screen.follow(call)

    def wake(self) -> None:
        """Look at once whether the session may go on."""
        self._wake.set()

    def stop(self, end: End) -> None:
        """End the session, unless it is ending already."""
        if not self._ending.done():
            self._ending.set_result(end)

    async def run(
        self, client: ClientSocket, upstream: UpstreamSocket, *, conversation: Conversation, first: list[ServerEvent]
    ) -> End:
        """Relay until there is a reason not to; returns it."""
        for event in first:
            self.hearing.hear(event)
            self._down.put_last(event.text)
        await self._begin(conversation)
        talking = [
            asyncio.create_task(self._from_client(client, conversation)),
            asyncio.create_task(self._keep()),
        ]
        sending = asyncio.create_task(self._to_provider(upstream))
        hearing = asyncio.create_task(self._from_provider(upstream, conversation))
        telling = asyncio.create_task(self._to_client(client))
        for task in (*talking, sending, hearing, telling):
            task.add_done_callback(self._task_ended)
        end = await self._ending
        for task in talking:
            task.cancel()
        await asyncio.wait(talking)
        self._muted = end.reason in LAST_WORD_SECONDS or client.is_gone
        if self._muted:
            self._down.drop()
        await self._last_word(end, conversation)
        for task in (sending, hearing):
            task.cancel()
        await asyncio.wait([sending, hearing])
        await self._pay_rest(end)
        await self._say_goodbye(end, client, telling=telling)
        await upstream.close()
        await self.purse.settled()
        return end

    async def abandon(self, upstream: UpstreamSocket) -> End:
        """End a session whose client left before it could begin."""
        await self.purse.close(None)
        await upstream.close()
        await self.purse.settled()
        return End(reason=SessionReason.CLIENT_LEFT)

    async def _begin(self, conversation: Conversation) -> None:
        """Tell the provider what the session's client secret prescribes."""
        if not self.begins_with:
            return
        update = {"type": "session.update", "session": self.terms.session(self.begins_with, affordable_tokens=None)}
        try:
            await self.screen.asked(update)
        except RequestBlockedError as error:
            self.stop(End(reason=SessionReason.POLICY, error=error))
            return
        for frame in conversation.to_provider(update, orjson.dumps(update).decode()):
            self._up.put_last(frame)

    async def _from_client(self, client: ClientSocket, conversation: Conversation) -> None:
        pace = Pace()
        try:
            while True:
                text = await client.receive()
                if len(text) > MAX_FRAME_CHARACTERS:
                    self.stop(
                        End(reason=SessionReason.POLICY, error=PayloadTooLargeError(MAX_FRAME_CHARACTERS), code=TOO_BIG)
                    )
                    return
                if (excess := pace.excess(len(text), time.monotonic())) is not None:
                    self.stop(End(reason=SessionReason.POLICY, error=excess))
                    return
                try:
                    await self._take(text, conversation)
                except (GatewayError, ProviderError) as error:
                    self._refuse(text, error)
        except ClientClosedError as closed:
            was_orderly = closed.code == 1000
            self.stop(End(reason=SessionReason.CLIENT_CLOSE if was_orderly else SessionReason.CLIENT_LEFT))
        except LanesClosedError:
            pass

    async def _take(self, text: str, conversation: Conversation) -> None:
        """One frame of the client's."""
        event = read_frame(text)
        kind = event["type"]
        if kind == "session.close":
            self.stop(End(reason=SessionReason.CLIENT_CLOSE))
            return
        policed = self.terms.police(event, affordable_tokens=self.purse.affordable_tokens)
        if policed is not None:
            event, text = policed, orjson.dumps(policed).decode()
        self._keeping.asked(kind, text)
        if await self.screen.asked(event):
            text = orjson.dumps(event).decode()
        if self.hearing.asked(event, size=len(text)):
            self._busy()
        for frame in conversation.to_provider(event, text):
            if kind in URGENT_FOR_PROVIDER:
                self._up.put_urgent(frame)
            else:
                await self._up.put(frame)

    def _refuse(self, text: str, error: GatewayError | ProviderError) -> None:
        """Tell the client what is wrong with a frame; the session goes on, unless it swaps models or never learns."""
        told = error if isinstance(error, GatewayError) else ValidationError(error.message, param=error.param)
        self._bad_frames += 1
        if isinstance(told, ModelSwapError) or self._bad_frames > MOST_BAD_FRAMES:
            self.stop(End(reason=SessionReason.POLICY, error=told))
            return
        self._down.put_last(error_event(told, event_id=_event_id(text)))

    async def _to_provider(self, upstream: UpstreamSocket) -> None:
        try:
            while (frame := await self._up.take()) is not None:
                await upstream.send(frame)
        except SocketClosedError:
            return  # whoever reads from it says how

    async def _from_provider(self, upstream: UpstreamSocket, conversation: Conversation) -> None:
        try:
            while True:
                for event in conversation.from_provider(await upstream.receive()):
                    for charge in self.hearing.hear(event):
                        self.charged.append(charge)
                    if self.hearing.is_busy:
                        self._busy()
                    else:
                        self._quiet.set()
                    if self.charged or self._is_dear():
                        self._wake.set()
                    if self.screen.is_idle:
                        await self._tell(event)
                    else:
                        await self._tell_judged(await self.screen.heard(event), conversation)
        except SocketClosedError as gone:
            self._provider_gone = True
            self._quiet.set()
            self.stop(self.hearing.how_it_ended(passed_on(gone.closed.code)))
        except ProviderError as error:
            self._provider_gone = True
            self._quiet.set()
            self.stop(End(reason=SessionReason.PROVIDER_CLOSED, error=self.hearing.failure(error.message)))
        except LanesClosedError:
            pass

    async def _tell_judged(self, heard: Heard, conversation: Conversation) -> None:
        """What the hooks left of an event. Where one has blocked, the provider is to stop."""
        if heard.refusal is not None:
            self._down.drop_those(_is_sound_of(heard.response_id))
            self._down.put_last(error_event(heard.refusal))
            if heard.item_id:
                self._tell_provider({"type": "conversation.item.delete", "item_id": heard.item_id}, conversation)
            if self.hearing.meter.is_speaking:
                named = {"response_id": heard.response_id} if heard.response_id else {}
                self._tell_provider({"type": "response.cancel", **named}, conversation)
        for event in heard.events:
            await self._tell(event)

    def _tell_provider(self, event: dict[str, Any], conversation: Conversation) -> None:
        """A word of the gateway's own, before all that is queued; nothing to a provider that has no such word."""
        try:
            for frame in conversation.to_provider(event, orjson.dumps(event).decode()):
                self._up.put_urgent(frame)
        except ProviderError:
            return

    async def _tell(self, event: ServerEvent) -> None:
        if self._muted:
            return
        self._keeping.told(event)
        if event.type in URGENT_FOR_CLIENT:
            self._down.put_urgent(event.text)
        else:
            await self._down.put(event.text)

    async def _to_client(self, client: ClientSocket) -> None:
        try:
            while (frame := await self._down.take()) is not None:
                async with asyncio.timeout(self._gateway.config.realtime_client_seconds):
                    await client.send(frame)
        except TimeoutError:
            self.stop(End(reason=SessionReason.CLIENT_SLOW))
            client.is_gone = True
        except ClientClosedError:
            self.stop(End(reason=SessionReason.CLIENT_LEFT))

    async def _keep(self) -> None:
        """Pay for what is over, see that enough is held for what goes on, and look whether it may go on."""
        watch = Watch(self._gateway, self)
        while True:
            while self.charged:
                await self.purse.pay(self.charged.popleft())
            unreported = self.hearing.meter.unreported()
            if not await self.purse.renew(unreported, context=self.hearing.meter.context):
                self.stop(watch.out_of_money())
                return
            if self.hearing.is_busy:
                self.purse.mark(self.hearing.unreported())
            if (end := watch.look()) is not None:
                self.stop(end)
                return
            await watch.refresh()
            self._wake.clear()
            if not self.charged:
                try:
                    async with asyncio.timeout(TICK_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    def _is_dear(self) -> bool:
        """Whether more ought to be held."""
        return self.purse.is_budgeted and self.purse.is_low(self.hearing.meter.unreported())

    def _busy(self) -> None:
        """The provider works for us from now on: so it must stand on file."""
        if self._quiet.is_set() or not self.purse.is_marked:
            self._quiet.clear()
            self.purse.dispatched()
            self.purse.mark(self.hearing.unreported())

    async def _last_word(self, end: End, conversation: Conversation) -> None:
        """Have the provider stop, and wait for its account of what it has said."""
        if not self.hearing.is_busy or self._provider_gone:
            return
        if self.hearing.meter.is_speaking:
            self._tell_provider({"type": "response.cancel"}, conversation)
        self._quiet.clear()
        try:
            async with asyncio.timeout(LAST_WORD_SECONDS.get(end.reason, LAST_WORD_SECONDS_OTHERWISE)):
                await self._quiet.wait()
        except TimeoutError:
            pass

    async def _pay_rest(self, end: End) -> None:
        while self.charged:
            await self.purse.pay(self.charged.popleft())
        ending = Ending.CLIENT_LEFT if end.reason is SessionReason.CLIENT_LEFT else Ending.FAILED
        rest = self.hearing.rest(UsageSource.LOCAL_COUNT, ending)
        for charge in rest[:-1]:
            await self.purse.pay(charge)
        await self.purse.close(rest[-1] if rest else None)

    async def _say_goodbye(self, end: End, client: ClientSocket, *, telling: asyncio.Task[None]) -> None:
        if not client.is_gone and not telling.done():
            if end.error is not None:
                self._down.put_last(error_event(end.error))
            self._told = self.summary()
            if self.wants_summary:
                self._down.put_last(
                    closed_event(
                        end.reason,
                        session_id=self.id,
                        model=self.call.requested_model,
                        provider=self.target.provider_name,
                        usage=self.summary(),
                    )
                )
        self._down.close()
        await asyncio.wait([telling], timeout=GOODBYE_SECONDS)
        telling.cancel()
        await asyncio.wait([telling])
        await client.close(end.close_code, end.close_reason)

    def summary(self) -> dict[str, Any]:
        """What it has used and cost so far; once its client has been told, what it was told."""
        return self._told or summary_of(self.purse.charges, seconds=int(self.trace.elapsed_seconds()))

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """A task that fails by a fault of ours ends the session."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.stop(self.hearing.broke(error, self.id))


def _is_sound_of(response_id: str) -> Callable[[str], bool]:
    """Tells whether a queued frame is sound of a response; of any for no id."""

    def is_sound(frame: str) -> bool:
        event = orjson.loads(frame)
        is_its = not response_id or event.get("response_id") == response_id
        return bool(is_its and event.get("type") == "response.output_audio.delta")

    return is_sound


def _event_id(text: str) -> object:
    """The id of a frame that was refused, where it has one."""
    try:
        event = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return event.get("event_id") if isinstance(event, dict) else None
