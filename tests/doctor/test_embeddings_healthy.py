"""Healthy embeddings of all sorts: no error, hardly a warning."""

import numpy as np
import pytest

import mohs

CASES = {
    "well trained": {"noise": 0.4},
    "moderately trained": {"noise": 1.0},
    "weak": {"noise": 1.6},
    "few classes": {"num_classes": 5, "per_class": 20},
    "many classes of two": {"num_classes": 500, "per_class": 2, "dim": 64},
    "few dimensions": {"num_classes": 20, "dim": 4, "noise": 0.3},
    "unequal classes": {"unequal": True},
    "any length": {"unit": False},
    "lengths that vary": {"unit": False, "lengths": 0.3},
    "float16": {"form": np.float16},
    "rounded to three decimals": {"form": lambda x: x.round(3)},
    "families of classes": {"families": 6},
    "two families": {"families": 2},
    "classes of unequal width": {"widths": 0.5},
    "falling variances": {"falling": True},
    "positive features": {"positive": True},
    "not centred": {"offset": 1.0},
}


def made(
    seed,
    *,
    num_classes=100,
    per_class=4,
    dim=32,
    noise=0.7,
    unequal=False,
    unit=True,
    lengths=0.0,
    form=np.float32,
    families=0,
    widths=0.0,
    falling=False,
    positive=False,
    offset=0.0,
):
    """Return training, test, and queries of the test classes: rows and labels, of the same network."""
    random = np.random.default_rng(seed)
    scale_D = np.arange(1, dim + 1) ** -0.5 if falling else np.ones(dim)

    def part(first):
        size_C = random.geometric(0.25, num_classes) + 1 if unequal else np.full(num_classes, per_class)
        class_N = np.repeat(np.arange(num_classes), size_C)
        centre_CD = random.normal(size=(num_classes, dim))
        if families:
            centre_CD += 1.5 * random.normal(size=(families, dim))[np.arange(num_classes) % families]
        width_C = np.exp(widths * random.normal(size=num_classes))

        def rows(class_N):
            x_ND = (
                centre_CD[class_N] + noise * width_C[class_N, None] * random.normal(size=(len(class_N), dim))
            ) * scale_D
            x_ND = np.maximum(x_ND, 0) if positive else x_ND
            x_ND = x_ND + offset
            x_ND *= np.exp(lengths * random.normal(size=(len(class_N), 1)))
            return form((x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True) if unit else x_ND).astype(np.float32))

        return rows(class_N), class_N + first, rows(np.arange(num_classes)), np.arange(num_classes) + first

    train, train_labels, _, _ = part(10_000)
    return train, train_labels, *part(0)


@pytest.mark.parametrize("case", CASES)
def test_healthy_embeddings_have_no_error_and_hardly_a_warning(case):
    train, train_labels, test, labels, queries, query_labels = made(0, **CASES[case])
    found = mohs.diagnose(
        embeddings=test,
        labels=labels,
        train_embeddings=train,
        train_labels=train_labels,
        query_embeddings=queries,
        query_labels=query_labels,
    ).findings
    causes = {each.cause for each in found if each.severity != "note"}
    # Lengths that vary for no reason are a reason to divide by them.
    assert causes <= ({"normalisation-missing"} if case == "lengths that vary" else set()), [
        each.what for each in found
    ]
    assert all(each.severity != "error" for each in found)
