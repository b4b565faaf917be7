"""What leaves for other programs: merged models, adapters for llama.cpp, the card of a run."""
