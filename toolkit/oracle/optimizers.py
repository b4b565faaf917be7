"""Update rules that torch.optim does not have: what the engine's are held against.

Each is written from its paper. Operations stand alone, so that nothing is rounded another way than
the engine's, which contracts nothing.
"""

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toolkit.data.splitmix import splitmix64


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

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state, in the types that it has: torch rounds it to the parameters'."""
        super().load_state_dict(state_dict)
        parameters = [p for group in self.param_groups for p in group["params"]]
        for index, state in state_dict["state"].items():
            self.state[parameters[index]] = deepcopy(state)

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
        read: Tensor = dequant_with_qmap(codes, values, scale)
        return read.view_as(moment)


class AdaLomo(Rule):
    """AdaLomo (arXiv 2310.10195), its equations with the floors of its code."""

    def __init__(
        self,
        parameters: Any,
        lr: float,
        decay_rate: float,
        eps: float,
        clip: float,
        floor: float,
        decay: float,
    ) -> None:
        super().__init__(parameters, lr)
        self.decay_rate, self.eps, self.clip = decay_rate, eps, clip
        self.floor, self.decay = floor, decay

    def change(self, p: Tensor, g: Tensor, state: dict[str, Any], lr: float) -> None:
        new = state["step"] ** -self.decay_rate
        squares = g.double() ** 2 + self.eps
        for name, dim in (("row", -1), ("column", -2)):
            mean = squares.mean(dim, keepdim=True)
            state[name] = (1 - new) * state.get(name, torch.zeros_like(mean)) + new * mean
        update = g / (state["row"] / state["row"].mean() * state["column"]).sqrt()
        update /= max(1.0, float(update.square().mean().sqrt()) / self.clip)
        rate = lr * max(self.floor, float(p.double().square().mean().sqrt()))
        p *= 1 - rate * self.decay
        p -= (rate * update).float()


class Apollo(Rule):
    """APOLLO and APOLLO-Mini (arXiv 2412.05270) with the engine's random projection."""

    def __init__(
        self,
        parameters: Any,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        decay: float,
        *,
        rank: int,
        gap: int,
        scale: float,
        by_channel: bool,
    ) -> None:
        super().__init__(parameters, lr)
        self.betas, self.eps, self.decay = betas, eps, decay
        self.rank, self.gap, self.scale, self.by_channel = rank, gap, scale, by_channel

    def change(self, p: Tensor, g: Tensor, state: dict[str, Any], lr: float) -> None:
        t = state["step"]
        tall = g.shape[0] >= g.shape[1]
        channels = (g if tall else g.T).double()
        raw = channels @ self.projection((t - 1) // self.gap, channels.shape[1]).T
        m = state["m"] = self.mean(state.get("m"), raw, self.betas[0])
        v = state["v"] = self.mean(state.get("v"), raw * raw, self.betas[1])
        moved = m / (v.sqrt() + self.eps)
        dim = 1 if self.by_channel else (0, 1)
        factor = moved.norm(dim=dim, keepdim=True) / (raw.norm(dim=dim, keepdim=True) + 1e-8)
        scaled = channels * factor
        norm, before = float(scaled.norm()), state.get("norm", 0.0)
        limit = max(norm / (before + 1e-8), 1.01) / 1.01 if before > 0 else 1.0
        state["norm"] = norm / limit
        scaled *= self.scale**0.5 / limit
        correction = (1 - self.betas[1] ** t) ** 0.5 / (1 - self.betas[0] ** t)
        p -= (lr * correction * (scaled if tall else scaled.T)).float()
        p -= lr * self.decay * p

    @staticmethod
    def mean(before: Tensor | None, value: Tensor, decay: float) -> Tensor:
        """Return a moving average that begins with zeros."""
        old = torch.zeros_like(value) if before is None else before
        return decay * old + (1 - decay) * value

    def projection(self, epoch: int, width: int) -> Tensor:
        """Return normal numbers of variance 1 / rank, float64 [rank, width]."""
        count = self.rank * width
        pairs = -(-count // 2)
        numbers = splitmix64(epoch, 2 * pairs) >> np.uint64(11)
        uniform = torch.from_numpy(numbers.astype(np.float64) * 2.0**-53).reshape(pairs, 2)
        radius = (-2 * torch.log1p(-uniform[:, 0])).sqrt()
        angle = 2 * torch.pi * uniform[:, 1]
        normal = torch.stack([radius * angle.cos(), radius * angle.sin()], 1).flatten()[:count]
        deviation: float = self.rank**-0.5
        return normal.reshape(self.rank, width) * deviation


class Mlorc(Rule):
    """MLorc (arXiv 2506.01897) with exact singular values."""

    def __init__(
        self,
        parameters: Any,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        decay: float,
        rank: int,
    ) -> None:
        super().__init__(parameters, lr)
        self.betas, self.eps, self.decay, self.rank = betas, eps, decay, rank

    def change(self, p: Tensor, g: Tensor, state: dict[str, Any], lr: float) -> None:
        t, wide = state["step"], g.double()
        m, v = (state.get(name, torch.zeros_like(wide)) for name in ("m", "v"))
        if (v < 0).any():
            v = torch.where(v < 0, v[v < 0].abs().mean(), v)
        m = self.betas[0] * m + (1 - self.betas[0]) * wide
        v = self.betas[1] * v + (1 - self.betas[1]) * wide * wide
        state["m"], state["v"] = self.compressed(m), self.compressed(v)
        correction = (1 - self.betas[1] ** t) ** 0.5 / (1 - self.betas[0] ** t)
        p -= (lr * correction * m / (v.sqrt() + self.eps)).float()
        p -= lr * self.decay * p

    def compressed(self, moment: Tensor) -> Tensor:
        """Return the nearest matrix of the rank."""
        if self.rank >= min(moment.shape):
            return moment
        left, values, right = torch.linalg.svd(moment, full_matrices=False)
        nearest: Tensor = (left[:, : self.rank] * values[: self.rank]) @ right[: self.rank]
        return nearest
