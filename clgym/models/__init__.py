"""Networks: classifiers that can be asked for features and logits."""
