"""The Python API, as `toolkit` exports it; the command line is a layer over it."""
