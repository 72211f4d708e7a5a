"""Measurements of speed and memory: the gym's own work beside a bare loop and beside Avalanche.

Both sides of a comparison run in turn, in one process or as two programs, and the figure is the
ratio of their processor times: it says what clgym costs on any machine, loaded or not. Never part
of the test suite, which has no clock.
"""
