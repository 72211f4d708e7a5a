"""A run, a method or a study as a page of its own."""
