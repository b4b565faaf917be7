"""Predict the memory and time of a training step from shapes alone.

The engine is modelled phase by phase: what it holds throughout (adapters, optimizer state,
gradients, hidden states, the runtime) plus what a phase adds (its arena, the kernels' scratch, the
weights that are resident). Scratch and hidden states keep the size they grew to.
"""

from dataclasses import astuple, dataclass, replace

from toolkit.planning.arena import arena_bytes
from toolkit.planning.cache import remembered
from toolkit.planning.checkpoints import Checkpoints, plan_checkpoints, plan_rows
from toolkit.planning.cost import Work, work_of
from toolkit.planning.graph import Operation, Program, Traced, from_json, to_json
from toolkit.planning.model import Model
from toolkit.planning.scratch import Kernels, scratch_of, without_a
from toolkit.planning.settings import EXPORTED, Machine, Settings
from toolkit.planning.state import LayerState
from toolkit.planning.weights import resident_weights
from toolkit.trace.schema import CATEGORIES


@dataclass(frozen=True)
class Phase:
    """One kind of phase. `memory`: bytes by category at its peak; `seconds` of all in a step."""

    name: str
    memory: dict[str, int]
    seconds: float

    @property
    def peak(self) -> int:
        return sum(self.memory.values())


@dataclass(frozen=True)
class Prediction:
    """A predicted step.

    Attributes:
        phases: embed, forward, head, backward where the method has one, optimizer.
        base_bytes: Size of the frozen weights in the bundle.
        adapter_parameters: Trained parameters.
        checkpoints: Where hidden states wait, and what that writes to flash.
        state: What is kept of every layer, where, and what that writes to flash.
        saved: Bytes that a save writes to flash: the adapter for use, with what a resume needs, and
            once more where checkpoints are kept.
    """

    settings: Settings
    machine: Machine
    phases: list[Phase]
    base_bytes: int
    adapter_parameters: int
    checkpoints: Checkpoints
    state: LayerState
    saved: int

    @property
    def highest(self) -> Phase:
        """The phase with the peak."""
        return max(self.phases, key=lambda phase: phase.peak)

    @property
    def peak(self) -> int:
        """Highest resident memory of the run, bytes."""
        return self.highest.peak

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by category of the ledger at the peak."""
        return self.highest.memory

    @property
    def seconds(self) -> float:
        """Time of a step."""
        return sum(phase.seconds for phase in self.phases)

    @property
    def tokens_per_second(self) -> float:
        return self.settings.seq_len * self.settings.sequences / self.seconds

    @property
    def written(self) -> int:
        """Bytes written to flash a step, for checkpoints and state that are spilled."""
        return self.settings.passes * self.checkpoints.written + self.state.written


class Planner:
    """Predicts steps of one model of a supported family."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._traced: dict[Settings, Traced] = {}

    def predict(self, settings: Settings, machine: Machine) -> Prediction:
        """Predict memory and time of a step.

        Raises:
            ToolkitError: The model or a setting is not supported.
        """
        return _Step(self.traced(settings), settings, machine).prediction()

    def programs(self, settings: Settings) -> dict[str, Program]:
        """Return the programs that an export with these settings would have."""
        return self.traced(settings).programs

    def traced(self, settings: Settings) -> Traced:
        """Return the model's programs, each traced once and remembered in the user's cache."""
        exported = replace(Settings(), **{n: getattr(settings, n) for n in EXPORTED})
        exported = replace(exported, seq_len=settings.row_tokens)
        if exported not in self._traced:
            what = ["programs", self.model.identity, astuple(exported)]
            self._traced[exported] = remembered(
                what, lambda: self._trace(exported), to_json, from_json
            )
        return self._traced[exported]

    def _trace(self, settings: Settings) -> Traced:
        # Imported here because it takes seconds, which a plan of a known shape need not wait for.
        from toolkit.planning.tracing import block_layers, trace_programs

        config = self.model.config
        blocks = block_layers(config, settings)
        return Traced(blocks, config.hidden_size, trace_programs(config, settings))


class _Step:
    def __init__(self, traced: Traced, settings: Settings, machine: Machine) -> None:
        self.traced, self.settings, self.machine = traced, settings, machine
        self.programs = traced.programs
        self.backward = settings.how.backward
        self.computed = settings.computed(traced.layers)
        self.methods = traced.methods(self.backward, self.computed)
        self.state = LayerState(traced, settings, machine.available)
        self.checkpoints = self._checkpoints()

    def _checkpoints(self) -> Checkpoints:
        traced, settings = self.traced, self.settings
        state, kept = settings.row_tokens * traced.hidden_size * 4, int(traced.keeps)
        if not self.backward:
            pairs = settings.rows * settings.directions
            return plan_rows(pairs, state, kept, settings.together)
        layers = self.computed - traced.lowest
        return plan_checkpoints(
            layers,
            settings.rows,
            state,
            settings.checkpoints,
            self.machine.available,
            below=traced.lowest,
            kept=kept,
            waiting=layers - settings.skipped(self.state.trained),
        )

    def prediction(self) -> Prediction:
        kernels = replace(self.machine.kernels, arithmetic=self.settings.arithmetic)
        b_alone = self.settings.freeze == "a"
        scratch = scratch_of_step(
            self.traced, kernels, self.backward, self.computed, b_alone, self.settings.together
        )
        scratch = max(scratch, self.state.scratch)
        phases = [self._phase(name, scratch) for name in dict.fromkeys(m[0] for m in self.methods)]
        # The optimizer finds arena and scratch as the last pass left them, and no weights.
        resting = {**phases[-1].memory, "base": 0, **self.state.held("optimizer")}
        phases.append(Phase("optimizer", resting, self._optimizer_seconds()))
        return Prediction(
            self.settings,
            self.machine,
            phases,
            self._base_bytes(),
            self.state.updated,
            self.checkpoints,
            self.state,
            self._saved_bytes(),
        )

    def _saved_bytes(self) -> int:
        copies = 3 if self.settings.keep_checkpoints else 2
        return copies * 4 * self.state.parameters + self.state.optimizer

    def _phase(self, name: str, scratch: int) -> Phase:
        """Return a phase at its peak, that of the kind of block which needs the most."""
        mine = [
            (self.programs[method], count) for phase, method, count in self.methods if phase == name
        ]
        memories = [self._memory(name, program, scratch) for program, _ in mine]
        seconds = sum(count * self._run_seconds(name, program) for program, count in mine)
        if name == "backward":
            layers = self.computed - self.traced.lowest
            seconds *= 1 - self.settings.skipped(self.state.trained) / layers
        return Phase(
            name,
            max(memories, key=lambda memory: sum(memory.values())),
            self.settings.passes * (seconds + self._storage_seconds(name)),
        )

    def _memory(self, phase: str, program: Program, scratch: int) -> dict[str, int]:
        sizes = {
            **self.state.held(phase),
            "base": resident_weights(program),
            "checkpoints": self.checkpoints.bytes,
            "arena": self._together(phase) * arena_bytes(program),
            "scratch": scratch,
            "runtime": self.machine.runtime_bytes + self.state.around(phase),
        }
        return {name: sizes[name] for name in CATEGORIES}

    def _together(self, phase: str) -> int:
        """Return how many runs of a phase's program share the unpacking of weights."""
        return self.settings.together if phase == "forward" else 1

    def _run_seconds(self, phase: str, program: Program) -> float:
        rows = self.settings.rows * (1 if self.backward else 2 * self.settings.directions)
        work: Work = work_of(program.operations).times(rows)
        work = replace(work, unpacked=work.unpacked / self._together(phase))
        return self.machine.speed.seconds(phase, work)

    def _storage_seconds(self, phase: str) -> float:
        speed = self.machine.speed
        if not self.backward:
            # Of every layer two copies are made beside its weights' passes.
            return self._directions_seconds() if phase == "forward" else 0.0
        times = {
            "forward": self.checkpoints.written / speed.written,
            "backward": self.checkpoints.read / speed.read,
        }
        return times.get(phase, 0.0)

    def _directions_seconds(self) -> float:
        """Return the time of drawing all directions of a step once."""
        return self.state.updated * self.settings.directions / self.machine.speed.updated

    def _optimizer_seconds(self) -> float:
        speed, state = self.machine.speed, self.state
        stored = state.written / speed.written
        if not self.backward:
            return self._directions_seconds() + stored
        passes = 1 + state.optimizer / (4 * state.updated)
        changed = state.updated * passes / speed.updated + state.low_rank / speed.low_rank
        return state.share * changed + stored

    def _base_bytes(self) -> int:
        shared: dict[str, int] = {}
        layers = 0
        for phase, method, count in self.methods:
            for value in self.programs[method].base:
                if "{layer}" not in value.name:
                    shared[value.name] = value.bytes
                elif phase == "forward":
                    layers += count * value.bytes
        return sum(shared.values()) + layers


def scratch_of_step(
    traced: Traced,
    kernels: Kernels,
    backward: bool = True,
    computed: int | None = None,
    b_alone: bool = False,
    together: int = 1,
) -> int:
    """Return the bytes of scratch that are resident once every operator of a step has run.

    Args:
        traced: The model's programs.
        kernels: What they run on.
        backward: Whether a step has a backward pass.
        computed: Layers that are computed, from the lowest up; None: all.
        b_alone: Whether no gradient of an adapter's A is computed.
        together: Rows that blocks compute side by side.
    """
    operations: dict[int, list[Operation]] = {}
    for phase, method, _ in traced.methods(backward, computed):
        rows = together if phase == "forward" else 1
        own = traced.programs[method].operations
        operations.setdefault(rows, []).extend(map(without_a, own) if b_alone else own)
    return max(scratch_of(some, kernels, rows) for rows, some in operations.items())
