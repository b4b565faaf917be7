"""Training data: documents in, fixed-length token sequences with labels out."""
