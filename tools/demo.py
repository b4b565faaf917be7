"""The whole way on a real model: export, data, deploy, train, pull, analyze, evaluate, generate.

Everything is written under demo/. Each step is the command a user would type, printed before it
runs; only the sample at the end is made here, by transformers and peft.
"""

import argparse
import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.fetch_demo_assets import CHATS, MODEL  # noqa: E402

DEMO = Path("demo")
RUN = "run1"
TOOLKIT = Path(sys.executable).parent / "toolkit"


def main() -> int:
    """Run the demo; return the exit code."""
    options = _options()
    os.chdir(ROOT)
    os.environ["TOOLKIT_HOME"] = str(DEMO.absolute() / "device")
    started = time.monotonic()
    try:
        _run([sys.executable, "tools/fetch_demo_assets.py"], shown="python")
        _prepare(options.chats)
        _train(options)
        results = _evaluate(options.evaluate)
    except KeyboardInterrupt:
        return 130
    except subprocess.CalledProcessError as error:
        print(f"error: the command above ended with code {error.returncode}", file=sys.stderr)
        return 1
    samples = {} if options.no_sample else _samples()
    _conclude(results, samples, time.monotonic() - started)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=50, help="training steps (%(default)s)")
    parser.add_argument("--seq-len", type=int, default=256, help="tokens (%(default)s)")
    parser.add_argument("--grad-accum", type=int, default=4, help="sequences a step (%(default)s)")
    parser.add_argument("--lr", type=float, default=5e-4, help="learning rate (%(default)s)")
    parser.add_argument("--chats", type=int, default=600, help="chats used (%(default)s)")
    parser.add_argument(
        "--evaluate", type=int, default=40, help="held-out sequences measured (%(default)s)"
    )
    parser.add_argument("--no-sample", action="store_true", help="generate no sample")
    return parser.parse_args()


def _prepare(count: int) -> None:
    """Start from a clean run and take the first chats."""
    shutil.rmtree(DEMO / "device" / "runs" / RUN, ignore_errors=True)
    DEMO.mkdir(exist_ok=True)
    with CHATS.open() as source, (DEMO / "chats.jsonl").open("w") as target:
        target.writelines(line for _, line in zip(range(count), source, strict=False))


def _train(options: argparse.Namespace) -> None:
    bundle, data = DEMO / "bundle", DEMO / "data"
    length = ["--seq-len", options.seq_len]
    _toolkit("export", MODEL.relative_to(ROOT), "-o", bundle, *length, "--rank", 8, "--alpha", 16)
    _toolkit("data", DEMO / "chats.jsonl", "--tokenizer", bundle, *length, "-o", data)
    _toolkit("deploy", bundle, "--data", data, "--device", "local")
    _toolkit(
        *("train", "--device", "local", "--out", RUN, "--steps", options.steps),
        *("--optimizer", "adamw", "--lr", options.lr, "--schedule", "cosine"),
        *("--warmup-steps", min(5, options.steps // 5), "--max-grad-norm", 1),
        *("--grad-accum", options.grad_accum),
    )
    _toolkit("pull", "--device", "local", RUN, "-o", DEMO / "runs" / RUN)
    _toolkit("analyze", DEMO / "runs" / RUN)


def _evaluate(samples: int) -> dict[str, Any]:
    output = _toolkit(
        *("evaluate", DEMO / "bundle", "--adapter", DEMO / "runs" / RUN),
        *("--data", DEMO / "data", "--max-samples", samples, "--json"),
        capture=True,
    )
    return json.loads(output)


def _toolkit(*arguments: Any, capture: bool = False) -> str:
    return _run([str(TOOLKIT), *map(str, arguments)], shown="toolkit", capture=capture)


def _run(command: list[str], *, shown: str, capture: bool = False) -> str:
    print(f"\n$ {shown} {shlex.join(command[1:])}", flush=True)
    result = subprocess.run(
        command, check=True, text=True, stdout=subprocess.PIPE if capture else None
    )
    return result.stdout or ""


def _samples() -> dict[str, str]:
    """Answer a held-out chat's first message by transformers, with and without the adapter."""
    warnings.simplefilter("ignore", FutureWarning)
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    import torch
    from peft import PeftModel

    from toolkit.bundle.bundle import Bundle

    bundle = Bundle.open(DEMO / "bundle")
    tokenizer = bundle.tokenizer()
    model = PeftModel.from_pretrained(bundle.reference_model(), str(DEMO / "runs" / RUN)).eval()
    prompt = "Hi! How was your weekend? Did you do anything fun?"
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt"
    )

    def answer() -> str:
        with torch.no_grad():
            tokens = model.generate(**inputs, max_new_tokens=48, do_sample=False)
        reply = tokens[0, inputs["input_ids"].shape[1] :]
        return tokenizer.decode(reply, skip_special_tokens=True).strip()

    with model.disable_adapter():
        before = answer()
    return {"user": prompt, "before": before, "after": answer()}


def _conclude(results: dict[str, Any], samples: dict[str, str], seconds: float) -> None:
    before, after = results["without_adapter"], results["with_adapter"]
    if samples:
        print(f"\nuser:             {samples['user']}")
        print(f"without adapter:  {samples['before']!r}")
        print(f"with adapter:     {samples['after']!r}")
    report = DEMO / "runs" / RUN / "report.html"
    end = json.loads((DEMO / "runs" / RUN / "trace.jsonl").read_text().splitlines()[-1])
    if end.get("status") != "completed":
        print(f"\nnote: the training was stopped after {end.get('steps')} steps")
    print(f"\nreport: {report}")
    print(f"adapter: {DEMO / 'runs' / RUN} (loads in peft)")
    print(f"\n{'held-out chats':18}{'before':>10}{'after':>10}")
    for name in ("loss", "perplexity"):
        print(f"{name:18}{before[name]:10.3f}{after[name]:10.3f}")
    print(f"\n{before['tokens']} tokens in {before['samples']} sequences; {seconds:.0f} s in all")


if __name__ == "__main__":
    sys.exit(main())
