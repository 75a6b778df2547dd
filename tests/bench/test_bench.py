"""The benchmark's own parts: nothing here looks at how long anything takes."""

import os
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from bench import native
from bench.check import check_answer
from bench.decoders import least_seconds
from bench.document import replace_figures
from bench.errors import BenchError
from bench.load import Latency, LoadGenerator, LoadResult, Shape, Target
from bench.measure import Bench, Hold, Round
from bench.plan import CPU_CONNECTIONS, LATENCY_CONNECTIONS, THROUGHPUT_CONNECTIONS, Results, Settings
from bench.private_gateway import SPEECH_MODEL, configuration
from bench.processes import cpu_seconds, resident_bytes
from bench.report import render
from bench.servers import mock_provider
from bench.workloads import HELD_STREAM, WORKLOADS, Workload
from providers.registry import ADAPTERS

needs_compiler = pytest.mark.skipif(native.find_compiler() is None, reason="no C compiler")
GOOD_LATENCY = Latency(p50=1.0, p95=1.0, p99=1.0, max=1.0)


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Target]:
    with mock_provider(tmp_path) as target:
        yield target


@pytest.fixture
def client(provider: Target) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def generator(tmp_path: Path) -> LoadGenerator:
    return LoadGenerator(native.build("load_generator"), tmp_path)


@needs_compiler
def test_mock_provider_answers_a_chat_of_the_official_sdk(client: openai.OpenAI) -> None:
    first, second = (
        client.chat.completions.create(model="mock-model", messages=[{"role": "user", "content": "Hello"}])
        for _ in range(2)
    )
    assert first.choices[0].message.content == second.choices[0].message.content
    assert (first.choices[0].message.content or "").startswith("The quick brown fox")
    assert first.usage and first.usage.total_tokens == 135
    assert first.id != second.id, "a gateway may tell answers apart by their id"


@needs_compiler
@pytest.mark.parametrize(("model", "content_chunks"), [("mock-model", 64), ("mock-t1-i1-n3", 3)])
def test_mock_provider_streams_to_the_official_sdk(client: openai.OpenAI, model: str, content_chunks: int) -> None:
    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Hello"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    texts = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    assert texts == [" the quick brown fox jumps over the dog"] * content_chunks
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert not chunks[-1].choices and chunks[-1].usage and chunks[-1].usage.completion_tokens == 512
    assert len({chunk.id for chunk in chunks}) == 1


@needs_compiler
def test_mock_provider_embeds_for_the_official_sdk_in_both_encodings(client: openai.OpenAI) -> None:
    by_default = client.embeddings.create(model="mock-embed", input="hello")  # the SDK asks for base64
    as_floats = client.embeddings.create(model="mock-embed", input="hello", encoding_format="float")
    assert len(by_default.data[0].embedding) == 1536
    assert by_default.data[0].embedding == pytest.approx(as_floats.data[0].embedding, abs=1e-6)
    assert by_default.usage.prompt_tokens == 8


@needs_compiler
def test_mock_provider_counts_what_it_was_asked(client: openai.OpenAI) -> None:
    client.embeddings.create(model="mock-embed", input="hello")
    assert [model.id for model in client.models.list()] == ["mock-model", "mock-embed"]
    stats = client.with_options(base_url=str(client.base_url).removesuffix("v1/")).get("/__stats", cast_to=object)
    assert isinstance(stats, dict)
    assert (stats["requests"], stats["embeddings"], stats["chat"], stats["aborted"]) == (3, 1, 0, 0)


@needs_compiler
@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
def test_load_generator_reports_good_answers(generator: LoadGenerator, provider: Target, workload: Workload) -> None:
    result = generator.run(provider, workload, shape=Shape(connections=5))
    assert (result.ok, result.errors, result.codes, result.failures) == (5, 0, {"200": 5}, {})
    assert result.ttfc and result.total
    assert 0 < result.ttfc.p50 <= result.total.p50 <= result.total.max
    check_answer(provider, provider, workload=workload)


@needs_compiler
def test_load_generator_asks_again_on_the_same_connections_until_time_is_up(
    generator: LoadGenerator, provider: Target
) -> None:
    result = generator.run(provider, WORKLOADS["chat"], shape=Shape(connections=2, seconds=0.1))
    assert result.errors == 0
    assert result.ok == result.codes["200"] >= 2
    assert result.rps == pytest.approx(result.ok / result.elapsed_seconds, rel=0.05)


@needs_compiler
def test_load_generator_counts_short_streams_as_errors(generator: LoadGenerator, provider: Target) -> None:
    workload = Workload(
        name="short", title="short", path="/v1/chat/completions", body=WORKLOADS["stream"].body, content_events=65
    )
    result = generator.run(provider, workload, shape=Shape(connections=3))
    assert (result.ok, result.errors, result.failures) == (0, 3, {"few_events": 3})


@needs_compiler
def test_load_generator_counts_refused_connections_as_errors(generator: LoadGenerator) -> None:
    nobody = Target("nobody", "http://127.0.0.1:1", pid=os.getpid())
    result = generator.run(nobody, WORKLOADS["chat"], shape=Shape(connections=3))
    assert (result.ok, result.errors, result.failures, result.total) == (0, 3, {"connect": 3}, None)


@needs_compiler
def test_check_refuses_a_different_answer(provider: Target) -> None:
    wrong = Workload(name="chat", title="chat", path="/elsewhere", body={"model": "mock-model"})
    with pytest.raises(BenchError, match="another shape"):
        check_answer(provider, provider, workload=wrong)


@needs_compiler
def test_accounts_cover_the_processes_below_the_root(provider: Target) -> None:
    assert resident_bytes(os.getpid()) >= resident_bytes(provider.pid) > 0
    assert cpu_seconds(os.getpid()) > 0


def test_no_compiler_is_said_clearly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(native, "BUILD_FOLDER", tmp_path)
    monkeypatch.setattr(native, "find_compiler", lambda: None)
    with pytest.raises(BenchError, match="needs a C compiler"):
        native.build("load_generator")


def test_every_model_that_is_asked_for_is_configured_and_approved() -> None:
    configured = configuration("http://127.0.0.1:18080")
    asked = {workload.body["model"] for workload in (*WORKLOADS.values(), HELD_STREAM)} | {SPEECH_MODEL}
    assert {model["name"] for model in configured["models"]} == asked
    assert set(configured["tenants"][0]["approved"]) == asked


def test_report_compares_rounds_that_ran_side_by_side_and_names_errors() -> None:
    bench = _bench()
    results = Results(idle_bytes=50 << 20, loaded_bytes=60 << 20)
    chat = WORKLOADS["chat"]
    # The machine halves its speed between the two rounds: the ratio stays 5, its inputs do not.
    for slowdown in (1, 2):
        for target, cpu_ms in ((bench.direct, 0.0), (bench.yardstick, 0.2), (bench.gateway, 1.0)):
            errors = 7 if target is bench.gateway and slowdown == 2 else 0
            for connections in (CPU_CONNECTIONS, LATENCY_CONNECTIONS, THROUGHPUT_CONNECTIONS):
                results.of(chat, connections, target=target).append(_round(cpu_ms * slowdown, errors))
    results.hold = Hold(2000, _load(errors=1, ok=1999), bytes_before=0, bytes_peak=2000 * 50 * 1024)
    report = render(bench, Settings(workloads=[chat], rounds=2, seconds=1, held_streams=2000), results=results)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in report.splitlines() if line.startswith("|")]
    cpu_row = next(row for row in cells if row[0] == "chat")
    assert cpu_row[1:7] == ["1.500", "0.300", "5.0", "≤ 6", "met", "0.300"]
    assert ["slow streams at once, finished", "1,999 of 2,000", "all 2,000", "not met"] in cells
    assert ["memory per held stream", "50 KiB", "≤ 80 KiB", "met"] in cells
    assert "- gateway, chat, 8 connections: 7 errors" in report


def test_figures_replace_what_stands_between_the_markers_and_nothing_else() -> None:
    start, end = "<!-- bench: figures start; anything -->", "<!-- bench: figures end -->"
    text = f"prose\n{start}\n\nold\n\n{end}\nmore prose\n"
    assert replace_figures(text, "new\n") == f"prose\n{start}\n\nnew\n\n{end}\nmore prose\n"
    with pytest.raises(BenchError):
        replace_figures(text, "new", part="governed figures")
    with pytest.raises(BenchError):
        replace_figures("prose without markers", "new")


def _bench() -> Bench:
    direct, yardstick, gateway = (
        Target(name, "http://127.0.0.1:1", os.getpid()) for name in ("direct", "yardstick", "gateway")
    )
    return Bench(
        generator=LoadGenerator(Path("load_generator"), Path()),
        direct=direct,
        yardstick=yardstick,
        gateway=gateway,
        engines={"Redis": 1},
        cores=None,
        scratch=Path(),
    )


def _round(server_cpu_ms: float, errors: int) -> Round:
    cpu_ms = {"server": server_cpu_ms, "provider": 0.1, "client": 0.1, "Redis": server_cpu_ms / 5}
    return Round(_load(errors=errors, ok=10), cpu_ms, foreign_cores=0.0)


def _load(*, errors: int, ok: int) -> LoadResult:
    return LoadResult(
        ok=ok,
        errors=errors,
        failures={"status": errors} if errors else {},
        codes={"200": ok},
        elapsed_seconds=1.0,
        rps=float(ok),
        client_cpu_seconds=0.1,
        max_open_streams=2000,
        ttfc=GOOD_LATENCY,
        total=GOOD_LATENCY,
        error_sample="",
    )


@needs_compiler
def test_a_set_rate_is_kept_and_waiting_counts(generator: LoadGenerator, provider: Target) -> None:
    kept = generator.run(provider, WORKLOADS["chat"], shape=Shape(connections=4, seconds=1, rate=50))
    assert kept.errors == 0 and kept.ok <= 50
    # One connection that is busy for 320 ms a request cannot keep to 20 a second: the others have to wait for it.
    late = generator.run(provider, WORKLOADS["paced"], shape=Shape(connections=1, seconds=1.5, rate=20))
    assert late.errors == 0 and late.ok <= 5
    assert late.total and late.total.max > 600


def test_every_adapters_stream_is_decoded() -> None:
    least = least_seconds(rounds=1)
    assert set(least) <= set(ADAPTERS) and all(seconds >= 0 for seconds in least.values())
