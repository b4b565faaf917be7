"""The layers above a cut, with the loss, their adapters and these adapters' optimizer."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.bundle.bundle import Bundle
from toolkit.errors import ToolkitError
from toolkit.oracle.batch import loss_sum
from toolkit.oracle.model import adapter_parameters, build_model
from toolkit.settings.optimizers import OPTIMIZERS
from toolkit.settings.training import TrainSettings
from toolkit.splitting.questions import Floats, Question

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class _Below(nn.Module):
    """Stands for a layer below the cut: returns what the device computed, or passes it on."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.given: Tensor | None = None
        # Models choose masks and rotary tables by it.
        self.attention_type = getattr(layer, "attention_type", None)

    def forward(self, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        return hidden_states if self.given is None else self.given


class UpperLayers:
    """Layers `cut` and above in PyTorch, float32, over a bundle's dequantized weights.

    An update is made when it is known that the device has made its own of that step: with the next
    question. A step that the device dropped leaves nothing behind.

    Attributes:
        step: Steps whose updates are made.
    """

    def __init__(self, bundle: Bundle, settings: TrainSettings, adapter: Path | None) -> None:
        """Build them.

        Args:
            settings: Of the run, with all defaults filled in.
            adapter: An adapter .ptd that the run begins with; None: the bundle's.
        """
        assert settings.cut is not None
        self.step = 0
        self._pending: Question | None = None
        self._ratio = settings.lora_plus_ratio
        self._model = build_model(bundle, adapter)
        blocks = cast("PreTrainedModel", self._model.get_base_model()).model.layers
        if settings.cut >= len(blocks):
            raise ToolkitError(f"--cut {settings.cut} leaves no layer above it")
        for i in range(settings.cut):
            blocks[i] = _Below(blocks[i])
        self._below: _Below = blocks[settings.cut - 1]
        self._adapters = adapter_parameters(self._model)
        factors = {"lora_A": settings.learning_rate, "lora_B": 0.0}
        groups = [
            {"params": [p for name, p in self._adapters.items() if f".{factor}." in name], "lr": lr}
            for factor, lr in factors.items()
        ]
        self._optimizer = OPTIMIZERS[settings.optimizer].reference(groups, settings)

    def answer(self, question: Question) -> tuple[float, float, Floats]:
        """Return sum of losses, squared norm of the upper gradients, and gradient [S, T, D].

        Raises:
            ToolkitError: The step does not follow the last one.
        """
        assert question.rows is not None and question.hidden is not None
        self._settle(question.step - 1)
        self._model.zero_grad(set_to_none=True)
        total, gradients = 0.0, []
        for i, hidden in enumerate(torch.from_numpy(question.hidden)):
            leaf = hidden[None].clone().requires_grad_()
            self._below.given = leaf
            loss = loss_sum(self._model, question.rows, i)
            (loss / question.labelled).backward()
            total += loss.item()
            assert leaf.grad is not None
            gradients.append(leaf.grad.numpy())
        self._pending = question
        grads = (p.grad for p in self._adapters.values() if p.grad is not None)
        squares = sum(float(grad.double().square().sum()) for grad in grads)
        return total, squares, np.concatenate(gradients)

    def values(self, question: Question) -> list[Floats]:
        """Return the adapters that a save asks for, after its step."""
        self._settle(question.step)
        if set(question.names) != set(self._adapters):
            raise ToolkitError(
                "the run on the device trains other adapters than the bundle here has",
                "Give the bundle that was deployed",
            )
        return [self._adapters[name].detach().numpy() for name in question.names]

    def named(self) -> dict[str, Tensor]:
        """Return the adapters by the names of adapter.ptd."""
        return {name: value.detach() for name, value in self._adapters.items()}

    def reaches(self, step: int) -> bool:
        """Return whether `step` steps are done here, with the update that waits or without."""
        waits = self._pending is not None and self._pending.step == step
        return waits or self.step == step

    def states(self) -> list[tuple[bytes, int]]:
        """Return what `load` takes for every step that the device may be at, with the step.

        The update that waits is made.
        """
        found = [(self.state(), self.step)]
        if self._pending is not None:
            self._settle(self._pending.step)
            found.append((self.state(), self.step))
        return found

    def state(self) -> bytes:
        """Return adapters and the optimizer's state after `step` steps."""
        out = io.BytesIO()
        optimizer = self._optimizer.state_dict()
        state = {"adapters": self.named(), "optimizer": optimizer, "step": self.step}
        torch.save(state, out)
        return out.getvalue()

    def load(self, content: bytes) -> None:
        """Go on from what `state` returned."""
        state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
        with torch.no_grad():
            for name, value in self._adapters.items():
                value.copy_(state["adapters"][name])
        # Betas and the like are the run's, which a resume may have changed.
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({**state["optimizer"], "param_groups": groups})
        self.step, self._pending = state["step"], None

    def _settle(self, step: int) -> None:
        """Make the update that waits if `step` steps are done, else forget it."""
        pending, self._pending = self._pending, None
        if pending is not None and pending.step == step:
            self._update(pending.lr)
            self.step = step
        if self.step != step:
            raise ToolkitError(
                f"the device is at step {step} and this computer at {self.step}",
                "Resume the run with `toolkit train --resume`",
            )

    def _update(self, lr: float) -> None:
        for group, ratio in zip(self._optimizer.param_groups, (1.0, self._ratio), strict=True):
            group["lr"] = lr * ratio
        self._optimizer.step()
