"""What every kernel takes from the workspace, read from runtime/kernels/isa/*.cc.

`tests/planning/test_engine.py` compares the sum with what the engine reports, so that a change of a
kernel is noticed here. T tokens, K inputs and N outputs of a weight, R rank.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.planning.graph import Operation, Value
from toolkit.planning.workspace import Workspace

_PANEL = 16
_DEPTH_BLOCK = 1024
_MLP_TILE = 256
_CLASSES = 512
_STRIP = 512
_SHARED_FLOATS = 128 << 10
_TOKENS, _LONG_PART = 256, 512
_STRETCH_FLOATS = 256 << 10
_ROW_FLOATS = 8  # struct Row of head.cc
_BLOCKS = {"avx512": (12, 32), "avx2": (6, 16), "neon": (6, 16), "plain": (4, 16)}


@dataclass(frozen=True)
class Kernels:
    """The instruction set and the number of threads decide the sizes of blocks and their number."""

    isa: str = "neon"
    threads: int = 4

    @property
    def block(self) -> int:
        return _BLOCKS.get(self.isa, _BLOCKS["neon"])[0]

    @property
    def group(self) -> int:
        return _BLOCKS.get(self.isa, _BLOCKS["neon"])[1]

    def left(self, rows: int, depth: int) -> int:
        """Floats of a packed left operand."""
        return _round_up(rows, self.block) * depth

    def part(self, tokens: int, wanted: int = _TOKENS) -> int:
        """Return the tokens of a sequence that are worked on at a time."""
        parts = max(1, (tokens + wanted // 2 - 1) // wanted)
        return min(tokens, _round_up(-(-tokens // parts), self.block))

    def buffers(self) -> int:
        """Floats of all threads' buffers for right operands."""
        return (_DEPTH_BLOCK + 32) * self.group * self.threads


def run(operation: Operation, kernels: Kernels, workspace: Workspace) -> None:
    """Let an operator allocate and release its scratch; operators without any are not listed."""
    kernel = _KERNELS.get(operation.name)
    if kernel is not None:
        with workspace.scope():
            kernel(operation, kernels, workspace)


def _linear(x: Value, rank: int, saved: bool, bias: bool, k: Kernels, w: Workspace) -> None:
    tokens, depth = k.part(x.shape[-2], _LONG_PART), x.shape[-1]
    w.floats(k.buffers())
    _low_rank(tokens, rank, k, w, result=not saved)
    w.floats(k.left(tokens, _stretch(tokens, depth)))
    if bias:
        w.floats(k.left(tokens, 1))


def _quantized_linear(o: Operation, k: Kernels, w: Workspace) -> None:
    x, _, _, _, bias = o.arguments
    _linear(x, 0, False, bias is not None, k, w)


def _lora_linear(o: Operation, k: Kernels, w: Workspace) -> None:
    x, _, _, _, bias, a, _, _ = o.arguments
    _linear(x, a.shape[0], False, bias is not None, k, w)


def _lora_linear_saved(o: Operation, k: Kernels, w: Workspace) -> None:
    x, _, _, _, bias, a, _, _ = o.arguments
    _linear(x, a.shape[0], True, bias is not None, k, w)


def _quantized_linear_backward(o: Operation, k: Kernels, w: Workspace) -> None:
    tokens, outputs = k.part(o.arguments[0].shape[-2], _LONG_PART), o.arguments[0].shape[-1]
    w.floats(k.buffers())
    w.floats(k.left(tokens, _stretch(tokens, outputs)))


def _lora_linear_backward(o: Operation, k: Kernels, w: Workspace) -> None:
    _linear_backward(o.arguments[0], o.arguments[1], o.arguments[5], True, k, w)


def _lora_linear_saved_backward(o: Operation, k: Kernels, w: Workspace) -> None:
    _linear_backward(o.arguments[0], o.arguments[1], o.arguments[6], False, k, w)


def _linear_backward(
    grad: Value, x: Value, a: Value, recompute: bool, k: Kernels, w: Workspace
) -> None:
    tokens, outputs = k.part(grad.shape[-2], _LONG_PART), grad.shape[-1]
    depth, rank = x.shape[-1], a.shape[0]
    w.floats(k.buffers())
    _low_rank(tokens, rank, k, w)
    with w.scope():
        w.floats(k.left(tokens, _stretch(tokens, outputs)))
    if recompute:
        w.floats(tokens * rank)
        with w.scope():
            w.floats(k.left(tokens, _stretch(tokens, depth)))
    w.floats(k.left(rank, tokens))
    w.floats(k.left(rank, tokens))


def _low_rank(tokens: int, rank: int, k: Kernels, w: Workspace, result: bool = True) -> None:
    """What a low-rank product takes: its result, unless that has a place, and the same packed."""
    if rank and result:
        w.floats(tokens * rank)
    if rank:
        w.floats(k.left(tokens, rank))


def _rope(o: Operation, k: Kernels, w: Workspace) -> None:
    w.floats(k.threads * 2 * o.arguments[2].elements)


def _mlp(o: Operation, k: Kernels, w: Workspace) -> None:
    x, adapters = o.arguments[0], o.arguments[10:16]
    tokens, size = k.part(x.shape[-2]), x.shape[-1]
    w.floats(k.buffers())
    for rank in _ranks(adapters):
        _low_rank(tokens, rank, k, w)
    w.floats(k.left(tokens, size))
    w.floats(tokens * _MLP_TILE)
    w.floats(tokens * _MLP_TILE)
    w.floats(k.left(tokens, _MLP_TILE))


def _mlp_backward(o: Operation, k: Kernels, w: Workspace) -> None:
    x, adapters = o.arguments[1], o.arguments[11:17]
    tokens, size = k.part(x.shape[-2]), x.shape[-1]
    gate, up, down = _ranks(adapters)
    w.floats(k.buffers())
    for rank in (gate, up):
        w.floats(tokens * _MLP_TILE)
        w.floats(k.left(tokens, _MLP_TILE))
        _low_rank(tokens, rank, k, w)
        _low_rank(tokens, rank, k, w)
    w.floats(tokens * _MLP_TILE)
    _low_rank(tokens, down, k, w)
    if down:
        w.floats(tokens * down)
    w.floats(k.left(tokens, size))
    w.floats(k.left(tokens, size))
    for rank in filter(None, (gate, up, down)):
        w.floats(k.left(rank, tokens))
    for rank in filter(None, (gate, up, down)):
        w.floats(k.left(rank, tokens))


def _attention(o: Operation, k: Kernels, w: Workspace) -> None:
    q, heads, kv_heads = o.arguments[0], o.arguments[4], o.arguments[5]
    tokens, size = q.shape[-2], q.shape[-1] // heads
    strip = min(_STRIP, _round_up(tokens, k.group))
    w.floats(_packed_heads(2, tokens, size, kv_heads))
    w.floats(_round_up(k.block * (size + 2 * strip + _PANEL), 16) * k.threads)


def _attention_backward(o: Operation, k: Kernels, w: Workspace) -> None:
    q, heads, kv_heads = o.arguments[1], o.arguments[-3], o.arguments[-2]
    tokens, size = q.shape[-2], q.shape[-1] // heads
    row = _round_up(tokens, k.group) + _PANEL
    w.floats(4 * heads * tokens)
    with w.scope():
        keys = _packed_heads(3, tokens, size, kv_heads)
        w.floats(max(keys, _packed_heads(4, tokens, size, heads)))
        floats = k.block * (2 * size + 2 * row + min(_STRIP, tokens))
        w.floats(_round_up(floats, 16) * k.threads)


def _packed_heads(packings: int, tokens: int, size: int, heads: int) -> int:
    """Floats of the heads that threads share, as many as are packed at a time."""
    head = packings * max(_right(size, tokens), _right(tokens, size))
    return max(1, min(heads, _SHARED_FLOATS // head)) * head


def _head(gradient: bool, o: Operation, k: Kernels, w: Workspace) -> None:
    tokens, size = o.arguments[0].shape[-2:]
    tokens = k.part(tokens)
    w.floats(tokens * _ROW_FLOATS)
    w.floats(k.buffers())
    w.floats(k.left(tokens, size))
    w.floats(tokens * _CLASSES)
    if gradient:
        w.floats(k.left(tokens, _CLASSES))
        w.floats(tokens * size)


def _stretch(tokens: int, depth: int) -> int:
    """Return the depth of a linear layer's input that is packed at a time."""
    most = max(256, _STRETCH_FLOATS // _round_up(tokens, 64))
    parts = -(-depth // most)
    return depth if parts <= 1 else _round_up(-(-depth // parts), 32)


def _ranks(adapters: Sequence[Value | None]) -> list[int]:
    """Return the ranks of a, b, a, b, ...; 0 where there is no adapter."""
    return [0 if a is None else a.shape[0] for a in adapters[::2]]


def _right(depth: int, columns: int) -> int:
    return _round_up(columns, _PANEL) * depth


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


_KERNELS = {
    "quantized_linear": _quantized_linear,
    "quantized_linear_backward": _quantized_linear_backward,
    "lora_linear": _lora_linear,
    "lora_linear_backward": _lora_linear_backward,
    "lora_linear_saved": _lora_linear_saved,
    "lora_linear_saved_backward": _lora_linear_saved_backward,
    "rope": _rope,
    "swiglu_mlp": _mlp,
    "swiglu_mlp_backward": _mlp_backward,
    "attention": _attention,
    "attention_saved": _attention,
    "attention_backward": _attention_backward,
    "attention_saved_backward": _attention_backward,
    "linear_cross_entropy": lambda *a: _head(True, *a),
    "linear_cross_entropy_loss": lambda *a: _head(False, *a),
}
