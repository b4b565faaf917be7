"""Prompts, and replies as text; what computes is the device."""
