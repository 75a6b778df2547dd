"""Trying a binding on a text, as its page does: what it would say before a call, and about the answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gateway.context import Trace
from gateway.errors import RequestBlockedError, ResponseBlockedError
from gateway.hooks.base import CallFacts
from gateway.hooks.models import HookBinding, resources_of
from gateway.hooks.runner import CallHooks
from gateway.hooks.selectors import bind
from providers.transport import Transport

REQUEST_ID = "trial"


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one text. `verdict` is allow, block, modify or failed; `text` what would go on, None for nothing."""

    stage: str
    verdict: str
    text: str | None
    reason: str


def try_on(row: HookBinding, request_text: str, *, answer_text: str) -> list[Trial]:
    """Ask a hook about a request and, where that passes, about an answer; a webhook is really called."""
    bound = bind(row, resources_of(row.tenant_id))
    facts = CallFacts(
        request_id=REQUEST_ID, operation="chat", model=row.model, tenant=row.tenant.name, project="", user=""
    )

    async def ask() -> list[Trial]:
        transport = Transport()
        trace = Trace(request_id=REQUEST_ID)
        hooks = CallHooks([bound], facts, trace=trace, transport=transport)
        try:
            trials = [await _told(hooks, trace, text=request_text, is_answer=False)]
            if answer_text and trials[0].text is not None:
                trials.append(await _told(hooks, trace, text=answer_text, is_answer=True))
            return trials
        finally:
            await transport.close()

    return asyncio.run(ask())


async def _told(hooks: CallHooks, trace: Trace, *, text: str, is_answer: bool) -> Trial:
    asked = len(trace.hooks)
    reason = ""
    after: str | None = None
    try:
        after = (await (hooks.texts_after if is_answer else hooks.texts_before)([text]))[0]
    except (RequestBlockedError, ResponseBlockedError) as refusal:
        reason = refusal.message
    stage = "The answer" if is_answer else "The request"
    notes = trace.hooks[asked:]
    if not notes:
        return Trial(stage, "allow", after, "It does not look at these.")
    return Trial(stage, notes[-1].verdict, after, notes[-1].problem or reason)
