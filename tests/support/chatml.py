"""Byte-level tokenizers with the ChatML templates of SmolLM2 and Qwen2, trained on a few lines."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nSYSTEM<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SMOLLM2 = _TEMPLATE.replace("SYSTEM", "You are a helpful AI assistant named SmolLM")
QWEN2 = _TEMPLATE.replace("SYSTEM", "You are a helpful assistant.")

_LINES = [
    "hello there, how are you doing today?",
    "I am fine thank you!\n\nAnd you?",
    "the assistant said hello\nuser system assistant",
    "\n\n\n  spaces   and\n\nlines\n\n",
    "You are a helpful AI assistant named SmolLM",
] * 20


def make_tokenizer(template: str | None, normalizer=None) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of 400 tokens, `<|im_end|>` its end of text."""
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_LINES, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    wrapped.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    wrapped.chat_template = template
    return wrapped
