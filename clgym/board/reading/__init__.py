"""Find, read and check records and studies."""
