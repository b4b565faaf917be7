"""An adapter as llama.cpp reads it: a GGUF file with A and B of every weight.

    general.type = adapter, adapter.type = lora, adapter.lora.alpha
    NAME.lora_a [R, K], NAME.lora_b [N, R], float32; NAME is llama.cpp's of the weight

llama.cpp multiplies B A by alpha / R, with one alpha for all. Where an adapter has alphas of its
own for some targets, or divides by the root of R, B is multiplied by what is missing.
"""

from pathlib import Path

import gguf
import numpy as np
from torch import Tensor
from transformers import PretrainedConfig

from toolkit.bundle.peft_config import peft_base_model
from toolkit.errors import ToolkitError
from toolkit.exchange.delta import LowRankPair, read_delta
from toolkit.exchange.output import check_file_target
from toolkit.families import family_of
from toolkit.files import atomic_path
from toolkit.sources.gguf_names import row_order, stored_names
from toolkit.sources.hub import is_hub_id


def write_gguf_adapter(adapter: Path, output: Path, config: PretrainedConfig, name: str) -> int:
    """Write an adapter for llama.cpp; `output` is complete or as it was.

    Args:
        adapter: Folder of a PEFT adapter.
        output: The .gguf file.
        config: Of its model.
        name: What the model is called.

    Returns:
        How many weights it changes.

    Raises:
        ToolkitError: It is no adapter of this model, or llama.cpp has no name for a weight.
    """
    check_file_target(output, gguf.Keys.Adapter.TYPE)
    delta = read_delta(adapter, config)
    alpha = delta.settings.alpha
    names = stored_names(config)
    architecture = family_of(config).gguf_architecture
    with atomic_path(output) as path:
        writer = gguf.GGUFWriter(path, architecture)
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
        writer.add_name(f"{name} {adapter.absolute().name}")
        _add_base(writer, name, peft_base_model(adapter))
        for pair in delta.pairs.values():
            stored = names[pair.weight]
            if not stored:
                raise ToolkitError(f"llama.cpp has no name for {pair.weight}", "Merge it instead")
            writer.add_tensor(f"{stored}.lora_a", _array(pair.a))
            writer.add_tensor(f"{stored}.lora_b", _array(_stored_b(pair, config, alpha)))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return len(delta.pairs)


def _stored_b(pair: LowRankPair, config: PretrainedConfig, alpha: float) -> Tensor:
    """Return B with rows in the file's order, multiplied by what alpha / R lacks."""
    b = pair.b
    missing = pair.scaling * b.shape[1] / alpha
    if missing != 1:
        b = b * missing
    order = row_order(config, pair.weight, b.shape[0])
    if order is None:
        return b
    stored = b.new_empty(b.shape)
    stored[order] = b
    return stored


def _add_base(writer: gguf.GGUFWriter, name: str, base: str) -> None:
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, name)
    if is_hub_id(base):
        owner, _, _ = base.partition("/")
        writer.add_base_model_organization(0, owner)


def _array(tensor: Tensor) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return np.ascontiguousarray(tensor.numpy(), dtype=np.float32)
