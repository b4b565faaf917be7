"""What nodes hand back over Flower, read and put on storage."""

from pathlib import Path

import numpy as np
from flwr.app import Message
from safetensors.numpy import save_file

from toolkit.bundle.peft_files import PEFT_PREFIX
from toolkit.device.kept import ADAPTER
from toolkit.errors import ToolkitError
from toolkit.federation.fleet import Answer
from toolkit.federation.flower import records
from toolkit.federation.flower.errands import senseless
from toolkit.federation.orders import NodeFailed, NodeReport, Order, OtherName
from toolkit.federation.said import reason_of, report_of


def kept(reply: Message, name: str, order: Order, layout: records.Layout) -> Answer:
    """Put what a node trained on storage, and return its report."""
    try:
        report, arrays = _read(reply, name, order, layout)
    except NodeFailed as error:
        return error
    except ToolkitError as error:
        return NodeFailed(error.cause)
    except Exception as error:  # the node wrote it, and ends no federation
        return NodeFailed(senseless(error))
    if arrays is not None:
        folder: Path = order.replies / name
        folder.mkdir(exist_ok=True)
        named = {PEFT_PREFIX + key: values for key, values in arrays.items()}
        save_file(named, folder / ADAPTER)
    return report


def _read(
    reply: Message, name: str, order: Order, layout: records.Layout
) -> tuple[NodeReport, dict[str, np.ndarray] | None]:
    """Return what a node says, and what it trained where that is an adapter."""
    said = dict(records.said_in(reply.content, records.REPORT))
    if said.get("node") != name:  # and so trained by another seed
        own = repr(said.get("node"))[:60]
        raise OtherName(f"it answers as {own}: its SuperNode was started with another name")
    why, report = said.pop(records.FAILURE, None), report_of(said, name)
    if why is not None:
        failed = NodeFailed(reason_of(str(why)))
        failed.spent = report
        raise failed
    whole = order.steps and report.scalars is None
    return report, records.arrays_in(reply.content, layout) if whole else None
