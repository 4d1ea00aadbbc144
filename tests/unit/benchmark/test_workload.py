"""What is asked: lengths, seeds, prefixes, conversations, files."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.benchmark import dataset
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.workload import Length, Question, Spec, Workload
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError


def bodies(spec: Spec, count: int, salt: str = "") -> list[dict[str, object]]:
    workload = Workload(spec, salt)
    return [json.loads(workload.take().outgoing.body) for _unused in range(count)]


def test_a_request_streams_and_asks_for_usage() -> None:
    body = bodies(Spec("m", prompt=Length(5), output=Length(7)), 1)[0]
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert (body["model"], body["max_tokens"], body["ignore_eos"]) == ("m", 7, True)
    assert len(str(body["prompt"]).split()) == 5


def test_chat() -> None:
    workload = Workload(Spec("m", api="chat", extra={"top_p": 0.5}, ignore_eos=False))
    item = workload.take()
    body = json.loads(item.outgoing.body)
    assert item.outgoing.path == "/v1/chat/completions"
    assert body["messages"][0]["role"] == "user"
    assert body["top_p"] == 0.5
    assert "ignore_eos" not in body


def test_equal_seeds_ask_equal_amounts_but_salts_change_the_words() -> None:
    spec = Spec("m", prompt=Length(50, "uniform", 10, 90), output=Length(20, "lognormal", deviation=0.5))
    one, same, other = bodies(spec, 30), bodies(spec, 30), bodies(spec, 30, "b")
    assert one == same
    lengths = [[(len(str(body["prompt"]).split()), body["max_tokens"]) for body in those] for those in (one, other)]
    assert lengths[0] == lengths[1]
    assert not {body["prompt"] for body in one} & {body["prompt"] for body in other}


def test_prompts_share_no_beginning_unless_wanted() -> None:
    starts = [str(body["prompt"]).split()[0] for body in bodies(Spec("m"), 200)]
    assert len(set(starts)) == 200
    shared = bodies(Spec("m", kind="shared_prefix", prefix_words=30, prefix_groups=3, prompt=Length(5)), 12)
    beginnings = [" ".join(str(body["prompt"]).split()[:30]) for body in shared]
    assert len(set(beginnings)) == 3
    assert beginnings[0] == beginnings[3]
    assert len({str(body["prompt"]) for body in shared}) == 12
    assert {len(str(body["prompt"]).split()) for body in shared} == {35}


def test_a_conversation_carries_the_answers_on() -> None:
    workload = Workload(Spec("m", kind="multi_turn", api="chat", turns=3, prompt=Length(4)))
    item = workload.take()
    assert item.outgoing.keep_text
    workload.answered(item, "first answer")
    second = workload.take()
    assert (second.session, second.turn) == (item.session, 1)
    assert [message["role"] for message in second.messages] == ["user", "assistant", "user"]
    assert second.messages[1]["content"] == "first answer"
    workload.answered(second, "x")
    third = workload.take()
    assert not third.outgoing.keep_text
    workload.answered(third, "")
    assert workload.take().session == item.session + 1


@pytest.mark.parametrize(
    ("length", "low", "high", "mean"),
    [
        (Length(100), 100, 100, 100),
        (Length(0, "uniform", 10, 30), 10, 30, 20),
        (Length(100, "normal", 50, 150, 20), 50, 150, 100),
        (Length(100, "lognormal", 1, 10_000, 0.5), 1, 10_000, 113),  # mean = median * exp(sigma ** 2 / 2)
    ],
)
def test_sampled_lengths(length: Length, low: int, high: int, mean: float) -> None:
    source = random.Random(1)
    values = [length.sample(source) for _unused in range(4000)]
    assert low <= min(values) <= max(values) <= high
    assert sum(values) / len(values) == pytest.approx(mean, rel=0.04)


@pytest.mark.parametrize("value", [0, {"kind": "odd"}, {"min": 5, "max": 2}, {"mean": -3}, "many", None, [1]])
def test_no_length(value: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Length.parse(value, "prompt")
    assert caught.value.code == "WORKLOAD_INVALID"


def test_reading_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    lines = [
        '{"prompt": "a b", "max_tokens": 3}',
        '"just text"',
        "",
        '{"messages": [{"role": "user", "content": "hi"}]}',
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert dataset.read(str(path), output=9) == [[Question("a b", 3)], [Question("just text", 9)], [Question("hi", 9)]]


def test_reading_sharegpt(tmp_path: Path) -> None:
    talk = [
        {"from": "human", "value": "q1"},
        {"from": "gpt", "value": "one two three four five six seven eight nine ten"},
        {"from": "human", "value": "q2"},
    ]
    path = tmp_path / "s.json"
    path.write_text(json.dumps([{"conversations": talk}, {"conversations": []}]), encoding="utf-8")
    assert dataset.read(str(path), output=9, turns=1) == [[Question("q1", 13)]]
    assert dataset.read(str(path), output=9, turns=5) == [[Question("q1", 13), Question("q2", 9)]]


@pytest.mark.parametrize("text", ["", "not json", '{"x": 1}', "[1]", "[{]", '{"prompt": ""}', "null"])
def test_a_bad_file_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        dataset.read(str(path), output=9)
    assert caught.value.code == "DATASET_INVALID"
    assert "bad.jsonl" in str(caught.value)


def test_a_data_set_is_shared_out_and_wraps() -> None:
    spec = Spec("m", kind="dataset", dataset=[[Question(str(number), 1)] for number in range(10)])
    sides = [Workload(spec, "", (side, 2)) for side in (0, 1)]
    asked = [[json.loads(side.take().outgoing.body)["prompt"] for _unused in range(5)] for side in sides]
    assert set(asked[0]) | set(asked[1]) == {str(number) for number in range(10)}
    assert sides[0].wraps == 0
    sides[0].take()
    assert sides[0].wraps == 1
