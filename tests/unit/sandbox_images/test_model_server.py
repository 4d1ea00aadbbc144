"""The model server's parts: arguments, tokenizer, KV blocks, queue, requests, GPU fit."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("prometheus_client")

from sandbox.hub.catalogue import MODELS
from sandbox.images.model_server import arguments, requests, settings, transfer
from sandbox.images.model_server.compute import Accelerator
from sandbox.images.model_server.engine import Engine, Job, Limits, planned_length
from sandbox.images.model_server.fit import GPUS, Shape, fit
from sandbox.images.model_server.kv_cache import BlockPool, block_hashes
from sandbox.images.model_server.metrics import Metrics
from sandbox.images.model_server.refusals import Refusal
from sandbox.images.model_server.tokenizer import tokenize

GEMMA = "google/gemma-2b-it"


def test_chart_arguments() -> None:
    parsed = arguments.parse(
        [GEMMA, "--port", "8000", "--served-model-name", GEMMA, "--disable-uvicorn-access-log", "--dtype", "half",
         "--max_model_len", "2048", "--gpu-memory-utilization=0.85", "--max-num-seqs", "64",
         "--kv-transfer-config", '{"kv_connector":"NixlConnector","kv_role":"kv_both"}']
    )  # fmt: skip
    assert (parsed.model, parsed.port, parsed.names, parsed.max_model_len) == (GEMMA, 8000, (GEMMA,), 2048)
    assert (parsed.memory_utilization, parsed.max_num_seqs, parsed.dtype) == (0.85, 64, "half")


def test_defaults_are_vllms() -> None:
    parsed = arguments.parse(["m"])
    assert (parsed.names, parsed.max_num_seqs, parsed.memory_utilization, parsed.block_size) == (("m",), 256, 0.9, 16)
    assert arguments.parse(["m", "--max-model-len", "2k"]).max_model_len == 2000
    assert arguments.parse(["m", "--max-model-len", "2K"]).max_model_len == 2048


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["m", "--backend", "xformers"], "vllm: error: unrecognized arguments: --backend xformers"),
        (["m", "--port", "x"], "vllm serve: error: argument --port: invalid int value: 'x'"),
        (["m", "--dtype", "fp16"], "argument --dtype: invalid choice: 'fp16'"),
        (["m", "--gpu-memory-utilization", "1.5"], "argument --gpu-memory-utilization"),
        (["m", "--kv-transfer-config", "{x"], "cannot be converted"),
    ],
)
def test_wrong_arguments_exit_2(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments.parse(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_settings() -> None:
    read = settings.read({"LLMD_SANDBOX_TTFT_SECONDS": "0.5", "HF_ENDPOINT": "http://hub/", "HF_TOKEN": " t\n"})
    assert (read.ttft, read.hub, read.token, read.gpu) == (0.5, "http://hub", "t", "nvidia-tesla-t4")
    assert settings.read({}).hub == "http://192.0.2.11"
    with pytest.raises(ValueError, match="LLMD_SANDBOX_TTFT_SECONDS='fast' is not a number"):
        settings.read({"LLMD_SANDBOX_TTFT_SECONDS": "fast"})
    with pytest.raises(ValueError, match="negative"):
        settings.read({"LLMD_SANDBOX_TTFT_SECONDS": "-1"})


@pytest.mark.parametrize("text", ["", "To be or not", "  two  spaces\n\tand tabs", "naïve 日本 😀 1234567", "<bos>x"])
def test_tokens_are_lossless(text: str) -> None:
    assert "".join(tokenize(text)) == text


def test_tokens_are_of_ordinary_length() -> None:
    text = "The gateway asks which pod has seen these words already and sends them there. " * 20
    assert 3 < len(text) / len(tokenize(text)) < 6
    assert tokenize("<start_of_turn>user\n")[0] == "<start_of_turn>"
    assert len(tokenize("To be or not")) == 4


def tokens(count: int, kind: str = "t") -> list[str]:
    return [f"{kind}{number}" for number in range(count)]


def test_block_identity_depends_on_all_before() -> None:
    one = block_hashes(tokens(40), 16)
    assert len(one) == 2
    assert block_hashes(["other", *tokens(40)[1:]], 16)[1] != one[1]


def test_blocks_fill_and_drain() -> None:
    pool = BlockPool(10, 16)
    lease = pool.lease(tokens(40), 20)
    assert lease is not None
    assert (pool.used, pool.usage) == (3, 0.3)  # two whole blocks and a part
    pool.grow(lease)
    assert pool.used == 4
    pool.release(lease)
    assert (pool.used, pool.idle) == (0, 2)


def test_prefix_is_found_again_and_shared() -> None:
    pool = BlockPool(10, 16)
    first = pool.lease(tokens(40), 1)
    second = pool.lease([*tokens(32), "else"], 1)
    assert first is not None
    assert second is not None
    assert (first.cached_tokens, second.cached_tokens, pool.used) == (0, 32, 4)
    pool.release(first)
    pool.release(second)
    again = pool.lease(tokens(32), 1)
    assert again is not None
    assert again.cached_tokens == 31  # the last token is always computed


def test_room_is_refused_and_old_prefixes_give_way() -> None:
    pool = BlockPool(4, 16)
    first = pool.lease(tokens(32, "a"), 16)
    assert first is not None
    assert pool.lease(tokens(32, "b"), 1) is None  # one of the four is promised
    pool.release(first)
    second = pool.lease(tokens(60, "b"), 1)
    assert second is not None
    assert pool.used == 4
    assert pool.idle == 0
    pool.release(second)
    third = pool.lease(tokens(32, "a"), 1)
    assert third is not None
    assert third.cached_tokens == 0


def test_without_prefix_caching_nothing_is_kept() -> None:
    pool = BlockPool(4, 16, prefix_caching=False)
    lease = pool.lease(tokens(32), 1)
    assert lease is not None
    pool.release(lease)
    assert pool.idle == 0


QUICK = settings.Settings(ttft=0.0, prefill_per_token=0.0, inter_token=0.0)


def engine(limit: int, blocks: int = 100, times: settings.Settings = QUICK) -> tuple[Engine, Metrics]:
    metrics = Metrics("m", block_size=16, blocks=blocks)
    return Engine(BlockPool(blocks, 16), metrics, times, Limits(limit)), metrics


async def collect(run: Engine, job: Job, *, each: bool = False) -> tuple[str, str | None, int]:
    text = ""
    async for piece, sequence in run.generate(job, each=each):
        text += piece
        last = sequence
    assert text == last.text
    return text, last.reason, last.tokens


def job(prompt: str = "hello there", most: int = 8, **more: Any) -> Job:
    return Job(tokenize(prompt), most, **more)


def test_generation_is_deterministic_and_ends() -> None:
    async def run() -> None:
        one, _ = engine(4)
        whole = await collect(one, job())
        assert whole == await collect(one, job(), each=True)
        assert whole[1:] == ("length", 8)
        text, reason, count = await collect(one, job(most=1000))
        assert reason == "stop"
        assert count == planned_length(job(most=1000), 0)
        word = text.split()[2]
        cut, reason, _ = await collect(one, job(most=1000, stop=(word,)), each=True)
        assert reason == "stop"
        assert cut == text[: text.index(word)]
        assert (await collect(one, job(most=90, ignore_eos=True)))[2] == 90
        assert (await collect(one, job(seed=1)))[0] != whole[0]

    asyncio.run(run())


def test_queueing_by_sequences_and_by_blocks() -> None:
    async def run(limit: int, blocks: int) -> tuple[int, int]:
        slow = settings.Settings(ttft=10.0)
        run_, _ = engine(limit, blocks, slow)
        tasks = [asyncio.create_task(collect(run_, job(f"prompt {number} " * 8, 4))) for number in range(5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        seen = run_.running, run_.waiting
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (run_.running, run_.waiting) == (0, 0)
        return seen

    assert asyncio.run(run(2, 100)) == (2, 3)
    assert asyncio.run(run(64, 5)) == (2, 3)


def test_metrics_move_and_come_back() -> None:
    async def run() -> str:
        run_, metrics = engine(4)
        await collect(run_, job("a b c d e f g h i j k l m n o p q r", 20, ignore_eos=True))
        return metrics.exposition().decode()

    text = asyncio.run(run())
    assert 'vllm:kv_cache_usage_perc{model_name="m"} 0.0' in text
    assert 'vllm:generation_tokens_total{model_name="m"} 20.0' in text
    assert 'vllm:request_success_total{finish_reason="length",model_name="m"} 1.0' in text


def parse(body: Any, *, chat: bool = False, family: str = "gemma") -> requests.Parsed:
    return requests.parse(body, chat=chat, names=("m",), family=family, max_model_len=100)


def test_completion_defaults_and_forms() -> None:
    parsed = parse({"prompt": "x"})
    assert parsed.jobs[0].max_tokens == 16
    assert len(parse({"prompt": ["x", "y"], "n": 3}).jobs) == 6
    assert len(parse({"prompt": [1, 2, 3]}).jobs[0].prompt) == 3
    chat = parse({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}, chat=True)
    assert chat.jobs[0].max_tokens == 100 - len(chat.jobs[0].prompt)


@pytest.mark.parametrize(
    ("body", "chat", "status"),
    [
        ({"prompt": "x", "model": "other"}, False, 404),
        ({"prompt": "x" * 1000}, False, 400),
        ({"prompt": "x", "max_tokens": 100}, False, 400),
        ({"prompt": "x", "max_tokens": "many"}, False, 400),
        ({"prompt": "x", "n": 0}, False, 400),
        ({"prompt": {"a": 1}}, False, 400),
        ({"prompt": "x", "stream_options": {"include_usage": True}}, False, 400),
        ([], False, 400),
        ({"messages": []}, True, 400),
        ({"messages": ["hi"]}, True, 400),
        ({"messages": [{"role": "assistant", "content": "x"}]}, True, 400),
    ],
)
def test_refused_requests(body: Any, chat: bool, status: int) -> None:
    with pytest.raises(Refusal) as refused:
        parse(body, chat=chat)
    assert refused.value.status == status


def test_other_models_take_a_system_message() -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert parse({"messages": messages}, chat=True, family="qwen3").jobs


def shape(name: str) -> Shape:
    model = MODELS[name]
    return Shape(model.parameters * 2, model.layers, model.kv_heads, model.head_dim, model.vocabulary)


@pytest.mark.parametrize(
    ("name", "utilization", "length", "sequences", "starts"),
    [
        (GEMMA, 0.90, 4096, 256, False),  # the runbook's failure
        (GEMMA, 0.85, 2048, 256, True),  # the runbook's remedy
        (GEMMA, 0.85, 2048, 64, True),
        (GEMMA, 0.85, 4096, 256, True),
        (GEMMA, 0.90, 2048, 256, False),
        (GEMMA, 0.90, 4096, 128, True),
        (GEMMA, 0.90, 8192, 64, True),
        ("microsoft/Phi-3-mini-4k-instruct", 0.85, 2048, 256, True),
        ("Qwen/Qwen2.5-3B-Instruct", 0.75, 2048, 256, True),
        ("google/gemma-7b-it", 0.90, 2048, 64, False),
        ("meta-llama/Llama-3.1-8B-Instruct", 0.90, 2048, 64, False),
    ],
)
def test_fit_on_a_t4(name: str, utilization: float, length: int, sequences: int, starts: bool) -> None:
    gpu = GPUS["nvidia-tesla-t4"]
    verdict = fit(shape(name), gpu, utilization=utilization, max_num_seqs=sequences, max_model_len=length)
    assert (verdict.error is None) is starts


def test_the_runbooks_own_words() -> None:
    gpu = GPUS["nvidia-tesla-t4"]
    error = fit(shape(GEMMA), gpu, utilization=0.9, max_num_seqs=256, max_model_len=4096).error
    assert error is not None
    assert "Tried to allocate 500.00 MiB. GPU 0 has a total capacity of 14.58 GiB of which 471.56 MiB is free." in error
    too_long = fit(shape("microsoft/Phi-3-mini-4k-instruct"), gpu, utilization=0.6, max_num_seqs=8, max_model_len=4096)
    assert too_long.error is not None
    assert "KV cache is needed, which is larger than the available KV cache memory" in too_long.error
    tiny = fit(shape(GEMMA), gpu, utilization=0.3, max_num_seqs=8, max_model_len=64)
    assert tiny.error is not None
    assert "No available memory for the cache blocks" in tiny.error


def test_prompts_queue_for_the_accelerator_and_tokens_wait_for_a_piece() -> None:
    chip = Accelerator(0.001, 500)
    assert chip.prefill(1000, 10.0) == 11.0
    assert chip.prefill(1000, 10.5) == 12.0  # after the first one
    assert chip.prefill(0, 10.5) == 10.5  # all of it was cached
    # a running answer: at most a piece of 500 tokens between two tokens, nothing once the prompts are through
    assert chip.next_token(10.5, 0.002) == pytest.approx(11.002)
    assert chip.next_token(11.9, 0.002) == pytest.approx(12.002)
    assert chip.next_token(12.5, 0.002) == pytest.approx(12.502)


def test_transfer_parameters() -> None:
    assert transfer.read(None) is None
    assert transfer.read({"do_remote_decode": False}) is None
    keep = transfer.read({"do_remote_decode": True, "do_remote_prefill": False})
    assert keep == transfer.Transfer(keep=True)
    told = {
        "do_remote_prefill": True, "remote_block_ids": [7, 8], "remote_engine_id": "e", "remote_host": "h",
        "remote_port": 5600,
    }  # fmt: skip
    assert transfer.read(told) == transfer.Transfer(source=transfer.Source("e", (7, 8), "h", 5600))
    assert transfer.read({**told, "remote_block_ids": None}) is None


def test_how_blocks_travel() -> None:
    def cost(**environment: str) -> float:
        return settings.read(environment).transfer_per_token

    assert cost(UCX_TLS="cuda_ipc,cuda_copy,tcp") == 10 * cost()
    assert cost(UCX_TLS="rc,tcp") == cost(UCX_TLS="") == cost()
    assert cost(UCX_TLS="tcp", LLMD_SANDBOX_KV_TRANSFER_SECONDS_PER_TOKEN="0.5") == 0.5


def test_group_and_adapter_arguments() -> None:
    words = ["m", "-dp", "4", "--data-parallel-size-local", "2", "--data-parallel-start-rank", "2", "-dpa", "leader"]
    parsed = arguments.parse([*words, "--enable-lora", "--lora-modules", "a=/x", '{"name": "b", "path": "/y"}'])
    assert parsed.group == arguments.Group(4, 2, 2, "leader", 29550)
    assert parsed.adapters == (("a", "/x"), ("b", "/y"))
    assert arguments.parse(["m", "-dp", "2"]).group is None


@pytest.mark.parametrize("word", ["a", "=x", '{"name": "a"}', "a=b,c=d"])
def test_wrong_adapters_exit_2(word: str) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments.parse(["m", "--lora-modules", word])
    assert ended.value.code == 2


def test_an_adapters_blocks_are_its_own() -> None:
    assert block_hashes(tokens(16), 16) != block_hashes(tokens(16), 16, "poet")


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_prompt_stalls_the_answers_beside_it_unless_it_is_computed_elsewhere(elsewhere: bool) -> None:
    """The model behind a comparison of mixed with disaggregated servers, on the times that the engine itself keeps."""

    class Fetches(transfer.Connector):
        async def fetch(self, source: transfer.Source, tokens: int) -> float | None:
            return 0.0

    async def longest_gap() -> float:
        metrics = Metrics("m", block_size=16, blocks=1000)
        times = settings.Settings(ttft=0.0, prefill_per_token=0.001, inter_token=0.001)
        side = Fetches("e", ("h", 1), transfer.Costs(0, 0), 1.0)
        running = Engine(BlockPool(1000, 16), metrics, times, Limits(8), side)
        source = transfer.Transfer(source=transfer.Source("p", (1,), "h", 1)) if elsewhere else None
        prompt = Job(tokens(300, "other"), 1, transfer=source)

        async def beside() -> None:
            async for _ in running.generate(prompt, each=False):
                pass

        task: asyncio.Task[None] | None = None
        async for _, answer in running.generate(Job(["x"], 40, ignore_eos=True), each=True):
            if answer.tokens >= 5 and task is None:
                task = asyncio.create_task(beside())
                await asyncio.sleep(0)
                await asyncio.sleep(0)
        assert task is not None
        await task
        return max(after - before for before, after in pairwise(answer.times))

    gap = asyncio.run(longest_gap())
    assert gap == pytest.approx(0.001, abs=1e-6) if elsewhere else gap > 0.2
