"""PyTorch's side of a comparison: reads numbers of steps, answers with the seconds of each."""

import json
import re
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main(bundle: str, data: str, threads: str, dtype: str) -> None:
    """Build the model, then take as many steps as each line of standard input says."""
    warnings.simplefilter("ignore")
    import torch

    from toolkit.bundle.bundle import Bundle
    from toolkit.data.dataset import read_rows
    from toolkit.oracle.model import build_model

    torch.set_num_threads(int(threads))
    model = build_model(Bundle.open(Path(bundle))).to(getattr(torch, dtype))
    model.set_attn_implementation("sdpa")
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    rows = torch.from_numpy(read_rows(Path(data)).tokens).long()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-3)
    # The peak of building the model is not the peak of training.
    Path("/proc/self/clear_refs").write_text("5")
    sample = 0
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            tokens = rows[sample % len(rows)][None]
            sample += 1
            started = time.perf_counter()
            model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            seconds.append(time.perf_counter() - started)
        print(json.dumps({"seconds": seconds, "peak_kib": _high_water()}), flush=True)


def _high_water() -> int:
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text()).group(1))


if __name__ == "__main__":
    main(*sys.argv[1:])
