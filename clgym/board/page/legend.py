"""How to read the board: one paragraph for each term."""

from clgym.board.figures.profiles import LEAST
from clgym.board.reading.entries import BY_AUTHOR, BY_HAND
from clgym.board.stats import MOST_LETTERED, RESAMPLES

__all__ = ["LEGEND"]

LEGEND = (
    (
        "Mean, interval",
        "The mean over the seeds of a row, with its 95 % interval in brackets: a stratified "
        f"percentile bootstrap over seeds ({RESAMPLES:,} resamples). There is no interval for one "
        "seed, or if all seeds have the same accuracy. With two or three seeds the interval is "
        "too narrow.",
    ),
    (
        "Rank",
        "Rows are sorted by their mean. Each stream has one table, in which the rows of the "
        "modes transfer and default are ranked together: both were evaluated on the same seeds, "
        "and neither looked at the evaluation stream. Rows of other modes stand beside them "
        "without a rank, unless the table has no others. A rank is an interval, such as 2–4: one "
        "more than the "
        "number of rows that are significantly better, up to the number of ranked rows minus "
        "those that are significantly worse. A difference is significant if its 95 % interval "
        "(Student's t, paired by seed where both rows have the same seeds, else Welch's) excludes "
        "zero. The intervals are not corrected for the number of pairs. Rows with a single seed "
        "or a failed seed are not ranked.",
    ),
    (
        "Group",
        "A compact letter display: two rows that share a letter do not differ significantly, two "
        f"rows that share none do. Tables with more than {MOST_LETTERED} ranked rows have no "
        "letters.",
    ),
    (
        "Tuning",
        "The mode of a row: the data that tuning could use to choose hyper-parameters. Runs "
        f"without a certificate are marked {BY_HAND}: whoever set the hyper-parameters may have "
        "looked at test results. These runs have separate tables.",
    ),
    (
        "Overview",
        "For each method and stream the best number that may be compared: it is verified and "
        "complete, the learner had its own process, the whole stream was run, hyper-parameters "
        "were tuned without the evaluation stream or not at all, and the learner kept no more "
        "than it declared. Where a method has several such rows, the cell says of how many it is "
        "the best. A circle marks a method that has rows on the stream, but none of this kind; "
        "the stream's table shows them. The shade goes from the worst to the best number of a "
        "column.",
    ),
    (
        "transfer, default",
        "transfer: hyper-parameters were tuned on other data, the tuning side of a "
        "pair. default: the strategy's default hyper-parameters, without tuning. If the author "
        f"set other values, the mode is {BY_AUTHOR} and the row has no rank beside these two, "
        "since the values could have been chosen with a look at the evaluation stream.",
    ),
    (
        "Claims of papers",
        "A number is reproduced if it lies within the tolerance. An order of two methods is "
        "reproduced if the 95 % interval of their difference excludes zero, and within noise "
        "otherwise. The size of a reported difference (by ... points) is shown but not tested. "
        "The word in brackets says how a claim is known: verified (read in the paper), log (read "
        "in the authors' log), abstract (read in the abstract), remembered (not looked up "
        "again), inferred (follows from the method, and so holds by construction), own (stated "
        "by no paper). Full scale is the size of the paper's experiment and lite scale a smaller "
        "one; they are counted separately.",
    ),
    (
        "Performance profile",
        "Share of streams in which a method's error is at most x times the lowest error of all "
        "rows on that stream. The figure shows methods that have results on all of these streams; "
        f"it needs {LEAST} methods and {LEAST} streams. If a strategy has several variants, the "
        "one whose options occur in most tables is shown (on a tie, the first in alphabetical "
        "order), whatever its scores.",
    ),
    (
        "verified",
        "Accuracies, errors and forgetting were recomputed from the stored predictions; for an "
        "evaluation, certificate, ledger and records were audited as well. No run was repeated. "
        "Times, memory and parameter counts are those stated in the records.",
    ),
    (
        "self-reported",
        "The numbers agree with the record's accuracy matrix, but the predictions of some runs "
        "are missing, so that the matrix itself cannot be checked.",
    ),
    (
        "Time",
        "Wall-clock time: for an evaluation, of all tuning trials and all seeds; for other rows, "
        "of one run. Compare times only between rows with the same device; a row's details name "
        "it.",
    ),
    (
        "Warnings",
        "Facts that limit what a row shows: images or weights that differ from the published ones, "
        "classes that the pretraining data also contain, failed or missing seeds, seeds with "
        "identical results, earlier studies and evaluations, declared failures of checks, or a "
        "strategy file that is missing or has changed. Those that hold for all rows of a table "
        "stand above it.",
    ),
    (
        "Backbone, memory, paper",
        "Pretrained backbone or network; the largest number of samples that a run stored, with the "
        "bytes of all that its predictions did not depend on, and the declared budget; the paper "
        "that the strategy's file cites first, with its year. Where a strategy is wrapped by "
        "another one, it is the paper of the outer one.",
    ),
)
