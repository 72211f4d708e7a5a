"""The adaptation phase of a run: unlabelled batches are sent, predictions scored on arrival.

The learner's process gets the images of one batch at a time and nothing else.
"""

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from clgym.gym.arrival import in_order_of_arrival
from clgym.gym.conversation import Conversation, OnEvent
from clgym.gym.images import StreamImages
from clgym.gym.phase import Arrays, Kind, PhaseCost, add_numbers, start_message
from clgym.gym.plan import ResolvedRun
from clgym.gym.testing import TestLearners
from clgym.messages import (
    TRAINED,
    Adapt,
    AdaptationStart,
    ClassifierIdentity,
    FillClassifiers,
    LoggedNumbers,
    NumbersLogged,
    Scored,
    Start,
    StreamFacts,
    TrainProgress,
)
from clgym.results.online_errors import confidence, scores
from clgym.results.series import Series
from clgym.streams.adaptation import AdaptationStream, Batch
from clgym.streams.arrangement import segment_labels

__all__ = ["AdaptationPhase"]


class AdaptationPhase:
    """Sends all batches of an adaptation stream in order."""

    kind: Kind = "adaptation"

    def __init__(
        self,
        run: ResolvedRun,
        stream: AdaptationStream,
        conversation: Conversation,
        learners: TestLearners,
        on_event: OnEvent,
        order_key: str,
        after: int = 0,
    ) -> None:
        """Prepare the phase, without a request to the learner.

        Args:
            run: The run that is carried out.
            stream: The adaptation stream, or the adaptation phase of the run's stream.
            conversation: Conversation with the learner.
            learners: Trains the classifier that the strategy begins with, if the cache lacks it.
            on_event: Called with progress and scores.
            order_key: Key of the order of images; see `clgym.gym.withheld_order`.
            after: Number of experiences that the learner has learned before in this run.
        """
        self._run, self._stream, self._after = run, stream, after
        self._order_key = order_key
        self._conversation, self._learners, self._emit = conversation, learners, on_event
        self._batches = stream.batches()
        self._predicted = [np.zeros(len(s.row), np.int32) for s in stream.segments]
        self._confidence = [np.zeros(len(s.row), np.float32) for s in stream.segments]
        self._seconds, self._passes = np.zeros(len(stream)), np.zeros(2, np.int64)
        self.images, self.series = 0, Series()
        # number of all batches, and of those that are already in a piece
        self._answered = self._in_pieces = 0
        self._cost_in_pieces = (self._seconds.copy(), self._passes.copy())
        self._images: StreamImages | None = None
        self.first_step = 0
        self.initial_state: Path | None = None

    def __len__(self) -> int:
        """Count the batches."""
        return len(self._batches)

    def experience(self, step: int) -> int:
        """Number of a batch's segment, counted on from the experiences learned before."""
        return self._after + self._batches[step][0][0]

    def prepare(self) -> None:
        """Generate or map the images of every domain, and complete the cache of classifiers."""
        run, classifier = self._run, self._run.needs.classifier
        if classifier == TRAINED and self._stream.home is not None:
            self._learners.fill_classifiers(
                FillClassifiers(start=self.start_message(), classifier=classifier)
            )
        self._images = StreamImages(
            self._arriving, run.sources, run.request.data_root, run.threads, self._emit
        )

    @cached_property
    def _arriving(self) -> AdaptationStream:
        """The stream with its rows in the order of arrival."""
        stream, run = self._stream, self._run
        planned = segment_labels(stream, run.sources, run.request.data_root)
        return in_order_of_arrival(stream, planned, self._order_key)

    @cached_property
    def labels(self) -> list[np.ndarray]:
        """Class index of every image, by segment; the labels stay on this side."""
        run = self._run
        found = segment_labels(self._arriving, run.sources, run.request.data_root)
        if self._after:  # class indices follow the order in which the classes were learned
            columns = np.array(run.stream.columns[0])
            found = [columns[labels] for labels in found]
        return found

    def start_message(self) -> Start:
        """Build the strategy for this stream."""
        run, stream = self._run, self._stream
        channels = stream.image_shape[0]
        source = run.sources[stream.home or 0]
        root = run.request.data_root
        home, home_labels, home_max = self._home()
        return start_message(
            run,
            info=StreamFacts(
                image_shape=stream.image_shape,
                setting="adaptation",
                device=run.request.device,
                seed=run.request.seed,
                mean=tuple(source.mean or (0.0,) * channels),
                std=tuple(source.std or (1.0,) * channels),
                total_columns=len(stream.class_order),
                single_pass=True,
            ),
            adaptation=AdaptationStart(
                batch_size=stream.batch_size,
                classes=stream.class_order,
                fingerprint=source.fingerprint,
                data_root=root and root.resolve(),
                home=home,
                home_labels=home_labels,
                home_max=home_max,
            ),
        )

    def _home(self) -> tuple[tuple[Path, ...], np.ndarray, int]:
        """Files of the source domain's images, their labels, and the maximum pixel value."""
        stream, sources = self._stream, self._run.sources
        if stream.home is None:
            return (), np.zeros(0, np.int64), 1
        splits = stream.home_splits(sources)
        labels = np.concatenate([split.labels for split in splits]).astype(np.int64)
        return tuple(Path(split.path) for split in splits), labels, sources[stream.home].max_value

    def carry_out(self, step: int) -> None:
        """Send the images of one batch, and receive logits."""
        assert self._images is not None
        batch, stream = self._batches[step], self._stream
        first, places = batch[0]
        reply = self._conversation.adapt(
            Adapt(
                images=np.concatenate([self._images.gather(*part) for part in batch]),
                number=step,
                reset=first > 0 and places.start == 0 and stream.reset_each_segment,
                num_seen_classes=len(stream.class_order),
            )
        )
        predicted, sure = reply.logits.argmax(1), confidence(reply.logits)
        self._put(batch, predicted, sure)
        for segment, places in batch:
            share = (places.stop - places.start) / len(predicted)
            self._seconds[segment] += reply.seconds * share
        self._passes += (reply.forward, reply.backward)
        self._answered = step + 1
        self.images += len(predicted)
        for segment, places in batch:
            self._emit_progress(segment, places.stop)
        if reply.logged is not None:
            self._add_numbers(step, reply.logged)

    def _add_numbers(self, step: int, logged: LoggedNumbers) -> None:
        """Store and report numbers that the strategy logged at a batch, which counts as a step."""
        segment, places = self._batches[step][-1]
        count, number = len(logged.name), self._after + segment
        here = replace(logged, step=np.full(count, step + 1))
        add_numbers(self.series, here, number, self.images)
        inside = replace(here, images=np.full(count, places.stop))
        self._emit(NumbersLogged(experience=number, numbers=inside))

    def _put(self, batch: Batch, predicted: np.ndarray, sure: np.ndarray) -> None:
        """Store predictions and confidences of a batch at the places of its images."""
        start = 0
        for segment, places in batch:
            end = start + places.stop - places.start
            self._predicted[segment][places] = predicted[start:end]
            self._confidence[segment][places] = sure[start:end]
            start = end

    def _emit_progress(self, segment: int, done: int) -> None:
        """Report the number of predicted images of a segment, and its score at the end."""
        total, number = len(self._predicted[segment]), self._after + segment
        self._emit(TrainProgress(experience=number, step=done, steps=total, images=done))
        if done == total:
            self._emit_score(segment)

    def _emit_score(self, segment: int) -> None:
        accuracy = float((self._predicted[segment] == self.labels[segment]).mean())
        self._emit(
            Scored(
                name=self._stream.segments[segment].name,
                experience=self._after + segment,
                experiences=self._after + len(self._stream),
                row=[accuracy],
                accuracy=accuracy,
                images=len(self._predicted[segment]),
            )
        )

    def is_boundary(self, step: int) -> bool:
        """Whether a step is the last one of the stream."""
        return step + 1 == len(self)

    def test(self, step: int, state: Path) -> None:
        """Do nothing: every batch is scored anyway."""

    def saved(self, step: int) -> None:
        """Do nothing: no files are kept for the steps since the last save."""

    def take_piece(self) -> Arrays:
        """Predictions for the batches since the last piece, and their costs."""
        batches = self._batches[self._in_pieces : self._answered]
        parts = [part for batch in batches for part in batch]
        seconds, passes = self._cost_in_pieces
        piece = {
            "batches": np.array([self._answered]),
            "predicted": np.concatenate([self._predicted[s][places] for s, places in parts]),
            "confidence": np.concatenate([self._confidence[s][places] for s, places in parts]),
            "seconds": self._seconds - seconds,
            "passes": self._passes - passes,
        }
        self._close_piece()
        return piece

    def _close_piece(self) -> None:
        self._in_pieces = self._answered
        self._cost_in_pieces = (self._seconds.copy(), self._passes.copy())

    def restore(self, piece: Arrays) -> None:
        """Restore the predictions of a piece."""
        self._answered = int(piece["batches"][0])
        batches = self._batches[self._in_pieces : self._answered]
        parts = tuple(part for batch in batches for part in batch)
        self.images += len(piece["predicted"])
        self._put(parts, piece["predicted"], piece["confidence"])
        self._seconds += piece["seconds"]
        self._passes += piece["passes"]
        self._close_piece()

    def predictions(self) -> Arrays:
        """Predictions, confidences, labels, domains and rows of every segment."""
        prefix = "shift/" if self._after else ""
        joined: Arrays = {}
        for i, segment in enumerate(self._arriving.segments):
            joined |= {
                f"{prefix}{i}/predicted": self._predicted[i],
                f"{prefix}{i}/confidence": self._confidence[i],
                f"{prefix}{i}/label": self.labels[i].astype(np.int32),
                f"{prefix}{i}/domain": segment.domain.astype(np.int32),
                f"{prefix}{i}/row": segment.row,
            }
        return joined

    def measures(self, classifier: ClassifierIdentity | None) -> dict[str, object]:
        """The adaptation block of the record."""
        stream, config = self._stream, self._run.strategy_config
        measured = scores(
            [s.name for s in stream.segments],
            [s.domain for s in self._arriving.segments],
            [d.name for d in stream.domains],
            self.labels,
            self._predicted,
            self._confidence,
            stream.class_order,
        )
        assert classifier is not None
        named = {key.rpartition(".")[2]: value for key, value in config.items()}  # if wrapped, too
        # The gym can count passes only of a classifier that it provided, not of a learned one.
        counted = None if self._after else self._passes / sum(map(len, self._predicted))
        return {
            "adaptation": {
                **measured,
                "model": {"name": classifier.name, "sha256": classifier.sha256},
                "predict": named.get("predict", "before"),
                "batch_size": stream.batch_size,
                "reset_each_segment": stream.reset_each_segment,
                "forward_per_image": None if counted is None else float(counted[0]),
                "backward_per_image": None if counted is None else float(counted[1]),
            }
        }

    def conduct(self) -> dict[str, object]:
        """No comparison is made, since predictions may depend on earlier batches."""
        return {}

    def cost(self) -> PhaseCost:
        """Seconds of each segment."""
        images, seconds = sum(map(len, self._predicted)), float(self._seconds.sum())
        return PhaseCost(
            train_seconds=[],
            predict_seconds=self._seconds.tolist(),
            train_images=0,
            images_per_second=images / max(seconds, 1e-9),
        )
