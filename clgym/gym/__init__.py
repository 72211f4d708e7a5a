"""The gym's side of a run, which holds the labels: it asks, scores and writes the record.

Nothing here imports torch, a strategy or the learner's side: a contract in CI and a test see to it.
"""
