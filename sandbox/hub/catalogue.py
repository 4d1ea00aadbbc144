"""The models the hub stand-in knows: their public facts (from each model's config.json and safetensors metadata)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """One model repository. Sizes are counts, not bytes; ``dtype`` is the type the weights are stored in."""

    name: str
    gated: bool
    architecture: str
    model_type: str
    parameters: int
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    positions: int
    dtype: str = "bfloat16"
    revision: str = "0" * 40

    def config(self) -> dict[str, object]:
        """The part of config.json that a model server needs to size itself."""
        return {
            "architectures": [self.architecture],
            "model_type": self.model_type,
            "num_hidden_layers": self.layers,
            "hidden_size": self.hidden,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.positions,
            "torch_dtype": self.dtype,
        }

    def index(self) -> dict[str, object]:
        """``model.safetensors.index.json``: the total weight size in bytes (two bytes a parameter)."""
        return {"metadata": {"total_size": self.parameters * 2}, "weight_map": {}}

    def description(self) -> dict[str, object]:
        """What ``/api/models/NAME`` says (readable without a token, also for a gated model)."""
        return {
            "_id": self.revision[:24],
            "id": self.name,
            "modelId": self.name,
            "author": self.name.split("/", 1)[0],
            "sha": self.revision,
            "private": False,
            "gated": "manual" if self.gated else False,
            "disabled": False,
            "pipeline_tag": "text-generation",
            "library_name": "transformers",
            "tags": ["transformers", "safetensors", self.model_type, "text-generation"],
            "config": {"architectures": [self.architecture], "model_type": self.model_type},
            "siblings": [{"rfilename": name} for name in FILES],
            "safetensors": {"parameters": {"BF16": self.parameters}, "total": self.parameters},
        }


FILES = ("config.json", "generation_config.json", "model.safetensors.index.json", "tokenizer_config.json")

MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        Model("google/gemma-2b-it", True, "GemmaForCausalLM", "gemma", 2506172416, 18, 2048, 8, 1, 256, 256000, 8192),
        Model("google/gemma-7b-it", True, "GemmaForCausalLM", "gemma", 8537680896, 28, 3072, 16, 16, 256, 256000, 8192),
        Model(
            "google/gemma-2-2b-it", True, "Gemma2ForCausalLM", "gemma2", 2614341888, 26, 2304, 8, 4, 256, 256000, 8192
        ),
        Model("Qwen/Qwen3-0.6B", False, "Qwen3ForCausalLM", "qwen3", 751632384, 28, 1024, 16, 8, 128, 151936, 40960),
        Model(
            "Qwen/Qwen2.5-3B-Instruct",
            False,
            "Qwen2ForCausalLM",
            "qwen2",
            3085938688,
            36,
            2048,
            16,
            2,
            128,
            151936,
            32768,
        ),
        Model(
            "microsoft/Phi-3-mini-4k-instruct",
            False,
            "Phi3ForCausalLM",
            "phi3",
            3821079552,
            32,
            3072,
            32,
            32,
            96,
            32064,
            4096,
        ),
        Model(
            "meta-llama/Llama-3.1-8B-Instruct",
            True,
            "LlamaForCausalLM",
            "llama",
            8030261248,
            32,
            4096,
            32,
            8,
            128,
            128256,
            131072,
        ),
    )
}


@dataclass(frozen=True)
class Account:
    """Who a token belongs to and which gated models that person may read."""

    user: str
    accepted: frozenset[str] | None  # None: all of them


ACCOUNTS: dict[str, Account] = {
    "hf_sandbox": Account("sandbox", None),
    "hf_not_accepted": Account("newcomer", frozenset()),
}
