"""The classifier: a scikit-learn estimator on an embedder that does not change.

A little long, since scikit-learn wants all methods of an estimator in one class, each with its example.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from mohs.checks import numbers
from mohs.classify.calibration import (
    Calibration,
    CalibrationSource,
    few_pictures_warning,
    fit_calibration,
    out_of_fold_rows,
)
from mohs.classify.folder import SavedClassifier, load_classifier, save_classifier, weights_sha256
from mohs.classify.heads import Head, LinearTraining, ReferenceHead, Scores, fit_linear, head_of
from mohs.classify.inputs import (
    Method,
    are_pictures,
    check_parameters,
    checked_catalog,
    checked_classes,
    known_classes,
    plain_labels,
)
from mohs.classify.thresholds import Threshold, choose_threshold
from mohs.errors import InputError, TrainingError, reason_of
from mohs.evaluation.checked import Array, Bools, Float64, Index
from mohs.model.embedder import Embedder
from mohs.randomness import generator

__all__ = ["NONE_OF_THESE", "Classifier", "HeldOut"]

NONE_OF_THESE = "none of these"
"""What is predicted below the threshold, where classes are strings; -1 where they are numbers."""

# Without pictures to calibrate on. The linear head was trained at 1. For similarities, the fitted temperature was 0.04
# to 0.08 on two real sets with embedders trained by Mohs.
_UNCALIBRATED_TEMPERATURE = {"linear": 1.0, "nearest-neighbours": 0.07, "nearest-catalog": 0.07}

# Scores of the pictures that calibrate, a number each: 160 MB. Thousands of pictures fix eight numbers well enough.
_MAX_SCORES = 20_000_000


@final
@dataclass(frozen=True, eq=False)
class HeldOut:
    """What the classifier made of the K pictures that its calibration was fitted on; K is 0 without calibration.

    `confidence_K` is float64, see `Classifier.confidence`; `correct_K` says whether the class of the largest score was
    right.
    """

    confidence_K: Float64
    correct_K: Bools


@final
class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Says which class a picture is of, by a head on the embeddings of an embedder that is not changed.

    Follows scikit-learn's conventions for estimators: `get_params`, `set_params`, `clone`, `Pipeline`, `GridSearchCV`.
    Everywhere `X` is one of: uint8 pictures [N, H, W, C] prepared by the embedder's policy, a list of picture files, or
    embeddings, numbers [N, D], computed before (`embed` does); the first two need an embedder. Labels `y` are strings
    or whole numbers [N], of at least two classes.

    A *head* gives each class a score (`mohs.classify.heads`):
        linear: dropout, linear layer, log-softmax, trained by cross-entropy on embeddings computed once.
        nearest-neighbours: vote of the k nearest pictures by cosine similarity s, each with weight exp(s/0.07).
        nearest-catalog: cosine similarity to the nearest reference picture of the class. The references are the
            items that `fit` is told are catalog pictures, or else all items.

    *Probabilities* are a mixture of softmax(score/T) over several temperatures (`mohs.classify.calibration`). It
    is fitted on pictures that the head has not seen: those given as `held_out`; for nearest-catalog with a catalog, all
    other items; else by cross-validation, with `num_folds` heads fitted without the pictures of their fold. Of
    cross-validated and other items at most 2·10⁷/C are taken, drawn by `seed`. With one picture per class nothing can
    be held out: T is then one fixed guess (1 for linear, 0.07 for the others), and `calibration_.warning` says so.

    *None of these*: a picture is given no class if its confidence is below the threshold, `min_probability` (linear:
    its largest probability) or `min_similarity` (the others: its cosine similarity to the nearest picture of the class
    predicted). `find_threshold` chooses one from pictures of classes that were not fitted. The prediction is then
    "none of these", or -1 where classes are numbers.

    *Class imbalance*: as fitted, a linear head learns how frequent classes are, and neighbours vote more for frequent
    ones. `balanced=True` gives each class the same weight in the linear head's loss; nearest-catalog with one reference
    per class does not know frequencies at all. `score` counts each picture alike.

    Args:
        embedder: taken as it is, in evaluation mode; its weights are hashed before and after `fit` and `fit` raises if
            they changed. None: embeddings alone are taken.
        method: the head.
        dropout: linear: share of the embedding's elements set to 0 in training, in [0, 1).
        num_epochs: linear: how often each embedding is shown.
        learning_rate: linear: peak rate of AdamW, falling to 0 as a cosine.
        weight_decay: linear: of AdamW.
        balanced: linear: whether each class counts alike in the loss, rather than each picture.
        num_neighbours: nearest-neighbours: k; all pictures vote if there are fewer.
        min_probability: linear: threshold in [0, 1]; None: always a class.
        min_similarity: nearest-neighbours and nearest-catalog: threshold in [−1, 1]; None: always a class.
        num_folds: of the cross-validation, at least 2. Few folds leave a class of two pictures with one of them in
            every head, so that nearest-neighbours is never seen with two votes for a class: measured on an untrained
            embedder, 2 folds gave probabilities that were far too high, 5 did not.
        seed: of the linear head's weights, order and dropout, and of the folds.

    Attributes:
        classes_: the classes, sorted, [C].
        calibration_: temperatures, where they come from, and what is wrong with them.
        head_: the fitted head.
        held_out_: confidences of the pictures of the calibration.
        embedder_sha256_: of the embedder's weights, 64 hex digits; None without an embedder.
        fitted_params_: the parameters that `fit` depends on, as they were then.
        n_features_in_: D.
        facts_: after `load`, the `facts` given to `save`.

    >>> x_ND = np.random.default_rng(0).normal(size=(40, 8)) + 3 * np.eye(8)[np.arange(40) % 4]
    >>> labels = np.array(["ring", "cup", "shoe", "lamp"])[np.arange(40) % 4]
    >>> classifier = Classifier(method="nearest-neighbours").fit(x_ND, labels)
    >>> classifier.predict(3 * np.eye(8)[:2]).tolist()
    ['ring', 'cup']
    >>> classifier.set_params(min_similarity=0.5).predict(np.eye(8)[[0, 7]]).tolist()
    ['ring', 'none of these']
    """

    def __init__(
        self,
        embedder: Embedder | None = None,
        *,
        method: Method = "linear",
        dropout: float = 0.5,
        num_epochs: int = 50,
        learning_rate: float = 0.01,
        weight_decay: float = 0.01,
        balanced: bool = False,
        num_neighbours: int = 5,
        min_probability: float | None = None,
        min_similarity: float | None = None,
        num_folds: int = 5,
        seed: int = 0,
    ) -> None:
        self.embedder = embedder
        self.method = method
        self.dropout = dropout
        self.num_epochs = num_epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.balanced = balanced
        self.num_neighbours = num_neighbours
        self.min_probability = min_probability
        self.min_similarity = min_similarity
        self.num_folds = num_folds
        self.seed = seed

    def fit(
        self, X: Any, y: ArrayLike, *, catalog_N: ArrayLike | None = None, held_out: tuple[Any, ArrayLike] | None = None
    ) -> "Classifier":
        """Fit the head and its calibration, and return the classifier.

        Args:
            X: pictures, files or embeddings; see the class.
            y: the class of each.
            catalog_N: bool [N], which items are catalog pictures. nearest-catalog: these are the references (each class
                needs one) and the others calibrate. The other methods fit on all items alike.
            held_out: (X, y) of other pictures of these classes, to calibrate on; not fitted on.

        Raises:
            InputError: parameters out of range (all of them together); pictures, embeddings or labels that cannot be
                used; fewer than two classes; held-out classes that were not fitted; a class without a catalog picture
                where others have one.
            TrainingError: the loss became NaN, or the embedder's weights changed meanwhile.
        """
        check_parameters(self.get_params(deep=False))
        before = None if self.embedder is None else weights_sha256(self.embedder)
        x_ND, y_N = self._fit_inputs(X, y)
        classes, class_N = checked_classes(y_N, len(x_ND))
        fit_N = np.ones(len(x_ND), dtype=bool)
        if self.method == "nearest-catalog":
            fit_N = checked_catalog(catalog_N, class_N, classes)
        head = self._fit_head(x_ND[fit_N], class_N[fit_N], len(classes))
        source: CalibrationSource = "held-out pictures"
        if held_out is not None:
            other_KD = self._embeddings(held_out[0])
            class_K = known_classes(held_out[1], classes, len(other_KD))
            scores = head.score(other_KD)
        elif not fit_N.all():
            rows = self._some_rows(np.flatnonzero(~fit_N), len(classes))
            scores, class_K = head.score(x_ND[rows]), class_N[rows]
        else:
            scores, class_K = self._cross_validate(x_ND, class_N, len(classes))
            source = "cross-validation"
        self.classes_ = classes
        self.head_ = head
        self.calibration_ = (
            fit_calibration(scores.scores_NC, class_K, source)
            if len(class_K)
            else Calibration.guess(_UNCALIBRATED_TEMPERATURE[self.method])
        )
        if source == "cross-validation" and len(class_K):
            told = [self.calibration_.warning, few_pictures_warning(np.bincount(class_N)[class_K])]
            self.calibration_ = replace(self.calibration_, warning="; ".join(line for line in told if line))
        self.held_out_ = HeldOut(self._confidence(scores), scores.scores_NC.argmax(axis=1) == class_K)
        self.embedder_sha256_ = before
        self.fitted_params_ = self._params_of_fit()
        if self.embedder is not None and weights_sha256(self.embedder) != before:
            raise TrainingError(
                "embedder: its weights changed while the classifier was fitted; do not train it meanwhile"
            )
        return self

    def predict_proba(self, X: Any) -> Float64:
        """Return calibrated probabilities, float64[N, C] in the order of `classes_`; rows add up to 1.

        They are probabilities *given* that the picture is of one of these classes. The matrix takes 8·N·C bytes.
        """
        return np.exp(self.log_proba(X))

    def log_proba(self, X: Any) -> Float64:
        """Return the natural logarithm of `predict_proba`; finite where a probability would be rounded to 0."""
        scores_NC = self._score(X).scores_NC
        log_p_NC: Float64 = self.calibration_.log_proba(scores_NC)
        return log_p_NC

    def confidence(self, X: Any) -> Float64:
        """Return what the threshold is compared with, float64[N], larger is surer.

        linear: the largest probability. The other methods: the cosine similarity to the nearest reference of the class
        with the largest score.
        """
        return self._confidence(self._score(X))

    def predict(self, X: Any) -> Array:
        """Return the class of the largest score (of equals the first), or "none of these" (-1 for numbers), [N]."""
        check_parameters(self.get_params(deep=False))
        scores = self._score(X)
        predicted_N: Array = self.classes_[scores.scores_NC.argmax(axis=1)]
        if self.threshold is None:
            return predicted_N
        none = self.none_of_these
        if none in self.classes_:
            raise InputError(f"y: a class is named {none!r}, which is what is predicted below the threshold; rename it")
        return np.where(self._confidence(scores) >= self.threshold, predicted_N, none)

    @property
    def none_of_these(self) -> str | int:
        """What is predicted below the threshold: "none of these", or -1 where classes are numbers."""
        check_is_fitted(self)
        return NONE_OF_THESE if self.classes_.dtype.kind == "U" else -1

    @property
    def threshold(self) -> float | None:
        """The threshold of the method: `min_probability` for linear, `min_similarity` for the others."""
        return self.min_probability if self.method == "linear" else self.min_similarity

    def find_threshold(
        self, unseen: Any = None, *, min_precision: float | None = None, max_false_acceptance: float | None = None
    ) -> Threshold:
        """Return the smallest threshold that keeps a precision, a false-acceptance rate, or both.

        The known pictures are those of the calibration (`held_out_`); `unseen` are pictures of classes that were not
        fitted, which only the caller can know. See `choose_threshold` for the rule and for what it raises. Nothing is
        changed: `classifier.set_params(min_probability=found.value)` (or `min_similarity`) puts it to use.
        """
        check_is_fitted(self)
        return choose_threshold(
            self.held_out_.confidence_K,
            self.held_out_.correct_K,
            np.empty(0) if unseen is None else self.confidence(unseen),
            min_precision=min_precision,
            max_false_acceptance=max_false_acceptance,
        )

    def save(self, folder: str | Path, *, facts: dict[str, Any] | None = None) -> None:
        """Write a new folder that can be used on its own: head, settings, and a copy of the embedder.

        `classifier.safetensors` head · `classifier.json` settings, classes, calibration, SHA-256 of the embedder's
        weights, and `facts` (any JSON value of the caller) · `embedder/` its weights and settings. The folder appears
        whole or not at all. Raises `InputError` if there is one already or if classes are neither strings nor whole
        numbers, and if parameters that `fit` depends on were set since: what is saved must be what was fitted.
        """
        check_is_fitted(self)
        changed = [
            f"{name}: {value!r} was set after fit, which had {self.fitted_params_[name]!r}; fit again, or set it back"
            for name, value in self._params_of_fit().items()
            if value != self.fitted_params_[name]
        ]
        if changed:
            raise InputError(*changed)
        given = {name: value for name, value in self.get_params(deep=False).items() if name != "embedder"}
        parameters = {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}
        saved = SavedClassifier(
            parameters=parameters,
            classes=self.classes_.tolist(),
            calibration=self.calibration_,
            num_features=self.n_features_in_,
            embedder_sha256=self.embedder_sha256_,
            facts=facts or {},
        )
        tensors = {**self.head_.tensors(), "held_out.confidence_K": self.held_out_.confidence_K}
        save_classifier(folder, saved, {**tensors, "held_out.correct_K": self.held_out_.correct_K}, self.embedder)

    @classmethod
    def load(cls, folder: str | Path) -> "Classifier":
        """Return the classifier saved in a folder, with the embedder beside it.

        Raises `InputError` if a file is missing or damaged, or if the embedder is not the one it was fitted on.
        """
        saved, tensors, embedder = load_classifier(folder)
        parameters: dict[str, Any] = dict(saved.parameters)
        try:
            classifier = cls(embedder, **parameters)
            check_parameters(classifier.get_params(deep=False))
            classifier.head_ = head_of(
                tensors, classifier._num_voters, num_classes=len(saved.classes), num_features=saved.num_features
            )
            classifier.held_out_ = HeldOut(tensors["held_out.confidence_K"], tensors["held_out.correct_K"])
        except (InputError, KeyError, TypeError) as error:
            what = reason_of(error)
            raise InputError(f"{folder}: settings and tensors do not fit ({what}); fit the classifier again") from None
        classifier.classes_ = np.array(saved.classes)
        classifier.calibration_ = saved.calibration
        classifier.n_features_in_ = saved.num_features
        classifier.embedder_sha256_ = saved.embedder_sha256
        classifier.facts_ = saved.facts
        classifier.fitted_params_ = classifier._params_of_fit()
        return classifier

    @property
    def _num_voters(self) -> int | None:
        return self.num_neighbours if self.method == "nearest-neighbours" else None

    def _params_of_fit(self) -> dict[str, Any]:
        """Return the parameters on which `fit` depends: all but the embedder, which is hashed, and the thresholds."""
        ours = ("embedder", "min_probability", "min_similarity")
        return {name: value for name, value in self.get_params(deep=False).items() if name not in ours}

    def _fit_inputs(self, X: Any, y: Any) -> tuple[Float64, Array]:
        """Return embeddings and labels, checked as scikit-learn does: lengths, shapes, NaN, labels in a column."""
        try:
            if y is None:
                raise ValueError("requires y to be passed, but the target y is None")
            with np.errstate(over="ignore"):  # what is beyond float64 becomes Inf, and is refused
                x_ND, y_N = validate_data(self, self._embedded(X), plain_labels(y, "y"), dtype=np.float64)
        except ValueError as error:
            raise _as_input_error(error) from None
        if self.embedder is not None and x_ND.shape[1] != self.embedder.embedding_dim:
            raise InputError(
                f"X: {x_ND.shape[1]} dimensions, but the embedder's vectors have {self.embedder.embedding_dim}; "
                "give its embeddings, or pictures"
            )
        return x_ND, y_N

    def _embeddings(self, X: Any) -> Float64:
        """Return embeddings to be scored, checked: they are as long as those fitted."""
        try:
            with np.errstate(over="ignore"):
                x_ND: Float64 = validate_data(self, self._embedded(X), reset=False, dtype=np.float64)
        except ValueError as error:
            raise _as_input_error(error) from None
        return x_ND

    def _embedded(self, X: Any) -> Any:
        if not are_pictures(X):
            # scikit-learn takes tables, whose columns have names, and arrays of numbers; objects are refused its way.
            taken = hasattr(X, "columns") or (type(X) is np.ndarray and X.dtype.kind in "fiucO")
            return X if taken else numbers("X", X)
        if self.embedder is None:
            raise InputError("X: pictures, but the classifier has no embedder; give it one, or give embeddings")
        return self.embedder.embed(X)

    def _score(self, X: Any) -> Scores:
        check_is_fitted(self)
        scores: Scores = self.head_.score(self._embeddings(X))
        return scores

    def _fit_head(self, x_ND: Float64, class_N: Index, num_classes: int) -> Head:
        if self.method != "linear":
            return ReferenceHead.fit(x_ND, class_N, self._num_voters)
        training = LinearTraining(
            self.dropout, self.num_epochs, self.learning_rate, self.weight_decay, bool(self.balanced)
        )
        device = None if self.embedder is None else self.embedder.mean.device
        return fit_linear(x_ND, class_N, num_classes, training, seed=self.seed, device=device)

    def _cross_validate(self, x_ND: Float64, class_N: Index, num_classes: int) -> tuple[Scores, Index]:
        """Return scores and class of every item of a class of two or more, by a head that has not seen the item."""
        parts, rows = [], []
        for fit_rows, out in out_of_fold_rows(class_N, self.num_folds, seed=self.seed):
            some = self._some_rows(out, num_classes * self.num_folds)
            parts.append(self._fit_head(x_ND[fit_rows], class_N[fit_rows], num_classes).score(x_ND[some]))
            rows.append(some)
        if not parts:
            return Scores(np.empty((0, num_classes)), None), np.empty(0, dtype=np.int64)
        similarity = [part.similarity_N for part in parts if part.similarity_N is not None]
        scores_NC = np.concatenate([part.scores_NC for part in parts])
        return Scores(scores_NC, np.concatenate(similarity) if similarity else None), class_N[np.concatenate(rows)]

    def _some_rows(self, rows: Index, num_scores: int) -> Index:
        """Return as many of the rows as may be scored, `num_scores` scores each, drawn at random, ascending."""
        limit = max(1, _MAX_SCORES // num_scores)
        if len(rows) <= limit:
            return rows
        return np.sort(generator(self.seed, "pictures of the calibration").choice(rows, limit, replace=False))

    def _confidence(self, scores: Scores) -> Float64:
        if scores.similarity_N is not None:
            return scores.similarity_N
        return np.asarray(np.exp(self.calibration_.log_proba(scores.scores_NC).max(axis=1)))


def _as_input_error(error: ValueError) -> InputError:
    return error if isinstance(error, InputError) else InputError(f"X: {' '.join(str(error).split())[:200]}")
