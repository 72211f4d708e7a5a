"""Adaptation streams: unlabelled batches, each answer scored as it is given.

Floor 2 holds what such a stream is (`stream`, `orders`, `images`, `scores`) and what a test-time
method is (`strategy`); floor 3 the gym's and the learner's side of a run (`run`, `learner`).
"""
