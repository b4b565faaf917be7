"""llama.cpp's own libraries, called from Python: tokens, and logits with adapters or without.

Its structures of settings are read as words of 32 bits: the places of those that are changed here
are checked by their defaults, so that a version with others is noticed.
"""

import ctypes
import functools
import os
from pathlib import Path

import numpy as np
import pytest

LIBRARIES = Path(__file__).parents[2] / ".cache/llama_cpp"
CONTEXT, _BATCH, _PART, _FLASH, _KEYS, _VALUES = 0, 1, 2, 13, 26, 27
_DEFAULTS = {CONTEXT: 512, _BATCH: 2048, _PART: 512, _FLASH: 0xFFFFFFFF, _KEYS: 1, _VALUES: 1}
_WORDS = 128


class _Settings(ctypes.Structure):
    """More room than any of llama.cpp's structures of settings takes."""

    _fields_ = (("words", ctypes.c_uint32 * _WORDS),)


class _Batch(ctypes.Structure):
    _fields_ = (
        ("n_tokens", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("token", "embd", "pos", "n_seq_id", "seq_id")),
        ("logits", ctypes.c_void_p),
    )


@functools.cache
def load_library() -> ctypes.CDLL:
    if not (LIBRARIES / ".sha256").is_file():
        message = "llama.cpp is not here (tools/fetch_llama_cpp.py)"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    ctypes.CDLL(str(LIBRARIES / "libggml-base.so"), ctypes.RTLD_GLOBAL)
    [name] = LIBRARIES.glob("libggml.v*.so")
    ggml = ctypes.CDLL(str(name), ctypes.RTLD_GLOBAL)
    ggml.ggml_backend_load_all_from_path(str(LIBRARIES).encode())
    [name] = LIBRARIES.glob("libllama.v*.so")
    library = ctypes.CDLL(str(name))
    library.llama_model_default_params.restype = _Settings
    library.llama_context_default_params.restype = _Settings
    library.llama_model_load_from_file.argtypes = [ctypes.c_char_p, _Settings]
    library.llama_init_from_model.argtypes = [ctypes.c_void_p, _Settings]
    library.llama_adapter_lora_init.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
    library.llama_vocab_n_tokens.argtypes = [ctypes.c_void_p]
    library.llama_set_adapters_lora.argtypes = (
        [ctypes.c_void_p] * 2 + [ctypes.c_size_t] + [ctypes.c_void_p]
    )
    library.llama_batch_init.argtypes = [ctypes.c_int32] * 3
    library.llama_batch_init.restype = _Batch
    library.llama_batch_free.argtypes = [_Batch]
    library.llama_decode.argtypes = [ctypes.c_void_p, _Batch]
    library.llama_get_logits.argtypes = [ctypes.c_void_p]
    library.llama_get_logits.restype = ctypes.POINTER(ctypes.c_float)
    library.llama_tokenize.argtypes = (
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.POINTER(ctypes.c_int32)]
        + [ctypes.c_int32]
        + [ctypes.c_bool] * 2
    )
    for name in ("load_from_file", "get_vocab"):
        getattr(library, f"llama_model_{name}").restype = ctypes.c_void_p
    for name in ("init_from_model", "adapter_lora_init"):
        getattr(library, f"llama_{name}").restype = ctypes.c_void_p
    for name in ("llama_free", "llama_model_free"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
        getattr(library, name).restype = None
    library.llama_log_set(_quiet, None)
    library.llama_backend_init()
    return library


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def _quiet(level: int, text: bytes, data: int) -> None:
    if level >= 4:  # errors
        print(text.decode(errors="replace"), end="")


def llama_cpp_tokens(model: Path, texts: list[str]) -> list[list[int]]:
    """Return the tokens of texts, with those that the model's file adds to every text."""
    library = load_library()
    loaded = library.llama_model_load_from_file(
        str(model).encode(), library.llama_model_default_params()
    )
    assert loaded, f"llama.cpp does not load {model}"
    found = []
    try:
        vocabulary = library.llama_model_get_vocab(loaded)
        for text in texts:
            data = text.encode()
            tokens = (ctypes.c_int32 * (len(data) + 2))()
            count = library.llama_tokenize(
                vocabulary, data, len(data), tokens, len(tokens), True, True
            )
            assert count >= 0
            found.append(list(tokens[:count]))
    finally:
        library.llama_model_free(loaded)
    return found


def llama_cpp_logits(
    model: Path, tokens: list[int], adapter: Path | None = None
) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    """Return the logits of every token of one sequence, float32 [T, V].

    Keys and values are kept in float32 and attention is the plain one, so that what differs from
    PyTorch is the weights' arithmetic alone.
    """
    library = load_library()
    loaded = library.llama_model_load_from_file(
        str(model).encode(), library.llama_model_default_params()
    )
    assert loaded, f"llama.cpp does not load {model}"
    context = None
    try:
        context = library.llama_init_from_model(loaded, _context_settings(library, len(tokens)))
        assert context
        if adapter is not None:
            added = library.llama_adapter_lora_init(loaded, str(adapter).encode())
            assert added, f"llama.cpp does not load {adapter}"
            pointers, scales = (ctypes.c_void_p * 1)(added), (ctypes.c_float * 1)(1.0)
            assert library.llama_set_adapters_lora(context, pointers, 1, scales) == 0
        _decode(library, context, tokens)
        vocabulary = library.llama_vocab_n_tokens(library.llama_model_get_vocab(loaded))
        found = library.llama_get_logits(context)
        return np.ctypeslib.as_array(found, (len(tokens), vocabulary)).copy()
    finally:
        if context:
            library.llama_free(context)
        library.llama_model_free(loaded)


def _context_settings(library: ctypes.CDLL, tokens: int) -> _Settings:
    settings = library.llama_context_default_params()
    for place, default in _DEFAULTS.items():
        assert settings.words[place] == default, f"word {place} of llama_context_params has moved"
    settings.words[CONTEXT] = settings.words[_BATCH] = settings.words[_PART] = max(tokens, 32)
    settings.words[_FLASH] = settings.words[_KEYS] = settings.words[_VALUES] = 0
    return settings


def _decode(library: ctypes.CDLL, context: int, tokens: list[int]) -> None:
    batch = library.llama_batch_init(len(tokens), 0, 1)
    try:
        batch.n_tokens = len(tokens)
        token = ctypes.cast(batch.token, ctypes.POINTER(ctypes.c_int32))
        position = ctypes.cast(batch.pos, ctypes.POINTER(ctypes.c_int32))
        count = ctypes.cast(batch.n_seq_id, ctypes.POINTER(ctypes.c_int32))
        sequence = ctypes.cast(batch.seq_id, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32)))
        wanted = ctypes.cast(batch.logits, ctypes.POINTER(ctypes.c_int8))
        for i, value in enumerate(tokens):
            token[i], position[i], count[i], wanted[i] = value, i, 1, 1
            sequence[i][0] = 0
        assert library.llama_decode(context, batch) == 0
    finally:
        library.llama_batch_free(batch)
