"""Where a run takes place, declared once as its settings are."""

from dataclasses import dataclass

from toolkit.settings.declaration import Setting, setting, settings_of


@dataclass(frozen=True)
class Places:
    """Where a run takes place, what it works on and where it is shown, beside its settings."""

    device: str = setting(
        "local", "local, ./FOLDER of this machine, a phone's SERIAL, or HOST:PORT.", source="host"
    )
    out: str | None = setting(None, "Name of the run on the device.", source="host")
    bundle: str | None = setting(
        None, "Bundle on the device (default: the last sent).", source="host"
    )
    data: str | None = setting(None, "Data on the device (default: the last sent).", source="host")
    adapter: str | None = setting(
        None, "Start from this adapter instead of the bundle's: a folder that peft saved or "
        "`toolkit pull` brought, or an adapter.ptd.", source="host",
    )  # fmt: skip
    tensorboard: str | None = setting(
        None, "Show the steps in TensorBoard: a folder, which gets one for every run.",
        source="host",
    )  # fmt: skip
    csv: str | None = setting(
        None, "Write the steps to this CSV file, a row for each.", source="host"
    )
    wandb: str | None = setting(
        None, "Show the steps in this project of Weights & Biases.", source="host"
    )


PLACES: tuple[Setting, ...] = settings_of(Places)
