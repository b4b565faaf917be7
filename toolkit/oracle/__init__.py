"""The strongest oracle: the `transformers` model with `peft` LoRA, trained by PyTorch."""
