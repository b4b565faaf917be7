"""Tiny models on disk: Hugging Face directories and GGUF files."""

import json
import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import quants
from transformers import (
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tests.support.tiny import tiny_config
from toolkit.families import FAMILIES, head_dimension

PAIRS_ROTATED = ("llama", "smollm3", "granite")
"""Families for which llama.cpp's converter permutes the rows of q and k."""
LLAMA_3_2 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
"""The rotary scaling of Llama 3.2, which GGUF files have as factors."""


def tiny_model(
    family: str, *, tied: bool = True, layers: int = 2, config: PretrainedConfig | None = None
) -> PreTrainedModel:
    """Return a random model whose norms and biases are not the usual ones and zeros."""
    torch.manual_seed(11)
    config = config or tiny_config(family, tied=tied, layers=layers)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("norm.weight", "bias")):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def plain_model(family: str, **options) -> PreTrainedModel:
    """Return a tiny model without rotary scaling."""
    config = tiny_config(family, **options)
    config.rope_parameters = {"rope_type": "default", "rope_theta": 10000.0}
    return tiny_model(family, config=config)


def stored_config(family: str, **options) -> PretrainedConfig:
    """Return a tiny configuration that a GGUF file can hold."""
    config = tiny_config(family, **options)
    if family == "llama":
        config.rope_parameters = LLAMA_3_2
    if family == "smollm3":  # what llama.cpp takes for granted
        config.no_rope_layers = [int((i + 1) % 4 != 0) for i in range(config.num_hidden_layers)]
    if family == "gemma3_text":
        config.query_pre_attn_scalar = config.head_dim
    return config


def save_model(folder: Path, family: str, shard: str = "5GB", **options) -> PreTrainedModel:
    """Save a tiny model as `transformers` does, in shards of at most `shard`."""
    model = tiny_model(family, **options)
    model.save_pretrained(folder, max_shard_size=shard)
    return model


def write_gguf(
    path: Path,
    model: PreTrainedModel,
    linear: str = "Q4_1",
    embedding: str = "Q8_0",
    kinds: dict[str, str] | None = None,
    rope_freqs: np.ndarray | None = None,
    tokenizer: PreTrainedTokenizerFast | None = None,
    metadata: dict[str, Any] | None = None,
    vocabulary: bool = True,
    splits: str | None = None,
) -> None:
    """Write a model as llama.cpp's converter does.

    Rows of q and k are permuted, one is added to norms, and rotary scaling becomes keys and tensors
    where the converter does that.

    Args:
        path: The .gguf file.
        model: Of a supported family.
        linear: GGUF type of the linear layers.
        embedding: GGUF type of embedding and head.
        kinds: GGUF type of single tensors, by GGUF name.
        rope_freqs: Factors of rotary scaling, instead of those of the model.
        tokenizer: A byte-level one; else the file names tokens that no text is made of.
        metadata: Keys of the architecture, without its name, to add; None leaves one out.
        vocabulary: Whether the file names tokens at all; llama.cpp reads no made-up ones.
        splits: How the tokenizer splits text, as llama.cpp names it.
    """
    config = model.config
    family = FAMILIES[config.model_type]
    writer = gguf.GGUFWriter(path, family.gguf_architecture)
    _add_metadata(writer, config)
    _add_rope(writer, config, rope_freqs)
    writer.add_tokenizer_model("gpt2" if vocabulary else "no_vocab")
    if not vocabulary:
        pass
    elif tokenizer is None:
        writer.add_token_list([f"t{i}" for i in range(config.vocab_size)])
    else:
        _add_tokenizer(writer, tokenizer)
    if splits is not None:
        writer.add_tokenizer_pre(splits)
    for key, value in (metadata or {}).items():
        name = f"{family.gguf_architecture}.{key}"
        writer.kv_data[0].pop(name, None)
        if value is not None:
            writer.add_key_value(name, value, gguf.GGUFValueType.get_type(value))
    for name, value in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stored = stored_name(name, config.model_type)
        kind = "F32"
        if value.ndim == 2:
            kind = embedding if stored in ("token_embd.weight", "output.weight") else linear
        kind = gguf.GGMLQuantizationType[(kinds or {}).get(stored, kind)]
        rows = _rows(stored, value.float().numpy(), config)
        if name.endswith("norm.weight"):
            rows = rows + np.float32(family.norm_offset)
        made = k_blocks if kind.name.endswith("_K") else quants.quantize
        writer.add_tensor(stored, made(rows, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_metadata(writer: gguf.GGUFWriter, config: PretrainedConfig) -> None:
    writer.add_name("tiny")
    writer.add_license("mit")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    if head_dimension(config) * config.num_attention_heads != config.hidden_size:
        writer.add_key_length(head_dimension(config))
        writer.add_value_length(head_dimension(config))
    if config.model_type in ("phi3", "gemma3_text"):
        writer.add_sliding_window(config.sliding_window or 0)
    if config.model_type == "gemma3_text":
        writer.add_sliding_window_pattern([k == "sliding_attention" for k in config.layer_types])
    if config.model_type == "granite":
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_logit_scale(config.logits_scaling)


def _add_rope(
    writer: gguf.GGUFWriter, config: PretrainedConfig, rope_freqs: np.ndarray | None
) -> None:
    rope = config.rope_parameters
    if "full_attention" in rope:
        writer.add_rope_freq_base_swa(rope["sliding_attention"]["rope_theta"])
        rope = rope["full_attention"]
    writer.add_rope_freq_base(rope["rope_theta"])
    turned = int(rope.get("partial_rotary_factor", 1.0) * head_dimension(config))
    if config.model_type == "phi3":
        writer.add_rope_dimension_count(turned)
        writer.add_rope_scaling_orig_ctx_len(config.original_max_position_embeddings)
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "longrope":
        original = rope["original_max_position_embeddings"]
        growth = math.log(config.max_position_embeddings / original) / math.log(original)
        writer.add_rope_scaling_attn_factors(rope.get("attention_factor", math.sqrt(1 + growth)))
        for which in ("short", "long"):
            factors = np.array(rope[f"{which}_factor"], dtype=np.float32)
            writer.add_tensor(f"rope_factors_{which}.weight", factors)
    if rope["rope_type"] == "llama3" and rope_freqs is None:
        rope_freqs = llama3_factors(rope, head_dimension(config))
    if rope_freqs is not None:
        writer.add_tensor("rope_freqs.weight", rope_freqs.astype(np.float32))


def llama3_factors(rope: dict[str, Any], head_dim: int) -> np.ndarray:
    """What the frequencies of Llama 3 are divided by, float64 [head_dim / 2], by its description.

    Wavelengths that turn four times in the original length stay, those that turn less than once are
    divided by the factor, between them the inverse goes from one to the other in proportion.
    """
    original, low, high = (
        rope[name]
        for name in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
    )
    frequencies = rope["rope_theta"] ** (-np.arange(0, head_dim, 2) / head_dim)
    turns = original * frequencies / (2 * np.pi)
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return 1 / ((1 - kept) / rope["factor"] + kept)


def _rows(stored: str, value: np.ndarray, config: PretrainedConfig) -> np.ndarray:
    """Return a tensor's rows in the order of the file."""
    if config.model_type not in PAIRS_ROTATED:
        return value
    heads = {".attn_q.": config.num_attention_heads, ".attn_k.": config.num_key_value_heads}
    return next((permuted(value, n) for part, n in heads.items() if part in stored), value)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerFast) -> None:
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    by_id = {index: token for token, index in tokenizer.get_vocab().items()}
    writer.add_token_list([by_id[i] for i in range(len(by_id))])
    special = set(tokenizer.all_special_tokens)
    kinds = (gguf.TokenType.CONTROL, gguf.TokenType.NORMAL)
    writer.add_token_types([kinds[by_id[i] not in special] for i in range(len(by_id))])
    writer.add_token_merges([" ".join(pair) for pair in content["model"]["merges"]])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_chat_template(tokenizer.chat_template)


def k_blocks(rows: np.ndarray, kind: gguf.GGMLQuantizationType) -> np.ndarray:
    """Return blocks of a type that the gguf package cannot write, uint8 [n, bytes].

    They are random, of values as small as weights are: only their shape is that of `rows`.
    """
    weights, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rows.size // weights
    generator = np.random.default_rng(blocks)
    data = generator.integers(0, 256, (blocks, size), dtype=np.uint8)
    # d, and dmin where there is one: d is the last field of Q6_K and Q3_K, else the first is.
    fields = [size - 2] if kind.name in ("Q6_K", "Q3_K") else [0, 2]
    for first in fields:
        halves = generator.uniform(1e-5, 1e-4, (blocks, 1)).astype(np.float16)
        data[:, first : first + 2] = halves.view(np.uint8)
    return data.reshape(len(rows), -1)


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Reorder rows as llama.cpp wants them: rotated pairs side by side."""
    n = weight.shape[0]
    return np.concatenate(
        [
            weight[[h * n // heads + half * n // heads // 2 + j for half in (0, 1)]]
            for h in range(heads)
            for j in range(n // heads // 2)
        ]
    ).reshape(weight.shape)


def stored_name(name: str, family: str = "llama") -> str:
    """Return llama.cpp's name of a parameter."""
    if family in ("olmo2", "gemma3_text"):
        name = name.replace("post_attention_layernorm", "post_attention_norm")
    pairs = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "model.layers.": "blk.",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
        "self_attn.q_norm": "attn_q_norm",
        "self_attn.k_norm": "attn_k_norm",
        "self_attn.qkv_proj": "attn_qkv",
        "mlp.gate_up_proj": "ffn_up",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    for ours, theirs in pairs.items():
        name = name.replace(ours, theirs)
    return name
