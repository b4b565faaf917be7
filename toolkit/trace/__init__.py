"""Traces: schema, tolerant reader, analysis, summary and report."""
