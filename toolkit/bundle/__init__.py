"""What an export writes: programs, quantized base, adapter, tokenizer and manifest."""
