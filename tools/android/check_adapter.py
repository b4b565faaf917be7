"""Loads the adapter that the app wrote in its tests into `peft`, after comparing it.

The app's test leaves what its run wrote in build/android/results/adapter; fixtures.py left the
command line's, of the same seed and settings, in fixtures/reference.

    python tools/android/check_adapter.py
"""

import sys
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from toolkit.bundle.bundle import Bundle  # noqa: E402

FIXTURES = ROOT / "build/android/fixtures"
RESULT = ROOT / "build/android/results/adapter"
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def main() -> int:
    """Print what was compared; 1 if something differs."""
    if not (RESULT / WEIGHTS).is_file():
        sys.exit(f"error: {RESULT} has no {WEIGHTS}: RunControllerTest writes it")
    for name in (WEIGHTS, CONFIG):
        if (RESULT / name).read_bytes() != (FIXTURES / "reference" / name).read_bytes():
            sys.exit(f"error: the app's {name} differs from the command line's")
    from peft import PeftModel, get_peft_model_state_dict

    tokens = torch.arange(24).reshape(1, 24)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        base = Bundle.open(FIXTURES / "bundles/tiny").reference_model(torch.float32).eval()
        before = base(tokens).logits
        model = PeftModel.from_pretrained(base, RESULT).eval()
        change = (model(tokens).logits - before).abs().max().item()
    written, loaded = load_file(RESULT / WEIGHTS), get_peft_model_state_dict(model)
    if set(written) != set(loaded):
        sys.exit(f"error: peft does not take {sorted(set(written) ^ set(loaded))}")
    for name, tensor in written.items():
        if not torch.equal(tensor, loaded[name]):
            sys.exit(f"error: {name} is not what the file says")
    if not change > 1e-3:
        sys.exit(f"error: the adapter changes nothing (largest difference of logits {change})")
    print(f"peft loads the app's {len(written)} tensors, the command line's bit for bit")
    return 0


if __name__ == "__main__":
    sys.exit(main())
