"""What a run can be asked for: one declaration each, held against `trainer describe` by a test."""
