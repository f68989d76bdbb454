"""Who is anchor, positive and negative where some pictures are catalog pictures: references of their class.

=============  ==================================  ==========================  ============
`anchors`      anchors                             positives                   negatives
=============  ==================================  ==========================  ============
`any`          samples                             as `prefer` says            all pictures
`sample`       samples                             catalog pictures first      all pictures
`catalog`      catalog pictures                    samples                     samples
=============  ==================================  ==========================  ============

Classes that lack what is asked for: with `any` a class without samples has its catalog pictures for anchors; with
`sample` it is never an anchor. With `catalog` a class without catalog pictures has its samples for anchors, in turns,
and one without samples has another catalog picture for positive, or an augmentation of the anchor.

`catalog` is the way of the code published with sigmoid hardness sequencing, and of a product search, which compares a
photo with a catalog.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from mohs.errors import InputError, Problem
from mohs.mining.positives import choose_positives
from mohs.sequence import anchor_sequence

__all__ = ["Anchors", "Roles", "anchor_items", "choose_roles", "num_without_catalog", "without_catalog"]

Anchors: TypeAlias = Literal["any", "sample", "catalog"]


@final
@dataclass(frozen=True, eq=False)
class Roles:
    """T anchors with their positives.

    Attributes:
        anchors_T, positives_T: items, int64[T].
        origin_T: where positives come from, uint8[T] into `mohs.plan.POSITIVE_ORIGINS`.
    """

    anchors_T: NDArray[np.int64]
    positives_T: NDArray[np.int64]
    origin_T: NDArray[np.uint8]


def choose_roles(
    labels_N: NDArray[np.generic],
    catalog_N: NDArray[np.bool_],
    num_triplets: int,
    *,
    anchors: Anchors,
    prefer: Literal["class", "catalog"] = "class",
    seed: int,
    name: str = "anchors",
) -> Roles:
    """Return who is what in a run of T triplets; the table at the top says how.

    Anchors come in the order of `mohs.anchor_sequence`, positives are drawn by `mohs.choose_positives`. `prefer` is for
    `anchors="any"`: which positive comes first. Raises `InputError` as `anchor_items` does, under `name`.

    >>> labels, catalog = np.array(["a", "a", "b", "b"]), np.array([True, False, True, False])
    >>> roles = choose_roles(labels, catalog, 4, anchors="catalog", seed=0)
    >>> sorted(roles.anchors_T.tolist()), sorted(roles.positives_T.tolist())
    ([0, 0, 2, 2], [1, 1, 3, 3])
    """
    items = anchor_items(labels_N, catalog_N, anchors, name=name)
    anchors_T = items[anchor_sequence(labels_N[items], num_triplets, seed=seed)]
    first: Literal["class", "catalog"] = prefer if anchors == "any" else "catalog" if anchors == "sample" else "class"
    positives_T, origin_T = choose_positives(labels_N, anchors_T, seed=seed, catalog_N=catalog_N, prefer=first)
    return Roles(anchors_T, positives_T, origin_T)


def anchor_items(
    labels_N: NDArray[np.generic], catalog_N: NDArray[np.bool_], anchors: Anchors, *, name: str = "anchors"
) -> NDArray[np.int64]:
    """Return the items that take turns as anchors, int64, ascending.

    Raises `InputError` for "catalog" if there are no catalog pictures, or samples of one class alone, which leaves no
    negatives, or none of the catalog's classes; and for "sample" if there are no samples.
    """
    if anchors == "catalog":
        sampled = np.unique(labels_N[~catalog_N])
        if not catalog_N.any():
            what = f"'catalog', but none of the {len(labels_N)} pictures is a catalog picture"
            raise InputError(Problem(name, what, "give a catalog, or use 'any'"))
        if len(sampled) < 2:
            num_classes = len(np.unique(labels_N))
            what = f"'catalog' takes samples for negatives, and {len(sampled)} of {num_classes} classes has samples"
            raise InputError(Problem(name, what, "it needs 2 or more: add samples, or use 'any'"))
        if not np.isin(sampled, labels_N[catalog_N]).any():
            what = "'catalog' takes samples for positives, and no class of the catalog has one"
            raise InputError(Problem(name, what, "write the classes alike in catalog and table, or use 'any'"))
        return np.flatnonzero(catalog_N | ~np.isin(labels_N, labels_N[catalog_N]))
    if anchors == "sample":
        if catalog_N.all():
            raise InputError(
                Problem(name, f"'sample', but all {len(labels_N)} pictures are catalog pictures", "use 'any'")
            )
        return np.flatnonzero(~catalog_N)
    return np.flatnonzero(~catalog_N | ~np.isin(labels_N, labels_N[~catalog_N]))


def without_catalog(num_classes: int, of: int) -> str:
    """Return what is said of classes without a catalog picture.

    >>> without_catalog(1, 300)
    'classes without a catalog picture: 1 of 300; a sample is their anchor'
    """
    return f"classes without a catalog picture: {num_classes:,} of {of:,}; a sample is their anchor"


def num_without_catalog(labels_N: NDArray[np.generic], catalog_N: NDArray[np.bool_]) -> int:
    """Return how many classes have no catalog picture.

    >>> num_without_catalog(np.array(["a", "a", "b"]), np.array([True, False, False]))
    1
    """
    return len(np.unique(labels_N)) - len(np.unique(labels_N[catalog_N]))
