"""Digits that come darker, and darker still, with some labels wrong."""

from pathlib import Path

import numpy as np

from clgym.scenario import (
    Scenario,
    ScenarioConfig,
    Step,
    Stream,
    Transform,
    noisy_labels,
    split_validation,
)

DARK = f"{Path(__file__).with_name('changes.py')}:darken"
LOOKS = [None, Transform(DARK, 0.5), Transform("blur", 1.0)]
VISITS = [0, 1, 0]
RECURS = True
MEASURED_AGAIN = False
NOISE = 0.25


class Changing(Scenario):
    """The same rows in every experience; the first look comes again at the end."""

    Config = ScenarioConfig
    DETERMINISTIC = True
    RECURRING = RECURS

    def stream(self, sources, order_seed):
        (source,) = sources
        rows = np.arange(len(source.train.labels))
        train, valid = split_validation(rows, source.train.labels, self.config.validation)
        classes = tuple(np.unique(source.train.labels).tolist())
        test, labels = np.arange(len(source.test.labels)), source.train.labels[train]
        steps = []
        for number, look in enumerate(VISITS):
            noisy = noisy_labels(labels, classes, NOISE, seed=number) if NOISE else None
            new = MEASURED_AGAIN or look not in VISITS[:number]
            steps.append(
                Step(
                    train,
                    test if new else test[:0],
                    classes,
                    valid if new else valid[:0],
                    transform=LOOKS[look],
                    labels=noisy,
                )
            )
        height, width, channels = source.train.images.shape[1:]
        return Stream(
            self.name,
            "domain-incremental",
            (source.name,),
            (source.fingerprint,),
            (channels, height, width),
            (tuple(range(len(classes))),),
            tuple(steps),
            source.classes[: len(classes)],
        )
