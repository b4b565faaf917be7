"""Replies of a model on a device, with adapters and without."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from toolkit.api.devices import Bars, Device, no_bars
from toolkit.api.judging import open_target
from toolkit.api.talking import OnText, Reply, Talker
from toolkit.bundle.adapter import write_peft_adapter
from toolkit.bundle.bundle import Bundle
from toolkit.bundle.manifest import NAME as MANIFEST
from toolkit.choices import ARITHMETICS
from toolkit.data.chat import Messages
from toolkit.device.generating import NO_ADAPTER, generating
from toolkit.errors import ToolkitError
from toolkit.exchange.base import check_bundle, find_run_bundle
from toolkit.generation.prompts import Prompts
from toolkit.lora import LoraSettings
from toolkit.settings.generation import ReplySettings

Place = str | PathLike[str]


@contextmanager
def open_talker(
    run: Place,
    *,
    bundle: Place | None = None,
    adapter: Place | None = None,
    compare: bool = False,
    device: str | Device = "local",
    plain: bool = False,
    context: int = 0,
    threads: int = 0,
    arithmetic: str = ARITHMETICS[0],
    bars: Bars = no_bars,
) -> Iterator[Talker]:
    """Put a model and its adapters on a device; yield what replies.

    Args:
        run: A run as `pull` brings it (or another folder of a PEFT adapter), or a bundle.
        bundle: The run's bundle; None: found near the run.
        adapter: "none", or the folder of another adapter than the run's; None: the run's, and none
            for a bundle.
        compare: Also without the adapter.
        device: Where it runs.
        plain: Prompts are texts to go on with: there need be no chat template.
        context: Tokens of prompt and reply, at most; 0: as many as the model can.
        threads: On the device; 0 leaves it to it.
        arithmetic: Of products with quantized weights: float32 or fixed16.
        bars: Shows the progress of transfers.

    Raises:
        ToolkitError: The bundle is not to be found or cannot generate, or an adapter is not one of
            it.

    Example:
        >>> with toolkit.open_talker("runs/run1") as talker:
        ...     reply = talker.reply([{"role": "user", "content": "Where do you live?"}])
    """
    opened, chosen = _opened(Path(run), bundle, adapter)
    if compare and chosen == NO_ADAPTER:
        raise ToolkitError(
            "there is no adapter to compare with", "Name a run, or the folder of an adapter"
        )
    prompts = Prompts(opened, None if chosen == NO_ADAPTER else Path(chosen), plain)
    names = [chosen, NO_ADAPTER] if compare else [chosen]
    with tempfile.TemporaryDirectory() as temporary:
        files = {}
        for number, name in enumerate(names):
            if name != NO_ADAPTER:
                files[str(number)] = Path(temporary) / f"{number}.ptd"
                specs = opened.adapter.specs()
                lora = LoraSettings.from_json(opened.manifest["lora"])
                write_peft_adapter(Path(name), specs, lora, files[str(number)])
        with ExitStack() as running:
            target = running.enter_context(
                open_target(device, opened.path, threads, arithmetic, bars)
            )
            with bars("adapter") as sending:
                generation = running.enter_context(generating(target, files, context, sending))
            yield Talker(opened.path, names, prompts, generation, limited=context > 0)


def _opened(run: Path, bundle: Place | None, adapter: Place | None) -> tuple[Bundle, str]:
    """Return the bundle and the folder of the adapter, or "none"."""
    is_bundle = (run / MANIFEST).is_file()
    if not run.is_dir():
        raise ToolkitError(f"{run} is not there", "Name a folder of `toolkit pull`, or a bundle")
    if is_bundle and bundle is not None:
        raise ToolkitError(f"{run} is a bundle itself", "Leave --bundle away, or name a run")
    own = NO_ADAPTER if is_bundle else str(run)
    chosen = own if adapter is None else fspath(adapter)
    if bundle is None:
        opened = Bundle.open(run if is_bundle else find_run_bundle(run))
    else:
        opened = Bundle.open(Path(bundle))
    if chosen != NO_ADAPTER:
        check_bundle(opened, Path(chosen))
    return opened, chosen


def generate(
    run: Place,
    prompt: str | Messages,
    settings: ReplySettings | None = None,
    *,
    compare: bool = False,
    on_text: OnText = lambda text: None,
    **options: Any,
) -> Sequence[Reply]:
    """Return a model's reply to a prompt, and with `compare` that without the adapter too.

    Args:
        run: A run as `pull` brings it, or a bundle.
        prompt: Messages ({"role", "content"} each) of a chat; or a text, which is the message of
            a user unless `plain` is given.
        settings: How it is chosen and when it ends.
        compare: Also without the adapter, with the same seed.
        on_text: Called with text as it comes.
        options: As `open_talker` takes them: bundle, adapter, device, plain, context, threads,
            arithmetic.

    Raises:
        ToolkitError: As `open_talker` and `Talker.reply`.

    Example:
        >>> [reply] = toolkit.generate("runs/run1", "Where do you live?")
        >>> reply.text  # doctest: +SKIP
        'By the sea.'
    """
    with open_talker(run, compare=compare, **options) as talker:
        return [
            talker.reply(prompt, settings, adapter=adapter, on_text=on_text)
            for adapter in talker.adapters
        ]
