"""A tool loop through every adapter, by a client that knows only OpenAI's messages: the fakes check what comes back."""

from __future__ import annotations

from typing import Any

import pytest

from providers.registry import adapter_for
from tests.fakes.openai.scripts import Script, ToolCall
from tests.providers.contract.providers import UNDER_CONTRACT
from tests.providers.contract.questions import HELLO, NOW, WEATHER, result
from tests.providers.contract.reading import Side, joined, whole

SPOKEN_TO = tuple(entry.kind for entry in UNDER_CONTRACT if entry.fake is not None)
THINKS = Script(
    reasoning="which hour",
    tool_calls=(ToolCall(name="weather", arguments='{"city":"Rome"}'), ToolCall(name="now")),
)


@pytest.mark.parametrize("side", SPOKEN_TO, indirect=True)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_second_turn_carries_what_the_first_one_gave(side: Side, stream: bool) -> None:
    assert side.fake is not None
    side.fake.script(THINKS)
    ask = {"model": side.model, "tools": [WEATHER, NOW], "stream": stream, "stream_options": None}
    if stream:
        ask["stream_options"] = {"include_usage": True}
    answer = side.client.post("/chat/completions", json=ask | {"messages": HELLO})
    said = joined(answer.text) if stream else whole(answer.json())
    calls = [
        {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
        for call in said["calls"]
    ]
    spoken: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": calls}
    results = [result(call["id"], f"answer {number}") for number, call in reversed([*enumerate(calls)])]
    side.fake.script(Script(text="Noon in Rome."))
    answer = side.client.post("/chat/completions", json=ask | {"messages": [*HELLO, spoken, *results]})
    assert answer.status_code == 200, answer.text
    said = joined(answer.text) if stream else whole(answer.json())
    assert (said["content"], said["finish_reason"]) == ("Noon in Rome.", "stop")
    sent = side.fake.all_ended()[-1].raw_body
    keeps = adapter_for(side.provider.kind).keeps_continuations
    assert bool(side.provider.gives_back) is keeps
    assert side.provider.gives_back in sent and b"skip_thought" not in sent
