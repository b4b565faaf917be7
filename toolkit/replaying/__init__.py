"""Making the adapter of a zeroth-order run again from the list of its estimates."""
