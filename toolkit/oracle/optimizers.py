"""Update rules that torch.optim does not have: what the engine's are held against.

Each is written from its paper. Operations stand alone, so that nothing is rounded another way than
the engine's, which contracts nothing.
"""

from typing import Any

import torch
from torch import Tensor


class Rule(torch.optim.Optimizer):
    """An update rule: `change` is called with a parameter, its gradient and what is remembered."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Change every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                state["step"] = state.get("step", 0) + 1
                self.change(parameter, parameter.grad, state, group["lr"])

    def change(self, p: Tensor, g: Tensor, state: dict[str, Any], lr: float) -> None:
        """Update a parameter in place."""
        raise NotImplementedError


class Lion(Rule):
    """Algorithm 2 of arXiv 2302.06675."""

    def __init__(
        self, parameters: Any, lr: float, betas: tuple[float, float], decay: float
    ) -> None:
        super().__init__(parameters, lr)
        self.betas, self.decay = betas, decay

    def change(self, p: Tensor, g: Tensor, state: dict[str, Any], lr: float) -> None:
        mean = state.setdefault("mean", torch.zeros_like(p))
        mixed = self.betas[0] * mean + (1 - self.betas[0]) * g
        p -= lr * (mixed.sign() + self.decay * p)
        mean.lerp_(g, 1 - self.betas[1])


class Lomo(Rule):
    """Algorithm 1 of arXiv 2306.09782, with the decay of its code."""

    def __init__(self, parameters: Any, lr: float, decay: float) -> None:
        super().__init__(parameters, lr)
        self.decay = decay

    def change(self, p: Tensor, g: Tensor, state: dict[str, Any], lr: float) -> None:
        p *= 1 - lr * self.decay
        p -= lr * g


class AdamW8bit(Rule):
    """AdamW whose moments are rounded by torchao's maps after every step (arXiv 2110.02861)."""

    BLOCK, SMALL = 256, 4096

    def __init__(
        self, parameters: Any, lr: float, betas: tuple[float, float], eps: float, decay: float
    ) -> None:
        super().__init__(parameters, lr)
        self.betas, self.eps, self.decay = betas, eps, decay

    def change(self, p: Tensor, g: Tensor, state: dict[str, Any], lr: float) -> None:
        t, root = state["step"], 1 - self.betas[1] ** state["step"]
        m, v = (state.get(name, torch.zeros_like(p)) for name in ("m", "v"))
        m = m + (1 - self.betas[0]) * (g - m)
        v = v + (1 - self.betas[1]) * (g * g - v)
        state["m"], state["v"] = self.rounded(m, True), self.rounded(v, False)
        p -= lr * self.decay * p
        p -= lr * (m / (1 - self.betas[0] ** t)) / (v.sqrt() / root**0.5 + self.eps)

    def rounded(self, moment: Tensor, signed: bool) -> Tensor:
        """Return a moment as it is read back."""
        from torchao.optim.quant_utils import (
            create_dynamic_map,
            dequant_with_qmap,
            quantize_8bit_with_qmap,
            scale_tensor,
        )

        if moment.numel() < self.SMALL or moment.numel() % self.BLOCK:
            return moment
        values = torch.tensor(create_dynamic_map(signed))
        scaled, scale = scale_tensor(moment.flatten(), self.BLOCK)
        codes = quantize_8bit_with_qmap(scaled, values)
        return dequant_with_qmap(codes, values, scale).view_as(moment)
