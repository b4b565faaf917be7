"""The declaration of a run's settings: values, defaults, what belongs together."""

import numpy as np
import pytest

from toolkit.errors import ToolkitError
from toolkit.settings.merging import merged
from toolkit.settings.methods import METHODS
from toolkit.settings.training import FLAGS, SETTINGS, TrainSettings


def refused(*arguments, **values):
    with pytest.raises(ToolkitError) as error:
        TrainSettings.of(*arguments) if arguments else TrainSettings(**values)
    return str(error.value)


def test_values_are_checked_when_they_are_made():
    assert refused(learning_rate=-1.0) == "--lr -1.0 is not between 0 and 1000"
    assert refused(steps=0) == "--steps 0 is not between 1 and 9e+15"
    assert refused(steps=2.5) == "--steps takes a whole number, not 2.5"
    assert refused(seed=True) == "--seed takes a whole number, not True"
    assert refused(learning_rate=float("nan")) == "--lr takes a number, not nan"
    assert refused(optimizer="adam") == "--optimizer adam is unknown. Did you mean adamw?"
    assert refused(schedule="x") == "--schedule x is unknown. Use constant or linear or cosine"
    assert "--min-lr is above --lr" in refused(schedule="linear", min_learning_rate=1.0)
    assert "--schedule linear or cosine" in refused(min_learning_rate=1e-5)
    assert "--patience needs --eval-every. Give" in refused(patience=3)
    assert "--patience needs --eval-every" in refused(patience=3, eval_every=0)
    assert "--keep best goes by held-out loss" in refused(keep="best")
    assert "both --steps and --epochs" in refused(steps=1, epochs=1)
    assert "--clipping twice says how a norm is kept to" in refused(clipping="twice")
    assert "--beta1 is not an option of --optimizer sgd" in refused(optimizer="sgd", beta1=0.9)


def test_a_word_that_is_nearly_one_gets_a_suggestion():
    assert refused({"learningrate": 1}).startswith("the run has an unknown setting 'learningrate'")
    assert refused({"learningrate": 1}).endswith("Did you mean learning-rate?")
    assert refused({"warmup_step": 1}).endswith("Did you mean warmup-steps?")
    assert "has 'lr' twice" in refused({"lr": 1e-3, "learning_rate": 1e-3})


def test_numbers_may_be_words_since_yaml_reads_5e_4_as_one():
    assert TrainSettings.of({"lr": "5e-4", "steps": "10"}).flags()["lr"] == 5e-4
    assert TrainSettings(max_grad_norm=1).max_grad_norm == 1.0
    assert type(TrainSettings.of({"steps": 10.0}).steps) is int


def test_numbers_may_be_those_of_numpy():
    settings = TrainSettings(steps=np.int64(5), learning_rate=np.float32(0.5), seed=np.uint8(3))
    assert settings == TrainSettings(steps=5, learning_rate=0.5, seed=3)
    assert [type(v) for v in (settings.steps, settings.learning_rate)] == [int, float]
    assert refused(seed=np.bool_(True)) == "--seed takes a whole number, not np.True_"


def test_flags_give_the_same_settings_again():
    settings = TrainSettings(steps=5, learning_rate=5e-4, optimizer="lion", beta1=0.8)
    assert TrainSettings.of(settings.flags()) == settings
    assert "beta2" not in settings.flags() and settings.flags()["lr"] == 5e-4


@pytest.mark.parametrize(
    ("optimizer", "beta2", "momentum"),
    [("adamw", 0.999, None), ("lion", 0.99, None), ("sgd", None, 0)],
)
def test_an_optimizers_own_defaults_are_in_effect(optimizer, beta2, momentum):
    effective = TrainSettings(optimizer=optimizer).effective()
    assert (effective.beta2, effective.momentum) == (beta2, momentum)
    assert FLAGS["beta2"].default_text == "0.999, lion 0.99"


def test_what_wins_is_what_is_said_last():
    base = {"steps": 10, "lr": 0.1, "optimizer": "adamw", "beta1": 0.8}
    assert merged(base, {"lr": 0.2, "seed": None}) == base | {"lr": 0.2}
    ending = {"schedule": "cosine", "min-lr": 1e-5}
    assert merged(ending, {"schedule": "linear"}) == {"schedule": "linear", "min-lr": 1e-5}
    assert merged(ending, {"schedule": "constant"}) == {"schedule": "constant"}
    given = {"schedule": "constant", "min-lr": 1e-6}
    assert merged(ending, given) == given  # which is refused: both were asked for
    assert merged(base, {"epochs": 2.0}) == {f: base[f] for f in base if f != "steps"} | {
        "epochs": 2.0
    }
    assert merged(base, {"optimizer": "sgd"}) == {"steps": 10, "lr": 0.1, "optimizer": "sgd"}
    assert merged(base, {"optimizer": "adamw"}) == base


def test_a_method_that_updates_settles_the_optimizer():
    mezo = TrainSettings(method="mezo")
    assert mezo.optimizer == "sgd" and TrainSettings.of(mezo.flags()) == mezo
    assert (mezo.effective().zo_eps, TrainSettings().effective().zo_eps) == (1e-3, None)
    for values, flag in (
        ({"optimizer": "lion"}, "optimizer"),
        ({"optimizer": "adamw"}, "optimizer"),
        ({"optimizer": "sgd", "momentum": 0.9}, "momentum"),
    ):
        message = refused({"method": "mezo", **values})
        assert "--method mezo changes the adapter itself, as --optimizer sgd would" in message
        assert f"reads no --{flag}" in message
    for values in (
        {"max-grad-norm": 1.0},
        {"max-grad-norm": 1.0, "clipping": "twice"},
        {"checkpoints": "spill"},
    ):
        assert "is not an option of --method mezo" in refused({"method": "mezo", **values})
    assert "--zo-eps is not an option of --method exact" in refused(zo_eps=0.01)
    assert FLAGS["zo-eps"].default_text == f"{METHODS['mezo'].options['zo-eps']:g}"


def test_another_method_leaves_what_the_one_before_read():
    base = {"lr": 0.1, "optimizer": "adamw", "max-grad-norm": 1.0, "checkpoints": "spill"}
    assert merged(base, {"method": "exact"}) == base | {"method": "exact"}
    assert merged(base, {"method": "mezo"}) == {"lr": 0.1, "method": "mezo"}
    mezo = {"method": "mezo", "optimizer": "sgd", "zo-eps": 0.01}
    assert merged(mezo, {"method": "exact"}) == {"method": "exact"}


@pytest.mark.parametrize(
    ("epochs", "samples", "together", "steps"),
    [
        (1, 10, 1, 10),
        (2, 10, 4, 5),
        (1, 10, 4, 3),
        (0.5, 10, 1, 5),
        (0.01, 10, 1, 1),
        (0.3, 10, 1, 3),
    ],
)
def test_epochs_are_counted_from_the_data(epochs, samples, together, steps):
    settings = TrainSettings(epochs=epochs, grad_accum=together).for_samples(samples)
    assert (settings.steps, settings.epochs) == (steps, None)


def test_a_run_has_a_length():
    for settings, remedy in (
        (TrainSettings(), "--steps or --epochs"),
        (TrainSettings(epochs=1), "--steps"),
    ):
        with pytest.raises(ToolkitError, match=remedy):
            settings.for_samples(None)
    assert TrainSettings(steps=3).for_samples(None).steps == 3


def test_every_setting_says_what_it_is():
    lines = TrainSettings.help().splitlines()
    assert len(lines) == len(SETTINGS) and all(known.help for known in SETTINGS)
    assert "learning_rate: Learning rate.  [default: 0.0001]" in lines
