"""How an operator is defined: one declaration gives schema, fake kernel, `.out` variant, autograd.

    @operator("double(Tensor x) -> (Tensor out)", shapes=lambda x: [x.shape])
    def double(x):
        '''y = 2 x.'''
        return 2 * x

    double.gradient("x", formula=lambda grad, x: double(grad))

`double` is then `torch.ops.toolkit.double` and `double.reference` the plain function above.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, ParamSpec, TypeVar

import torch
from torch import Tensor

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result", bound=Tensor | tuple[Tensor, ...])
Shapes = Callable[..., Iterable[Sequence[int]]]
Tensors = Tensor | tuple[Tensor, ...]
Dtypes = torch.dtype | Mapping[str, torch.dtype] | None

_LIBRARY = torch.library.Library("toolkit", "DEF")
_DECLARATION = re.compile(r"(\w+)\((.*)\) -> \((.*)\)")

OPERATORS: dict[str, "Operator[..., Any]"] = {}
"""Every operator of the library `toolkit`, by name."""


def weight(prefix: str = "") -> str:
    """Return the three arguments of a quantized weight, for a declaration."""
    p = f"{prefix}_" if prefix else ""
    return f"Tensor {p}codes, Tensor {p}scale, Tensor? {p}offset"


class Operator(Generic[Arguments, Result]):
    """A registered operator; calling it goes through the dispatcher."""

    def __init__(
        self,
        declaration: str,
        reference: Callable[Arguments, Result],
        shapes: Shapes,
        dtype: Dtypes = None,
    ) -> None:
        match = _DECLARATION.fullmatch(declaration)
        if match is None:
            raise ValueError(f"not a declaration: {declaration}")
        self.name, arguments, returns = match.groups()
        self.arguments = [argument.split()[-1] for argument in arguments.split(", ")]
        self.outputs = [output.split()[-1] for output in returns.split(", ")]
        self.reference = reference
        self.shapes = shapes
        self.dtype = dtype
        self.__doc__ = reference.__doc__
        self._define(arguments)
        self._dispatch: Callable[Arguments, Result] = getattr(torch.ops.toolkit, self.name).default
        OPERATORS[self.name] = self

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return self._dispatch(*args, **kwargs)

    def _define(self, arguments: str) -> None:
        several = len(self.outputs) > 1
        returns = ", ".join("Tensor" for _ in self.outputs)
        _LIBRARY.define(f"{self.name}({arguments}) -> {f'({returns})' if several else returns}")
        aliases = [f"Tensor({chr(ord('a') + i)}!)" for i in range(len(self.outputs))]
        outs = ", ".join(f"{a} {name}" for a, name in zip(aliases, self.outputs, strict=True))
        returns = f"({', '.join(aliases)})" if several else aliases[0]
        _LIBRARY.define(f"{self.name}.out({arguments}, *, {outs}) -> {returns}")
        _LIBRARY.impl(self.name, self._compute, "CPU")
        _LIBRARY.impl(f"{self.name}.out", self._compute_out, "CPU")
        torch.library.register_fake(f"toolkit::{self.name}", self._fake, lib=_LIBRARY)
        torch.library.register_fake(f"toolkit::{self.name}.out", self._fake_out, lib=_LIBRARY)

    def _compute(self, *args: object) -> Tensors:
        return self._returned([output.contiguous() for output in self._computed(args)])

    def _compute_out(self, *args: object, **out: Tensor) -> Tensors:
        for name, value in zip(self.outputs, self._computed(args), strict=True):
            out[name].copy_(value)
        return self._fake_out(**out)

    def _fake(self, first: Tensor, *others: object) -> Tensors:
        usual = first.dtype if first.is_floating_point() else torch.float32
        if isinstance(self.dtype, Mapping):
            dtypes = [self.dtype.get(name, usual) for name in self.outputs]
        else:
            dtypes = [self.dtype or usual] * len(self.outputs)
        shapes = self.shapes(first, *others)
        pairs = zip(shapes, dtypes, strict=True)
        return self._returned([first.new_empty(shape, dtype=dtype) for shape, dtype in pairs])

    def _fake_out(self, *_: object, **out: Tensor) -> Tensors:
        return self._returned([out[name] for name in self.outputs])

    def _computed(self, args: Iterable[object]) -> Sequence[Tensor]:
        reference: Callable[..., Tensors] = self.reference
        return _listed(reference(*args))

    def _returned(self, outputs: Sequence[Tensor]) -> Tensors:
        return tuple(outputs) if len(self.outputs) > 1 else outputs[0]

    def gradient(
        self,
        *names: str,
        formula: Callable[..., Tensors],
        saved: str | Sequence[str] = (),
        outputs: int = 1,
    ) -> None:
        """Register the autograd formula.

        It gets the gradients of the first `outputs` outputs (the others have none), all arguments,
        and the outputs named by `saved` as keywords. It returns the gradients of the arguments
        `names`, of which those of an argument that is None are not used.
        """
        kept = [saved] if isinstance(saved, str) else list(saved)

        def setup_context(ctx: Any, inputs: tuple[object, ...], output: Tensors) -> None:
            computed = dict(zip(self.outputs, _listed(output), strict=True))
            is_tensor = [isinstance(value, Tensor) for value in inputs]
            ctx.constants = [None if t else v for v, t in zip(inputs, is_tensor, strict=True)]
            ctx.is_tensor = is_tensor
            ctx.save_for_backward(
                *(v for v, t in zip(inputs, is_tensor, strict=True) if t),
                *(computed[name] for name in kept),
            )
            ctx.mark_non_differentiable(*list(computed.values())[outputs:])
            ctx.set_materialize_grads(outputs > 1)

        def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
            if grads[0] is None:  # undefined, which autograd takes for zero
                return (None,) * len(self.arguments)
            tensors = iter(ctx.saved_tensors)
            args = [
                next(tensors) if is_tensor else constant
                for is_tensor, constant in zip(ctx.is_tensor, ctx.constants, strict=True)
            ]
            of_outputs = grads[:outputs]
            results = _listed(formula(*of_outputs, *args, **dict(zip(kept, tensors, strict=True))))
            gradients = dict(zip(names, results, strict=True))
            needed = dict(zip(self.arguments, ctx.needs_input_grad, strict=True))
            for name in self.arguments:
                if needed[name] and name not in gradients:
                    raise RuntimeError(f"toolkit::{self.name} has no gradient for {name!r}")
            return tuple(gradients[n] if needed[n] else None for n in self.arguments)

        torch.library.register_autograd(
            f"toolkit::{self.name}", backward, setup_context=setup_context, lib=_LIBRARY
        )


def _listed(result: Tensors) -> Sequence[Tensor]:
    return [result] if isinstance(result, Tensor) else result


def operator(
    declaration: str, *, shapes: Shapes, dtype: Dtypes = None
) -> Callable[[Callable[Arguments, Result]], Operator[Arguments, Result]]:
    """Turn a reference function into an `Operator`.

    Args:
        declaration: Schema with named outputs; a single output is called `out`.
        shapes: The outputs' shapes, from the same arguments.
        dtype: The outputs', of all or by name; otherwise that of the first argument, or float32 if
            that holds integers.
    """
    return lambda reference: Operator(declaration, reference, shapes, dtype)
