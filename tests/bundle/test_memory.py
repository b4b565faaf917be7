"""Peak memory of an export does not grow with the number of layers."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

from toolkit.bundle.layout import parameter_shapes

CHILD = """
import sys
from pathlib import Path
import toolkit.bundle.export as export
from toolkit.bundle.adapter import LoraSettings
from toolkit.programs import Programs
from toolkit.sources import open_source
export.build_programs = lambda *a, **k: Programs(b"x", {})
settings = export.ExportSettings(LoraSettings(1, 1.0, ("q_proj",)), (8,))
export.export_bundle(open_source(sys.argv[1]), Path(sys.argv[2]), settings)
status = Path("/proc/self/status").read_text()
print(status.split("VmHWM:")[1].split()[0])  # ru_maxrss would include the parent's, before exec
"""


def peak_kib(folder: Path, layers: int) -> int:
    config = LlamaConfig(
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=layers,
        num_attention_heads=12,
        num_key_value_heads=4,
        vocab_size=512,
        tie_word_embeddings=True,
    )
    model = folder / f"model{layers}"
    config.save_pretrained(model)
    shapes = parameter_shapes(config)
    tensors = {name: torch.rand(shape).to(torch.bfloat16) for name, shape in shapes.items()}
    save_file(tensors, model / "model.safetensors")
    output = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(model), str(folder / f"out{layers}")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return int(output.stdout.split()[-1])


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_layers(tmp_path):
    few, many = peak_kib(tmp_path, 2), peak_kib(tmp_path, 20)
    weights = 18 * (768 * 768 * 8 // 3 + 3 * 768 * 2048) * 2 // 1024  # of 18 layers, bfloat16, KiB
    assert weights > 200_000
    # Holding or mapping what was read would add all of it. Measured: a sixth of it at most, since
    # threads leave their heaps fragmented up to some bound.
    assert many - few < weights / 3
