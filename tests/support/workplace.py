"""A folder as a user has one: a tiny model with its tokenizer, and chats."""

import json
from pathlib import Path

from tests.support.chatml import QWEN2, make_tokenizer
from tests.support.models import save_model
from tests.support.tiny import tiny_config


def make_workplace(folder: Path) -> None:
    """Write `model` and `chats.jsonl`."""
    config = tiny_config("qwen2")
    config.vocab_size, config.initializer_range = 448, 0.2
    save_model(folder / "model", "qwen2", config=config)
    make_tokenizer(QWEN2).save_pretrained(folder / "model")
    write_chats(folder / "chats.jsonl")


def write_chats(path: Path, count: int = 30) -> None:
    """Write so many short chats."""
    chats = [(f"hello {i}", f"hello there, number {i}") for i in range(count)]
    turns = [
        [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        for asked, said in chats
    ]
    path.write_text("\n".join(json.dumps({"messages": messages}) for messages in turns))
