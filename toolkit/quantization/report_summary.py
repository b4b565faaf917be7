"""Summaries of a bundle's quantization report; needs no torch."""

from typing import Any


def worst_first(tensors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort entries of a report by falling error; equal errors keep the order of the file."""
    return sorted(tensors, key=lambda tensor: -tensor["relative_error"])


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
