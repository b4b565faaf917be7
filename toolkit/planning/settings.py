"""What a plan depends on: the settings of a run, and the machine it is for."""

from dataclasses import dataclass, field

from toolkit.lora import PROJECTIONS, LoraSettings
from toolkit.planning.scratch import Kernels
from toolkit.planning.speed import ASSUMED, Speed
from toolkit.settings.methods import METHODS, Method
from toolkit.settings.training import TrainSettings

# What a trainer takes before and beside its own buffers, in MB: code of its own 1.3, of glibc's
# libraries and ExecuTorch 2.9, which the kernel maps in windows around what runs, and heap and
# stacks 0.65. By /proc/PID/smaps on x86-64 Linux with glibc, where it is the same for all models.
RUNTIME_BYTES = 4_850_000
_MOST_TOGETHER = 8  # runtime/kernels/kernels.h
_RUN = TrainSettings()


@dataclass(frozen=True)
class Settings:
    """Settings of an export and, of the same names as in `TrainSettings`, of a run.

    Attributes:
        targets, rslora, rank_pattern, alpha_pattern, layers: As `LoraSettings` has them.
        schemes: Quantization of "linear", "embedding" and "head".
        sequences: Sequences of a step: batch size times gradient accumulation.
        projection_rank: 0 is the optimizer's own default.
        queries, blocks, cut: As `TrainSettings` has them, for methods that read them; 0: their
            default.
        batch_size: Sequences computed together, as one row of programs for all their tokens.
    """

    seq_len: int = 256
    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = PROJECTIONS
    rslora: bool = False
    rank_pattern: tuple[tuple[str, int], ...] = ()
    alpha_pattern: tuple[tuple[str, float], ...] = ()
    layers: str = ""
    lowering: str = "mesp"
    linear: str = "int4"
    embedding: str = "int8"
    head: str = "int8"
    method: str = _RUN.method
    queries: int = 0
    blocks: int = 0
    cut: int = 0
    optimizer: str = _RUN.optimizer
    momentum: float = _RUN.momentum or 0.0
    projection_rank: int = _RUN.projection_rank or 0
    max_grad_norm: float = _RUN.max_grad_norm
    freeze: str = _RUN.freeze
    clipping: str = _RUN.clipping
    sequences: int = 1
    batch_size: int = _RUN.batch_size
    arithmetic: str = _RUN.arithmetic
    checkpoints: str = _RUN.checkpoints
    state: str = _RUN.state
    keep_checkpoints: int = _RUN.keep_checkpoints

    @property
    def lora(self) -> LoraSettings:
        return LoraSettings(*(getattr(self, name) for name in LORA))

    @property
    def schemes(self) -> dict[str, str]:
        return {"linear": self.linear, "embedding": self.embedding, "head": self.head}

    @property
    def how(self) -> Method:
        """What the method needs."""
        return METHODS[self.method]

    @property
    def directions(self) -> int:
        """Directions along which a step of a method without a backward pass estimates."""
        return self.queries or int(self.how.options.get("queries", 1) or 1)

    @property
    def together(self) -> int:
        """Rows that are computed side by side: runtime/engine/training/methods/mobizo.cc."""
        pairs = min(self.directions * self.rows, self.how.together // (2 * self.row_tokens))
        return min(2 * pairs, _MOST_TOGETHER) if pairs else 1

    def taken(self, layers: int) -> int:
        """Return how many of so many trained layers a step changes."""
        return min(layers, self.blocks or int(self.how.options.get("blocks", layers) or layers))

    def computed(self, layers: int) -> int:
        """Return how many of so many layers the device computes, from the lowest up."""
        return min(layers, self.cut or int(self.how.options.get("cut", layers) or layers))

    def skipped(self, layers: int) -> int:
        """Return how many of so many trained layers a step has no backward pass of."""
        return layers - self.taken(layers) if self.how.skips else 0

    @property
    def passes(self) -> int:
        """How often a step computes its gradients."""
        return 2 if self.max_grad_norm > 0 and self.clipping == "twice" else 1

    @property
    def keeps_gradients(self) -> bool:
        """Whether those of all layers are alive at once."""
        return self.max_grad_norm > 0 and self.clipping == "keep"

    @property
    def row_tokens(self) -> int:
        """Tokens that are computed together."""
        return self.seq_len * self.batch_size

    @property
    def rows(self) -> int:
        """Rows of a step, one after the other: its gradient accumulation."""
        return self.sequences // self.batch_size


LORA = ("rank", "alpha", "targets", "rslora", "rank_pattern", "alpha_pattern", "layers")
"""The settings of the adapter, in the order of `LoraSettings`."""
EXPORTED = ("seq_len", *LORA, "lowering", "linear", "embedding", "head")
"""The settings that a bundle's programs depend on; the others are those of a run."""


@dataclass(frozen=True)
class Machine:
    """Where a run takes place.

    Attributes:
        name: For people.
        available: Free memory in bytes, None where it is not known.
        measured: Whether the speed was measured there.
    """

    name: str = "a phone with four fast cores"
    kernels: Kernels = field(default_factory=Kernels)
    runtime_bytes: int = RUNTIME_BYTES
    available: int | None = None
    speed: Speed = ASSUMED
    measured: bool = False
