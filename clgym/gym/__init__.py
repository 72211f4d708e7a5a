"""The gym's side of a run, which holds the labels: it sends requests, scores and writes the record.

Nothing here imports torch, a strategy or the learner's side, as a contract in CI and a test verify.
"""
