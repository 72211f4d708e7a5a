"""Records and studies found, read, and checked against themselves."""
