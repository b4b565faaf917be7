"""Trackers: where the steps of a run are shown while they come: TensorBoard, a CSV file, W&B."""
