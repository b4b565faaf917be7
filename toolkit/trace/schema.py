"""The trace format, version 1: what the trainer writes, one JSON object per line.

Every record has a `type`. Times are nanoseconds of CLOCK_MONOTONIC since the run record, memory is
in KiB as the kernel reports it, the ledger in bytes. Numbers that are not finite are null. The
classes below are both the documentation and the validation: a line that does not fit one of them
is left out of the analysis and listed with its number. Fields that this version does not know are
ignored, so a trainer may add some without a new version.

Bounds keep sums of many records inside 64-bit and float arithmetic; real values are far below.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

VERSION = 1

PHASES = ("load", "embed", "forward", "head", "backward", "optimizer", "save", "evaluate")
CATEGORIES = (
    "base",
    "adapters",
    "optimizer",
    "gradients",
    "checkpoints",
    "arena",
    "scratch",
    "runtime",
)

Kib = Annotated[int, Meta(ge=0, le=1 << 40)]
Bytes = Annotated[int, Meta(ge=0, le=1 << 50)]
SignedBytes = Annotated[int, Meta(ge=-(1 << 50), le=1 << 50)]
Count = Annotated[int, Meta(ge=0, le=1 << 50)]
Nanoseconds = Annotated[int, Meta(ge=0, le=1 << 55)]
StepNumber = Annotated[int, Meta(ge=0, le=1 << 40)]
LayerNumber = Annotated[int, Meta(ge=0, le=4095)]
Number = Annotated[float, Meta(ge=-1e50, le=1e50)]  # no norm of float32s is beyond
Perplexity = Annotated[float, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Celsius = Annotated[float, Meta(ge=-300, le=1000)]
PhaseName = Literal["load", "embed", "forward", "head", "backward", "optimizer", "save", "evaluate"]


class Memory(Struct, frozen=True, gc=False):
    """Kernel-accounted memory of the trainer in KiB.

    `hwm` in a phase is the peak inside that phase (VmHWM after a reset), or the running maximum of
    the process where the reset is not permitted (`Device.hwm_reset` is false).
    """

    hwm: Kib = 0
    rss_anon: Kib = 0
    rss_file: Kib = 0
    rss_shmem: Kib = 0
    swap: Kib = 0


class Io(Struct, frozen=True, gc=False):
    """What happened within a phase: page faults and bytes to and from storage."""

    major_faults: Count = 0
    minor_faults: Count = 0
    read_bytes: Bytes = 0
    written_bytes: Bytes = 0


class Ledger(Struct, frozen=True, gc=False):
    """The engine's own account in bytes, at the peak of a phase.

    Every category is counted by itself, so their sum may lie below the high-water mark: the rest is
    what the engine does not own, such as libraries and slack of the allocator. A difference of two
    readings can come out negative; it is taken for zero.
    """

    base: SignedBytes = 0
    adapters: SignedBytes = 0
    optimizer: SignedBytes = 0
    gradients: SignedBytes = 0
    checkpoints: SignedBytes = 0
    arena: SignedBytes = 0
    scratch: SignedBytes = 0
    runtime: SignedBytes = 0


class OperatorTime(Struct, frozen=True, gc=False):
    """How often a phase called one operator, and the time spent in it."""

    calls: Count = 0
    ns: Nanoseconds = 0


class Bundle(Struct, frozen=True):
    """Shape of the model and of its adapter, and the SHA-256 of what the run was made of.

    Those of base and adapter are of their content, as the files themselves say; the adapter is the
    one the run began with.
    """

    layers: Count | None = None
    hidden_size: Count | None = None
    vocab_size: Count | None = None
    seq_len: Count | None = None
    rank: Count | None = None
    alpha: Number | None = None
    base_bytes: Bytes | None = None
    adapter_parameters: Count | None = None
    programs_sha256: str | None = None
    base_sha256: str | None = None
    adapter_sha256: str | None = None
    tokenizer: str | None = None


class Data(Struct, frozen=True):
    """The training data: its number of sequences, SHA-256 of its content, name of its tokenizer."""

    sequences: Count | None = None
    sha256: str | None = None
    tokenizer: str | None = None


class Checkpoints(Struct, frozen=True):
    """Where the blocks' inputs wait for the backward pass, their bytes, and why they are there."""

    place: Literal["ram", "spill"] | None = None
    bytes: Bytes | None = None
    reason: str = ""


class Device(Struct, frozen=True):
    """Where the run took place."""

    abi: str | None = None
    isa: str | None = None
    threads: Count | None = None
    cores: Count | None = None
    page_size: Count | None = None
    kernel: str | None = None
    model: str | None = None
    memory_total_kib: Kib | None = None
    memory_available_kib: Kib | None = None
    hwm_reset: bool | None = None


class Run(Struct, frozen=True, tag="run"):
    """First record of a trace; a resumed run appends another one.

    `method` is what earlier traces call `lowering`; the reader moves it there.
    """

    version: int
    toolkit: str = ""
    model: str = ""
    lowering: str = ""
    method: str = ""
    resumed_from: StepNumber | None = None
    time_unix: Number | None = None
    settings: dict[str, Any] = {}
    bundle: Bundle = Bundle()
    checkpoints: Checkpoints = Checkpoints()
    state: Checkpoints = Checkpoints()
    data: Data = Data()
    device: Device = Device()


class Phase(Struct, frozen=True, gc=False, tag="phase"):
    """One phase of a step, of one layer where the phase has layers.

    `operators` by name, at full detail; older trainers do not write it.
    """

    phase: PhaseName
    begin: Nanoseconds
    end: Nanoseconds
    step: StepNumber | None = None
    layer: LayerNumber | None = None
    mem: Memory = Memory()
    io: Io = Io()
    ledger: Ledger = Ledger()
    operators: dict[str, OperatorTime] | None = None


class Begin(Struct, frozen=True, tag="begin"):
    """Start of a step, flushed at once, so that a killed run shows where it ended."""

    phase: str
    t: Nanoseconds
    step: StepNumber | None = None
    layer: LayerNumber | None = None


class Battery(Struct, frozen=True, gc=False):
    """State of the device's battery."""

    level: Number | None = None
    temperature: Celsius | None = None
    charging: bool | None = None


class Thermal(Struct, frozen=True, gc=False):
    """One thermal zone."""

    celsius: Celsius | None = None
    zone: str = ""


class Sample(Struct, frozen=True, tag="sample"):
    """A look from the background, every 0.5 s."""

    t: Nanoseconds
    mem: Memory = Memory()
    pss: Kib | None = None
    battery: Battery | None = None
    thermal: list[Thermal] | None = None


class Step(Struct, frozen=True, tag="step"):
    """One optimizer step, numbered from 1.

    `tokens` counts what was computed, prompts and padding included; `labelled` what the loss is the
    mean of. `written_bytes` is what reached storage since the step before, its trace included and
    saves left out; `spilled_bytes` what was handed to the file of checkpoints, of which nothing
    reaches storage that is overwritten soon enough, and `state_bytes` the same of adapters,
    gradients and optimizer state. Older trainers tell neither and count a save with the step after
    it.
    """

    step: StepNumber
    t: Nanoseconds
    seconds: Seconds | None = None
    loss: Number | None = None
    lr: Number | None = None
    tokens: Count = 0
    labelled: Count = 0
    grad_norm: Number | None = None
    peak: Kib = 0
    written_bytes: Bytes = 0
    spilled_bytes: Bytes | None = None
    state_bytes: Bytes = 0


class Evaluation(Struct, frozen=True, tag="evaluation"):
    """Loss on held-out data; whether it is the lowest so far, where the run goes by it."""

    step: StepNumber
    loss: Number | None = None
    perplexity: Perplexity | None = None
    tokens: Count = 0
    best: bool | None = None


class Mapping(Struct, frozen=True, gc=False):
    """One name of /proc/self/smaps, in KiB."""

    name: str
    rss: Kib = 0
    pss: Kib = 0
    anonymous: Kib = 0


class Smaps(Struct, frozen=True, tag="smaps"):
    """The process's mappings, taken once a run."""

    entries: list[Mapping]
    step: StepNumber | None = None
    phase: str | None = None
    layer: LayerNumber | None = None


class Event(Struct, frozen=True, tag="event"):
    """Something that happened, in words in `detail`.

    saved (with its step and what it wrote); best: the adapter of this step, the best on held-out
    data so far, is kept, of several the last counts; best_unknown: that of a resumed run was not
    kept, or is of other held-out data; stop_requested, paused, resumed; settings_changed: a resumed
    run has other settings, old and new; adapter_taken: it goes on with another adapter;
    adapter_kept: it has done so before; restarted: a run to be resumed had saved nothing and began
    again; waiting_for_storage: a save found the storage full and is tried again; trace_gap: so many
    records did not fit meanwhile; saves_apart: saves are further apart than asked for.
    """

    t: Nanoseconds
    event: str
    detail: Any = None
    step: StepNumber | None = None
    written_bytes: Bytes | None = None


class End(Struct, frozen=True, tag="end"):
    """Last record of a run that was not killed; the reason is that of an early completion."""

    t: Nanoseconds
    status: Literal["completed", "stopped", "failed"]
    steps: Count = 0
    peak: Kib = 0
    seconds: Seconds | None = None
    error: str | None = None
    reason: str | None = None


Record = Run | Phase | Begin | Sample | Step | Evaluation | Smaps | Event | End
