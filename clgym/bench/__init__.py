"""Benchmarks of speed and memory: clgym against a bare loop and against Avalanche.

Both sides of a comparison run in turn, in one process or as two programs, and the result is the
ratio of their processor times: it states the cost of clgym on any machine, loaded or not.
Benchmarks are not part of the test suite, which measures no times.
"""
