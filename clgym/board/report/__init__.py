"""Reports: one page about a run, a method or a study."""
