"""Predict a training step's memory and time before anything is exported, and fit it to a budget."""
