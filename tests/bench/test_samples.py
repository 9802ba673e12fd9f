"""Samples in a row become stretches."""

from bench.samples import Sample, Stretch, stretches

SAMPLES = [
    Sample(0.0, "before", 10, 0, 0),
    Sample(1.0, "before", 50, 100, 40),
    Sample(2.0, "held", 40, 200, 80),
    Sample(4.0, "held", 90, 300, 100),
]


def test_by_phase() -> None:
    assert stretches(SAMPLES, lambda sample: sample.phase) == [
        Stretch(0.0, 1.0, "before", 50, 100.0, 40.0),
        Stretch(1.0, 4.0, "held", 90, 200 / 3, 20.0),
    ]


def test_a_stretch_has_the_phase_it_ended_in() -> None:
    (only,) = stretches(SAMPLES, lambda sample: 0)
    assert only == Stretch(0.0, 4.0, "held", 90, 75.0, 25.0)


def test_no_samples_are_no_stretches() -> None:
    assert stretches([], lambda sample: 0) == []


def test_a_first_sample_alone_has_no_rate() -> None:
    assert stretches(SAMPLES[:1], lambda sample: 0) == [Stretch(0.0, 0.0, "before", 10, 0.0, 0.0)]
