"""The side of a run that holds the answers: it asks, scores and keeps the record.

Nothing here imports torch, a strategy or the learner's side: a contract in CI and a test see to it.
"""
