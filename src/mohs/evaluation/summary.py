"""All first metrics of one embedding of a test set, under one protocol."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final

import numpy as np
import numpy.typing as npt

from mohs.errors import InputError
from mohs.evaluation.retrieval import RetrievalResult, evaluate_all_against_all, evaluate_retrieval
from mohs.evaluation.spread import Spread, spread
from mohs.evaluation.triplets import TripletAccuracy, triplet_accuracy

__all__ = ["Measured", "Protocol", "measure"]

Protocol: TypeAlias = Literal["unseen classes", "seen classes", "classes seen and unseen"]


@final
@dataclass(frozen=True, eq=False)
class Measured:
    """What `measure` found.

    Attributes:
        protocol: "unseen classes": every test item is a query against all other test items, and no test class was
            trained on. "classes seen and unseen": the same, but some were. "seen classes": every test item is a query
            against the training items.
        retrieval: recall@1/5/10/50, mAP and more under that protocol.
        catalog: the same for queries of role "sample" against the catalog items alone; none without a catalog.
            Its recall@1 is the catalog accuracy.
        triplets: accuracy on random triplets of test items; none if no class has two of them.
        spread: of the test items' embeddings.
    """

    protocol: Protocol
    retrieval: RetrievalResult
    catalog: RetrievalResult | None
    triplets: TripletAccuracy | None
    spread: Spread

    def as_record(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        record: dict[str, Any] = {"protocol": self.protocol, "retrieval": _record(self.retrieval)}
        record["catalog"] = None if self.catalog is None else _record(self.catalog)
        record["triplet_accuracy"] = None
        if self.triplets is not None:
            record["triplet_accuracy"] = {
                "accuracy": self.triplets.accuracy,
                "interval": list(self.triplets.interval),
                "num_triplets": self.triplets.num_triplets,
            }
        record["spread"] = {"std_sqrt_dim": self.spread.std_sqrt_dim, "effective_rank": self.spread.effective_rank}
        return record


def measure(
    embeddings_ND: npt.ArrayLike,
    labels_N: npt.ArrayLike,
    roles_N: npt.ArrayLike,
    *,
    test_N: npt.ArrayLike | None = None,
    protocol: Protocol | None = None,
    seed: int = 0,
) -> Measured:
    """Return all metrics of embeddings of a test set.

    Args:
        embeddings_ND: float [N, D].
        labels_N: classes, [N].
        roles_N: "sample" or "catalog", [N].
        test_N: none: all items are test items, and each is a query against all others. Else bool [N]: those are
            queries, and the rest, training items of the same classes, is the gallery.
        protocol: what to call it; none: "unseen classes" without `test_N`, "seen classes" with it.
        seed: of the bootstrap and of the random triplets.

    Raises `InputError` if no query has an item of its class to find.
    """
    x_ND = np.asarray(embeddings_ND)
    labels = np.asarray(labels_N)
    catalog_N = np.asarray(roles_N) == "catalog"
    test = np.ones(len(labels), dtype=bool) if test_N is None else np.asarray(test_N, dtype=bool)
    protocol = protocol or ("unseen classes" if test_N is None else "seen classes")
    if test_N is None:
        retrieval = evaluate_all_against_all(x_ND, labels, seed=seed)
    else:
        retrieval = evaluate_retrieval(x_ND[test], labels[test], x_ND[~test], labels[~test], seed=seed)
    queries_N = test & ~catalog_N
    catalog = None
    if np.isin(labels[queries_N], labels[catalog_N]).any():
        catalog = evaluate_retrieval(x_ND[queries_N], labels[queries_N], x_ND[catalog_N], labels[catalog_N], seed=seed)
    try:
        triplets = triplet_accuracy(x_ND[test], labels[test], seed=seed)
    except InputError:  # no class has two test items: there is no triplet to ask about
        triplets = None
    return Measured(protocol, retrieval, catalog, triplets, spread(x_ND[test]))


def _record(result: RetrievalResult) -> dict[str, Any]:
    return {
        **result.metrics,
        "intervals": {name: list(interval) for name, interval in result.intervals.items()},
        "num_queries": result.num_queries,
        "num_gallery": result.num_gallery,
        "num_queries_without_match": result.num_queries_without_match,
    }
