"""Nothing of a model may vanish on its way into the programs.

A family accounts for every parameter of its layers (`toolkit.families.family`); here the rest of
the model is held against what base.ptd will have.
"""

import copy
from collections.abc import Iterable

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from toolkit.families.parts import uncovered


def check_whole_model(config: PretrainedConfig, covered: Iterable[str]) -> None:
    """Check that a model has no parameter beside `covered`, names as in `transformers`.

    One layer stands for all here: a family looks at each of them.

    Raises:
        ToolkitError: Naming the first parameter that is not covered.
    """
    single = copy.deepcopy(config)
    single.num_hidden_layers = 1
    if getattr(config, "layer_types", None):
        single.layer_types = list(config.layer_types[:1])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(single)
    known = set(covered)
    for name, _ in model.named_parameters():
        if name not in known:
            raise uncovered(name.removeprefix("model."), config.model_type)
