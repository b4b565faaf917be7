"""Group quantization: schemes that choose codes, and the packed form they are stored in."""
