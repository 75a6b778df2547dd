"""Any split of a stream's bytes gives the same chunks, in every decoder there is; no garbage makes one raise."""

from __future__ import annotations

import itertools
import uuid
from typing import Any
from unittest import mock

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import Failure
from providers.registry import ADAPTERS, adapter_for
from tests.providers.contract.captured import STREAMS
from tests.providers.contract.providers import UNDER_CONTRACT

MOMENT = "2026-11-21T12:00:00Z"


def fed(kind: str, pieces: list[bytes]) -> tuple[Any, list[Any]]:
    """What a fresh decoder makes of the pieces. The clock stands and ids are not random: chunks say both."""
    with time_machine.travel(MOMENT, tick=False), mock.patch("uuid.uuid4", return_value=uuid.UUID(int=7)):
        decoder = adapter_for(kind).decoder()
        return decoder, [chunk for piece in pieces for chunk in decoder.feed(piece)]


def facts(chunks: list[Any]) -> list[tuple[Any, ...]]:
    return [
        (c.data, c.text_bytes, c.has_content, c.usage and c.usage.units, c.usage_only, c.continuation) for c in chunks
    ]


EXPECTED = {kind: fed(kind, [stream]) for kind, stream in STREAMS.items()}


def test_every_adapter_is_under_contract() -> None:
    assert set(ADAPTERS) == set(STREAMS) == {entry.kind for entry in UNDER_CONTRACT}


@pytest.mark.parametrize("kind", STREAMS)
@given(cuts=st.lists(st.integers(0, 5000), max_size=40), crlf=st.booleans())
def test_any_split_gives_the_same_chunks(kind: str, cuts: list[int], crlf: bool) -> None:
    stream = STREAMS[kind].replace(b"\n", b"\r\n") if crlf else STREAMS[kind]
    places = [0, *sorted(cut % len(stream) for cut in cuts), len(stream)]
    decoder, chunks = fed(kind, [stream[start:end] for start, end in itertools.pairwise(places)])
    assert facts(chunks) == facts(EXPECTED[kind][1])
    assert decoder.finished and decoder.failure is None


@pytest.mark.parametrize("kind", STREAMS)
def test_byte_by_byte(kind: str) -> None:
    decoder, chunks = fed(kind, [bytes([byte]) for byte in STREAMS[kind]])
    assert facts(chunks) == facts(EXPECTED[kind][1]) and decoder.finished


@pytest.mark.parametrize("kind", STREAMS)
@given(data=st.binary(max_size=300), place=st.integers(0, 5000))
def test_garbage_never_raises(kind: str, data: bytes, place: int) -> None:
    stream = STREAMS[kind]
    cut = place % len(stream)
    decoder, _ = fed(kind, [stream[:cut], data, stream[cut:]])
    assert decoder.failure is None or isinstance(decoder.failure.failure, Failure)


@pytest.mark.parametrize("kind", STREAMS)
def test_a_cut_stream_is_not_finished(kind: str) -> None:
    half = STREAMS[kind][: len(STREAMS[kind]) // 2]
    decoder, chunks = fed(kind, [half])
    assert not decoder.finished and facts(chunks) == facts(EXPECTED[kind][1])[: len(chunks)]
