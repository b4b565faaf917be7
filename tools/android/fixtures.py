"""Makes what the app's tests compare with: bundles, data, the trainer's own result, tokens.

Writes build/android/fixtures; nothing of it is committed. `make android` calls it before Maven.

    python tools/android/fixtures.py
"""

import json
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import chat_cases  # noqa: E402
import tokenizer_cases  # noqa: E402
from transformers import PreTrainedTokenizerFast  # noqa: E402

from tests.support import tiny  # noqa: E402
from tests.support.bundles import SourceWithTokenizer, export_tiny  # noqa: E402
from tests.support.chatml import SMOLLM2, make_tokenizer  # noqa: E402
from tests.support.family_tokenizers import wrapped  # noqa: E402
from tests.support.trainer import run_trainer  # noqa: E402
from toolkit.api.exchanging import convert  # noqa: E402
from toolkit.api.generating import generate  # noqa: E402
from toolkit.bundle.archive import write_archive  # noqa: E402
from toolkit.bundle.bundle import Bundle  # noqa: E402
from toolkit.bundle.export import ExportSettings, export_bundle  # noqa: E402
from toolkit.bundle.layout import parameter_shapes  # noqa: E402
from toolkit.data.dataset import read_rows  # noqa: E402
from toolkit.data.prepare import Settings, prepare, prepare_random  # noqa: E402
from toolkit.exchange.gguf_adapter import write_gguf_adapter  # noqa: E402
from toolkit.lora import PROJECTIONS, LoraSettings  # noqa: E402
from toolkit.settings.generation import ReplySettings  # noqa: E402
from toolkit.sources.bundle import BundleSource  # noqa: E402

TARGET = ROOT / "build/android/fixtures"
SEQ_LEN = 24
CHAT_LEN = 256  # the template alone takes more than SEQ_LEN
CASES = 6000  # tools/android/real_tokenizers.py has more
PROMPT = "hello there, how"
TEXTS = [
    "hello there, how are you doing today?\n" * 9,
    "I am fine thank you! 東京 🙂",
    "x",
    "<bos>Hello<eos>",
]


def main() -> None:
    """Write all fixtures anew."""
    shutil.rmtree(TARGET, ignore_errors=True)
    export_tiny(TARGET / "bundles/tiny", "llama", seq_lens=(SEQ_LEN,))
    prepare_random(12, SEQ_LEN, 150, 5, TARGET / "data/rows")
    tokenizers = tokenizer_cases.small()
    pieces = wrapped("gemma3", tokenizers["gemma3"], None)
    for name, tokenizer in (("words", make_tokenizer(SMOLLM2)), ("pieces", pieces)):
        write_text_bundle(TARGET / "bundles" / name, tokenizer)
        write_text_rows(TARGET / "texts" / name, tokenizer)
    write_text_bundle(TARGET / "bundles/chats", make_tokenizer(SMOLLM2), CHAT_LEN)
    write_archive(Bundle.open(TARGET / "bundles/words"), TARGET / "words.zip")
    write_reference(TARGET / "reference")
    write_gguf(TARGET / "gguf", TARGET / "reference", TARGET / "bundles/tiny")
    write_replies(TARGET / "replies")
    chat_cases.write(TARGET / "chats", tokenizers)
    tokenizer_cases.write(TARGET / "tokenizers", CASES, tokenizers)


def write_text_bundle(
    folder: Path, tokenizer: PreTrainedTokenizerFast, seq_len: int = SEQ_LEN
) -> None:
    """Export a tiny model with a tokenizer and its vocabulary."""
    config = tiny.tiny_config("llama")
    config.vocab_size = len(tokenizer)
    config.initializer_range = 0.2
    name = f"tiny-{folder.name}"
    source = SourceWithTokenizer(config, parameter_shapes(config), name, 2, tokenizer=tokenizer)
    export_bundle(source, folder, ExportSettings(LoraSettings(4, 8.0, PROJECTIONS), (seq_len,)))


def write_text_rows(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write texts and the rows that `toolkit data` makes of them."""
    folder.mkdir(parents=True)
    files = []
    for index, text in enumerate(TEXTS):
        files.append(folder / f"{index}.txt")
        files[-1].write_text(text)
    settings = Settings(SEQ_LEN, loss="all", validation=0)
    prepare(files, tokenizer, settings, folder / "data")
    rows = read_rows(folder / "data/train.ptd")
    names = ("tokens", "labels", "positions", "start")
    content = {"texts": TEXTS, **{name: getattr(rows, name).tolist() for name in names}}
    (folder / "rows.json").write_text(json.dumps(content))


def write_reference(folder: Path) -> None:
    """Train with the command line, as the app's tests do through the bridge."""
    run_trainer(
        *("train", "--bundle", TARGET / "bundles/tiny", "--data", TARGET / "data/rows/train.ptd"),
        *("--out", folder, "--steps", 8, "--lr", "1e-3", "--grad-accum", 2, "--seed", 3),
        *("--threads", 1, "--save-every", 3),
    )


def write_gguf(folder: Path, run: Path, bundle: Path) -> None:
    """Convert a run for llama.cpp; and one with alphas of its own and a model of the hub."""
    folder.mkdir(parents=True)
    convert(run, folder / "reference.gguf", base=bundle)
    odd = folder / "odd"
    shutil.copytree(run, odd)
    facts = json.loads((odd / "adapter_config.json").read_text())
    facts |= {"use_rslora": True, "alpha_pattern": {"q_proj": 3, "down_proj": 5}}
    facts["base_model_name_or_path"] = "owner/tiny"
    (odd / "adapter_config.json").write_text(json.dumps(facts))
    write_gguf_adapter(odd, folder / "odd.gguf", BundleSource(bundle).config, "owner/tiny")


def write_replies(folder: Path) -> None:
    """Train the model with a tokenizer, and have it go on with a text before and after."""
    bundle = TARGET / "bundles/words"
    run_trainer(
        *("train", "--bundle", bundle, "--data", TARGET / "texts/words/data/train.ptd"),
        *("--out", folder, "--steps", 30, "--lr", "2e-2", "--threads", 1, "--trace", "off"),
    )
    settings = ReplySettings(max_tokens=128)
    found = generate(folder, PROMPT, settings, compare=True, bundle=bundle, plain=True, threads=1)
    after, before = (reply.text for reply in found)
    assert after != before
    texts = {"prompt": PROMPT, "before": before, "after": after}
    found = generate(folder, PROMPT, settings, compare=True, bundle=bundle, threads=1)
    texts |= {"chat_after": found[0].text, "chat_before": found[1].text}
    assert len({*texts.values()}) == len(texts)
    (folder / "replies.json").write_text(json.dumps(texts))


if __name__ == "__main__":
    main()
