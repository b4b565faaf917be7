"""config.json of a model."""

from pathlib import Path

from transformers import PretrainedConfig


def save_config(directory: Path, config: PretrainedConfig) -> None:
    """Write config.json, which names the model's class, as GGUF files and recipes do not."""
    if not getattr(config, "architectures", None):
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

        config.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[config.model_type]]
    config.save_pretrained(directory)
