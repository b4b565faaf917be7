"""How much of the frozen weights is in memory at once.

A block's weights are mapped from the file and given back, a batch at a time, as an operator has
read them, so what is resident is about one operator's share and a batch. The kernel maps pages in
windows of 64 KiB around each one that is touched (fault-around), also such as were given back:
every tensor counts a window more.
"""

from toolkit.planning.graph import Operation, Program, Value

_WINDOW = 64 * 1024
_MLP_TILE = 256
_CLASSES = 512
_EMBEDDING_ROWS = 2
_BATCH = 1 << 20  # bytes that are given back at once
_MLPS = ("swiglu_mlp", "geglu_mlp", "fused_swiglu_mlp")
_HEAD = ("linear_cross_entropy", "linear_cross_entropy_loss")


def resident_weights(program: Program) -> int:
    """Return the bytes of frozen weights that are resident at a method's highest moment."""
    mapped = sum(value.bytes for value in program.base)
    highest = max((_resident(o) for o in program.operations), default=0)
    if any(o.name != "quantized_embedding" for o in program.operations):
        highest += _BATCH
    small = sum(value.bytes for value in program.base if value.bits == 32)
    return min(mapped, highest + small)


def _resident(operation: Operation) -> int:
    if operation.name.removesuffix("_backward") in _MLPS:
        return _resident_mlp(operation)
    if operation.name in _HEAD:
        codes, scale, offset = operation.arguments[2:5]
        return _in_windows((codes, scale, offset), min(1.0, _CLASSES / (codes.shape[0] * 16)))
    if operation.name == "quantized_embedding":
        tensors = [value for value in operation.arguments[1:4] if value is not None]
        return sum(min(value.bytes, _EMBEDDING_ROWS * _WINDOW) for value in tensors)
    weights = [a for a in operation.arguments if isinstance(a, Value) and a.role == "base"]
    return _in_windows([value for value in weights if value.bits < 32], 1.0)


def _resident_mlp(operation: Operation) -> int:
    """Return a tile's share of gate and up, or of the layer that is both, and the whole of down."""
    first = 2 if operation.name.endswith("_backward") else 1
    count = 2 if operation.name.startswith("fused") else 3
    *upper, down = (operation.arguments[first + 3 * i : first + 3 * i + 3] for i in range(count))
    share = min(1.0, _MLP_TILE / down[0].shape[1])
    return sum(_in_windows(weight, share) for weight in upper) + _in_windows(down, 1.0)


def _in_windows(tensors: list[Value | None] | tuple[Value | None, ...], share: float) -> int:
    return sum(
        min(value.bytes, int(value.bytes * share) + _WINDOW)
        for value in tensors
        if value is not None
    )
