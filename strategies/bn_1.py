"""BN-1: batch normalisation by the statistics of the current test batch; nothing is learned.

Nado et al. 2020 (arXiv 2006.10963), Schneider et al., NeurIPS 2020 (arXiv 2006.16971).
"""

from clgym.adaptation import AdaptStrategy
from clgym.models.norm import batch_norms, use_batch_statistics


class BN1(AdaptStrategy):
    """Current batch statistics in every batch-normalisation layer."""

    DETERMINISTIC = True

    def prepare(self) -> None:
        """Drop the source's statistics."""
        batch_norms(self.model, "bn-1")
        use_batch_statistics(self.model)
