"""The picker's scorers, prefix index, pickers, configuration and admission: pure logic."""

from __future__ import annotations

import random
from collections import Counter

import pytest

pytest.importorskip("xxhash")
pytest.importorskip("prometheus_client")

from sandbox.images.endpoint_picker import config, flags
from sandbox.images.endpoint_picker.datastore import Datastore, Pool, read_pool, ready
from sandbox.images.endpoint_picker.metrics import Metrics
from sandbox.images.endpoint_picker.plugins.base import Endpoint, Load, ProfileResult, Request, SchedulingResult
from sandbox.images.endpoint_picker.plugins.pickers import MaxScorePicker
from sandbox.images.endpoint_picker.plugins.prefix import PrefixCacheScorer, PrefixIndex, block_hashes
from sandbox.images.endpoint_picker.plugins.scorers import KvCacheUtilizationScorer, QueueScorer
from sandbox.images.endpoint_picker.scheduler import Scheduler, SchedulingError, saturated
from sandbox.images.endpoint_picker.scrape import adapters, value

HEAD = "apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\n"
DEFAULT = (
    HEAD
    + """\
plugins:
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: prefix-cache-scorer
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: queue-scorer, weight: 2}
  - {pluginRef: kv-cache-utilization-scorer, weight: 2}
  - {pluginRef: prefix-cache-scorer, weight: 3}
"""
)


def endpoint(name: str, *, waiting: int = 0, kv: float = 0.0, updated: float = 100.0) -> Endpoint:
    return Endpoint("llm-d", name, f"10.0.0.{ord(name[-1]) % 250}", 8000, load=Load(waiting, 0, kv, updated))


def request(prompt: str = "", model: str = "m") -> Request:
    return Request("1", model, prompt)


@pytest.mark.parametrize(
    ("queues", "scores"),
    [([0, 0], [1, 1]), ([7, 7, 7], [1, 1, 1]), ([0, 10], [1, 0]), ([2, 4, 10], [1, 0.75, 0]), ([3], [1])],
)
def test_queue_scores_are_normalised(queues: list[int], scores: list[float]) -> None:
    endpoints = [endpoint(f"p{number}", waiting=queue) for number, queue in enumerate(queues)]
    assert list(QueueScorer("queue-scorer", "q").score(request(), endpoints).values()) == scores


def test_kv_score_is_the_free_share() -> None:
    endpoints = [endpoint("a", kv=0.25), endpoint("b", kv=1.0)]
    assert list(KvCacheUtilizationScorer("kv", "kv").score(request(), endpoints).values()) == [0.75, 0.0]


def test_block_hashes_chain_and_ignore_the_rest() -> None:
    one = block_hashes("m", "a" * 64 + "b" * 64 + "tail", block=64, most=256)
    assert len(one) == 2
    assert block_hashes("m", "a" * 64, block=64, most=256) == one[:1]
    assert block_hashes("other", "a" * 64, block=64, most=256) != one[:1]
    assert block_hashes("m", "c" * 64 + "b" * 64, block=64, most=256)[1] != one[1]
    assert block_hashes("m", "a" * 63, block=64, most=256) == []
    assert len(block_hashes("m", "a" * 6400, block=64, most=10)) == 10


def test_prefix_index_counts_leading_blocks_only() -> None:
    index = PrefixIndex(capacity=10)
    index.add([1, 2, 3], "a")
    index.add([1, 9, 3], "b")
    assert index.longest([1, 2, 3, 4]) == {"a": 3, "b": 1}
    assert index.longest([5, 1]) == {}


def test_prefix_index_forgets_the_oldest_and_the_gone() -> None:
    index = PrefixIndex(capacity=2)
    index.add([1, 2, 3], "a")
    assert index.longest([1]) == {}
    assert index.longest([2, 3]) == {"a": 2}
    index.add([2], "b")
    index.keep({"b"})
    assert index.longest([2, 3]) == {"b": 1}
    assert len(index) == 1


def test_prefix_scores_follow_the_decision() -> None:
    scorer = PrefixCacheScorer("prefix-cache-scorer")
    a, b = endpoint("a"), endpoint("b")
    first = request("x" * 128)
    assert set(scorer.score(first, [a, b]).values()) == {0.0}
    scorer.pre_request(first, SchedulingResult({"default": ProfileResult([b])}, "default"))
    assert scorer.score(request("x" * 256), [a, b]) == {a.identity: 0.0, b.identity: 0.5}
    assert scorer.score(request("short"), [a, b]) == {a.identity: 0.0, b.identity: 0.0}
    assert scorer.matched == [(0, 128)]


def test_picker_draws_lots_among_equals() -> None:
    picker = MaxScorePicker("max-score-picker", lot=random.Random(1))
    a, b, c = endpoint("a"), endpoint("b"), endpoint("c")
    picked = Counter(picker.pick([(a, 1.0), (b, 1.0), (c, 0.5)])[0].name for _ in range(200))
    assert set(picked) == {"a", "b"}
    assert min(picked.values()) > 60


def test_default_configuration_is_shown_as_upstream_shows_it() -> None:
    loaded = config.load(DEFAULT)
    assert str(loaded) == (
        "{ProfileHandler: single-profile-handler/single-profile-handler, Profiles: map[default:{Filters: [], Scorers: "
        "[queue-scorer/queue-scorer: 2, kv-cache-utilization-scorer/kv-cache-utilization-scorer: 2, "
        "prefix-cache-scorer/prefix-cache-scorer: 3], Picker: max-score-picker/max-score-picker}]}"
    )
    assert "SaturationDetector: {QueueDepthThreshold: 5, KVCacheUtilThreshold: 0.8" in loaded.completed


def test_parameters_names_and_thresholds() -> None:
    text = (
        HEAD
        + """\
plugins:
- {type: prefix-cache-scorer, name: p, parameters: {hashBlockSize: 8, lruCapacityPerServer: 5}}
saturationDetector: {queueDepthThreshold: 3, kvCacheUtilThreshold: 0.5, metricsStalenessThreshold: 2s}
"""
    )
    loaded = config.load(text)
    scorer = loaded.plugins["p"]
    assert isinstance(scorer, PrefixCacheScorer)
    assert scorer.block == 8
    assert loaded.saturation == config.Saturation(3, 0.5, 2.0)
    assert "Scorers: [p/prefix-cache-scorer: 1]" in str(loaded)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: Pod", "want kind"),
        ("{", "is invalid"),
        (HEAD + "plugins: [{type: no-such-scorer}]", "plugin type 'no-such-scorer' is not registered"),
        (HEAD + "plugins: [{name: x}]", "missing a type"),
        (HEAD + "pluginz: []", 'unknown field "pluginz"'),
        (HEAD + "schedulingProfiles: [{name: d, plugins: [{pluginRef: gone}]}]", "'gone' referenced by profile 'd'"),
        (HEAD + "schedulingProfiles: [{name: a}, {name: b}]", "no profile handler was specified"),
    ],
)
def test_bad_configurations(text: str, words: str) -> None:
    with pytest.raises(config.ConfigError, match=words.replace("{", r"\{")):
        config.load(text)


def scheduler() -> Scheduler:
    return Scheduler(config.load(DEFAULT), Metrics("pool", list))


def test_weights_decide() -> None:
    """The prefix (3) beats the queue (2), and loses to queue and KV cache (2 + 2) together."""
    busy, idle = endpoint("a", waiting=4), endpoint("b")
    run = scheduler()
    run.schedule(request("x" * 640), [busy])
    assert run.schedule(request("x" * 640), [busy, idle])[0].target is busy
    full = Endpoint(busy.namespace, busy.name, busy.address, busy.port, load=Load(4, 0, 0.9, 1))
    assert run.schedule(request("y" * 640), [full, idle])[0].target is idle
    run.schedule(request("z" * 640), [full])
    assert run.schedule(request("z" * 640), [full, idle])[0].target is idle


def test_no_endpoints() -> None:
    with pytest.raises(SchedulingError):
        scheduler().schedule(request("x"), [])


@pytest.mark.parametrize(
    ("endpoints", "full"),
    [
        ([endpoint("a")], False),
        ([endpoint("a", waiting=6)], True),
        ([endpoint("a", waiting=5, kv=0.8)], False),
        ([endpoint("a", kv=0.81), endpoint("b", waiting=9)], True),
        ([endpoint("a", kv=0.9), endpoint("b")], False),
        ([endpoint("a", updated=90.0)], True),
        ([endpoint("a", updated=0.0)], True),
        ([], True),
    ],
)
def test_saturation(endpoints: list[Endpoint], full: bool) -> None:
    assert saturated(endpoints, config.Saturation(), now=100.1, interval=0.05) is full


def test_only_ready_pods_of_the_pool_count() -> None:
    def pod(*, ready_: bool = True, label: str = "yes", leaving: bool = False) -> dict[str, object]:
        metadata = {"namespace": "n", "labels": {"app": label}}
        if leaving:
            metadata["deletionTimestamp"] = "now"
        return {
            "metadata": metadata,
            "status": {"podIP": "10.1.1.1", "conditions": [{"type": "Ready", "status": str(ready_)}]},
        }

    store = Datastore()
    pods = {"a": pod(), "b": pod(ready_=False), "c": pod(label="no"), "d": pod(leaving=True)}
    store.set_pods(pods)
    assert store.endpoints() == []
    assert store.anyone() is None
    store.set_pool(Pool({"app": "yes"}, (8000, 8001)))
    assert [found.identity for found in store.endpoints()] == ["n/a-rank-0", "n/a-rank-1"]
    before = store.endpoints()[0]
    store.set_pod("b", pod())
    assert store.endpoints()[0] is before
    store.set_pod("a", None)
    assert {found.name for found in store.endpoints()} == {"b"}
    assert ready(pods["a"])


def test_pool_of_both_versions() -> None:
    new = {"spec": {"selector": {"matchLabels": {"a": "b"}}, "targetPorts": [{"number": 1}, {"number": 2}]}}
    old = {"spec": {"selector": {"a": "b"}, "targetPortNumber": 1}}
    assert read_pool(new) == Pool({"a": "b"}, (1, 2))
    assert read_pool(old) == Pool({"a": "b"}, (1,))


def test_exposition_values() -> None:
    text = b'\n# TYPE x gauge\nx{model_name="m"} 0.25\nxy 7\ny 3'
    assert (value(text, "x"), value(text, "xy"), value(text, "y"), value(text, "z")) == (0.25, 7.0, 3.0, None)


def test_flags() -> None:
    switches = ["--tracing=false", "--ha-enable-leader-election"]
    parsed = flags.parse(["--pool-name", "p", *switches, "--v", "1", "--refresh-metrics-interval=1m30s"])
    assert (parsed.text("pool-name"), parsed.switch("tracing"), parsed.number("v")) == ("p", False, 1)
    assert parsed.seconds("refresh-metrics-interval") == 90
    assert parsed.switch("ha-enable-leader-election")
    assert parsed.shown()["metrics-staleness-threshold"] == 2_000_000_000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bogus", "1"], "unknown flag: --bogus"),
        (["--v"], "flag needs an argument: --v"),
        (["--grpc-port", "x"], 'invalid argument "x" for "--grpc-port"'),
        (["--tracing=maybe"], "strconv.ParseBool"),
        (["--refresh-metrics-interval", "fast"], "strconv.ParseDuration"),
    ],
)
def test_wrong_flags(words: list[str], message: str) -> None:
    with pytest.raises(flags.FlagError, match=message):
        flags.parse(words)


PD = (
    HEAD
    + """\
plugins:
- type: prefill-filter
- type: decode-filter
- type: prefix-cache-scorer
- type: max-score-picker
- type: prefill-header-handler
- type: pd-profile-handler
  parameters: {threshold: 100}
schedulingProfiles:
- name: prefill
  plugins: [{pluginRef: prefill-filter}, {pluginRef: prefix-cache-scorer, weight: 1}]
- name: decode
  plugins: [{pluginRef: decode-filter}, {pluginRef: prefix-cache-scorer, weight: 1}]
"""
)


def pods(*roles: str) -> list[Endpoint]:
    named = [{"llm-d.ai/role": role} if role else {} for role in roles]
    return [Endpoint("llm-d", f"pod-{n}", f"10.0.0.{n}", 8000, labels=labels) for n, labels in enumerate(named)]


def scheduler_of(text: str) -> Scheduler:
    return Scheduler(config.load(text), Metrics("p", list))


def test_prefill_and_decode_are_scheduled_apart() -> None:
    schedule, endpoints = scheduler_of(PD), pods("prefill", "decode")
    result, extra = schedule.schedule(request("x" * 400), endpoints)
    assert (result.target.name, extra) == ("pod-1", {"x-prefiller-host-port": "10.0.0.0:8000"})
    # both hold the prompt by now: the rest of a longer one is too short to be worth a transfer
    result, extra = schedule.schedule(request("x" * 400 + "y" * 64), endpoints)
    assert (result.target.name, extra) == ("pod-1", {})
    _, extra = schedule.schedule(request("z" * 99), endpoints)
    assert extra == {}


def test_roles() -> None:
    schedule = scheduler_of(PD)
    for roles in (("decode",), ("both",), ("",)):  # nobody prefills: decode alone; no label: an ordinary server
        result, extra = schedule.schedule(request("x" * 400), pods(*roles))
        assert (result.target.name, extra) == ("pod-0", {})
    with pytest.raises(SchedulingError, match="decode workers"):
        schedule.schedule(request("x"), pods("prefill", "other"))


def test_a_decider_counts_tokens() -> None:
    text = PD.replace("- type: pd-profile-handler\n  parameters: {threshold: 100}", "- type: prefix-based-pd-decider\n"
                      "  parameters: {nonCachedTokens: 50}\n- type: pd-profile-handler\n"
                      "  parameters: {deciderPluginName: prefix-based-pd-decider}")  # fmt: skip
    schedule, endpoints = scheduler_of(text), pods("prefill", "decode")
    assert schedule.schedule(request("x" * 199), endpoints)[1] == {}
    assert schedule.schedule(request("y" * 201), endpoints)[1] != {}
    for wrong in (text.replace("deciderPluginName: prefix", "deciderPluginName: no"), text.replace("50", "-1")):
        with pytest.raises(config.ConfigError):
            config.load(wrong)


def test_labels_in_general() -> None:
    chosen = (
        HEAD
        + """\
plugins:
- type: by-label
  parameters: {label: gpu, validValues: [l4, h100]}
- type: by-label-selector
  parameters: {matchLabels: {zone: a}}
"""
    )
    with pytest.raises(config.ConfigError):
        config.load(chosen.replace("label: gpu, ", ""))
    schedule = scheduler_of(chosen)
    found = [Endpoint("n", name, "10.0.0.1", 1, labels=labels) for name, labels in (
        ("a", {"gpu": "t4", "zone": "a"}), ("b", {"gpu": "l4", "zone": "b"}), ("c", {"gpu": "l4", "zone": "a"}),
    )]  # fmt: skip
    assert schedule.schedule(request("x"), found)[0].target.name == "c"


def test_adapter_affinity() -> None:
    from sandbox.images.endpoint_picker.plugins.lora import LoraAffinityScorer

    def runs(name: str, running: str, waiting: str, most: int) -> Endpoint:
        load = Load(0, 0, 0, 1.0, frozenset(running.split()), frozenset(waiting.split()), most)
        return Endpoint("n", name, "10.0.0.1", 1, load=load)

    servers = [runs("a", "poet", "", 1), runs("b", "", "", 1), runs("c", "cook", "poet", 2), runs("d", "cook", "", 1)]
    scores = LoraAffinityScorer("lora-affinity-scorer", "l").score(request("x", "poet"), servers)
    assert list(scores.values()) == [1.0, 0.8, 0.6, 0.0]


def test_the_newest_word_on_adapters_counts() -> None:
    name = "vllm:lora_requests_info"
    text = (
        f'x 1\n{name}{{max_lora="2",running_lora_adapters="a, b",waiting_lora_adapters=""}} 1.5e+09\n'
        f'{name}{{max_lora="2",running_lora_adapters="c",waiting_lora_adapters="d"}} 1.6e+09\ny 2\n'
    )
    assert adapters(text.encode(), name) == (frozenset("c"), frozenset("d"), 2)
    assert adapters(b"x 1\n", name) == (frozenset(), frozenset(), 0)
