"""Fine-tune language models on the phone: export, deploy, train, pull, analyze.

    bundle = toolkit.export("HuggingFaceTB/SmolLM2-135M-Instruct", "bundle", seq_lens=[256])
    data = toolkit.prepare_data(["chats.jsonl"], tokenizer=bundle, output="data")
    with toolkit.open_device("local") as device:
        device.deploy(bundle, data)
        run = device.train("run1", toolkit.TrainSettings(steps=50, learning_rate=5e-4))
        for step in run:
            print(step.loss, step.peak_bytes)
        result = run.pull("runs/run1")
    print(result.analysis.peak, result.adapter_path)

Nothing is imported before it is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.api.devices import Deployment, Device, open_device
    from toolkit.api.exchanging import convert, merge
    from toolkit.api.federating import Federated, federate
    from toolkit.api.finetuning import finetune
    from toolkit.api.generating import generate, open_talker
    from toolkit.api.judging import EvaluationReport, evaluate, verify
    from toolkit.api.making import export
    from toolkit.api.planning import Plan, plan
    from toolkit.api.preparing import DataSet, prepare_data
    from toolkit.api.reading import analyze, compare
    from toolkit.api.replaying import Replayed, replay
    from toolkit.api.runs import Result, Step, TrainingRun
    from toolkit.api.talking import Reply, Talker
    from toolkit.api.tasks import TasksReport, evaluate_tasks
    from toolkit.bundle.bundle import Bundle
    from toolkit.errors import ToolkitError
    from toolkit.oracle.verification import Verification
    from toolkit.settings.generation import ReplySettings
    from toolkit.settings.training import TrainSettings
    from toolkit.trace.analysis import Analysis
    from toolkit.trace.comparison import RunComparison
    from toolkit.tracking.csv_file import CsvFile
    from toolkit.tracking.tensorboard import TensorBoard
    from toolkit.tracking.wandb import Wandb

__version__ = "0.1.0"

BUNDLE_FORMAT_VERSION = 4
"""Of bundles written and read. Raise it, here, in the trainer and in the app, whenever a bundle
made before would no longer run: a changed operator or file."""

_PLACES = {
    "Analysis": "toolkit.trace.analysis",
    "Bundle": "toolkit.bundle.bundle",
    "CsvFile": "toolkit.tracking.csv_file",
    "DataSet": "toolkit.api.preparing",
    "Deployment": "toolkit.api.devices",
    "Device": "toolkit.api.devices",
    "EvaluationReport": "toolkit.api.judging",
    "Federated": "toolkit.api.federating",
    "Plan": "toolkit.api.planning",
    "Replayed": "toolkit.api.replaying",
    "Reply": "toolkit.api.talking",
    "ReplySettings": "toolkit.settings.generation",
    "Result": "toolkit.api.runs",
    "RunComparison": "toolkit.trace.comparison",
    "Step": "toolkit.api.runs",
    "Talker": "toolkit.api.talking",
    "TasksReport": "toolkit.api.tasks",
    "TensorBoard": "toolkit.tracking.tensorboard",
    "ToolkitError": "toolkit.errors",
    "TrainSettings": "toolkit.settings.training",
    "TrainingRun": "toolkit.api.runs",
    "Verification": "toolkit.oracle.verification",
    "Wandb": "toolkit.tracking.wandb",
    "analyze": "toolkit.api.reading",
    "compare": "toolkit.api.reading",
    "convert": "toolkit.api.exchanging",
    "evaluate": "toolkit.api.judging",
    "evaluate_tasks": "toolkit.api.tasks",
    "export": "toolkit.api.making",
    "federate": "toolkit.api.federating",
    "finetune": "toolkit.api.finetuning",
    "generate": "toolkit.api.generating",
    "merge": "toolkit.api.exchanging",
    "open_device": "toolkit.api.devices",
    "open_talker": "toolkit.api.generating",
    "plan": "toolkit.api.planning",
    "prepare_data": "toolkit.api.preparing",
    "replay": "toolkit.api.replaying",
    "verify": "toolkit.api.judging",
}

__all__ = [
    "BUNDLE_FORMAT_VERSION",
    "Analysis",
    "Bundle",
    "CsvFile",
    "DataSet",
    "Deployment",
    "Device",
    "EvaluationReport",
    "Federated",
    "Plan",
    "Replayed",
    "Reply",
    "ReplySettings",
    "Result",
    "RunComparison",
    "Step",
    "Talker",
    "TasksReport",
    "TensorBoard",
    "ToolkitError",
    "TrainSettings",
    "TrainingRun",
    "Verification",
    "Wandb",
    "__version__",
    "analyze",
    "compare",
    "convert",
    "evaluate",
    "evaluate_tasks",
    "export",
    "federate",
    "finetune",
    "generate",
    "merge",
    "open_device",
    "open_talker",
    "plan",
    "prepare_data",
    "replay",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'toolkit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
