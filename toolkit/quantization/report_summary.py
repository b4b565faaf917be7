"""Summaries of a bundle's quantization report; needs no torch."""

import math
from typing import Any


def worst_first(tensors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort entries of a report by falling error; equal errors keep the order of the file."""
    return sorted(tensors, key=lambda tensor: -tensor["relative_error"])


def overall(tensors: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what all quantized weights of a model come to.

    Returns:
        `bits_per_weight` in base.ptd, scales and offsets included; `mean_error`, the tensors'
        relative errors weighted by their sizes; `taken_over`, how many are as the source had them.
    """
    sizes = [math.prod(tensor["shape"]) for tensor in tensors]
    errors = (n * t["relative_error"] for n, t in zip(sizes, tensors, strict=True))
    count = max(sum(sizes), 1)
    return {
        "bits_per_weight": 8 * sum(tensor["nbytes"] for tensor in tensors) / count,
        "mean_error": sum(errors) / count,
        "taken_over": sum(tensor["taken_over"] for tensor in tensors),
    }


def summarize(tensors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Group a report by scheme and kind of weight (q_proj, embed_tokens, ...).

    Returns:
        One entry a group with count, bytes, mean and largest relative error, and the name of the
        tensor with the largest error, worst group first.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for tensor in tensors:
        key = (tensor["name"].rsplit(".", 1)[-1], tensor["scheme"])
        groups.setdefault(key, []).append(tensor)
    summary = []
    for (kind, scheme), members in groups.items():
        worst = worst_first(members)[0]
        summary.append(
            {
                "weight": kind,
                "scheme": scheme,
                "count": len(members),
                "taken_over": sum(member["taken_over"] for member in members),
                "bytes": sum(member["nbytes"] for member in members),
                "mean_error": sum(m["relative_error"] for m in members) / len(members),
                "worst_error": worst["relative_error"],
                "worst": worst["name"],
            }
        )
    return sorted(summary, key=lambda group: -group["worst_error"])
