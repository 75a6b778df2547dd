"""The check of a signature that the documentation shows takes what is genuine, and nothing else."""

from __future__ import annotations

import time
from typing import Any

from gateway.notifications.webhooks import sign
from tenants.webhooks import make_secret
from tests.docs.markdown import blocks
from tests.engines import ROOT

PAGE = ROOT / "docs/how-to/be-told-when-a-budget-runs-out.md"


def test_the_check_of_a_signature() -> None:
    shown: dict[str, Any] = {}
    (snippet,) = blocks(PAGE, "python")
    exec(snippet, shown)
    secret, previous, now, body = make_secret(), make_secret(), int(time.time()), b'{"a": 1}'

    def headers(timestamp: int) -> dict[str, str]:
        signature = sign([secret, previous], message_id="m", timestamp=timestamp, body=body)
        return {"webhook-id": "m", "webhook-timestamp": str(timestamp), "webhook-signature": signature}

    is_genuine = shown["is_genuine"]
    assert is_genuine(headers(now), body, secret) and is_genuine(headers(now), body, previous)
    assert not is_genuine(headers(now), body, make_secret())
    assert not is_genuine(headers(now), b'{"a": 2}', secret)
    assert not is_genuine({**headers(now), "webhook-id": "n"}, body, secret)
    assert not is_genuine({**headers(now), "webhook-timestamp": str(now + 1)}, body, secret)
    assert not is_genuine(headers(now - 301), body, secret)
