"""One strategy, trained: by a run of Mohs, by triplets with random negatives, or by a library loop."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from mohs.artefacts import sha256_file
from mohs.compare.budget import Budget
from mohs.compare.online import OnlineStep, train_online
from mohs.compare.strategies import Strategy
from mohs.data.dataset import Dataset
from mohs.errors import InputError, Problem, TrainingError
from mohs.mining import choose_positives, compile_kernels
from mohs.model.embedder import Embedder
from mohs.plan import TripletPlan
from mohs.randomness import generator
from mohs.runs import versions
from mohs.sequence import anchor_sequence
from mohs.settings.config import RunConfig, override_config
from mohs.settings.toml import flat_settings
from mohs.training.events import Event, Listener, SegmentEvent, StepEvent
from mohs.training.false_negatives import read_review_rows
from mohs.training.head_start import blend_weights, check_finetuning, start_head
from mohs.training.loop import fit
from mohs.training.losses.build import build_loss, check_loss
from mohs.training.negative_bank import check_negative_bank
from mohs.training.plan_segment import batch_slices
from mohs.training.processes import Processes, choose_device
from mohs.training.step import Stepper
from mohs.training.whitening import whiten_head

__all__ = [
    "Choice",
    "Trained",
    "check_strategies",
    "made_by",
    "new_embedder",
    "parameter_value",
    "started_embedder",
    "strategy_config",
    "train_strategy",
]

_CURVE_POINTS = 300


@final
@dataclass(frozen=True)
class Choice:
    """What tuning may choose: the learning rate as a share of the comparison's, and the value of the parameter.

    `parameter` counts the strategy's values: 0 is its default, or what the comparison's settings say instead.
    """

    rate_factor: float = 1.0
    parameter: int = 0


@final
@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network and what it took.

    Attributes:
        embedder: in evaluation mode.
        num_steps, num_pictures: as shown.
        train_s: wall time of all of it; embed_s and mine_s are parts of it.
        cpu_s: processor time of this process.
        stopped: why training stopped early; "" if it did not.
        plan: all triplets with mined or drawn negatives, in the order in which they were trained on; none without.
        curves: float arrays by name, over the run: "pictures" with "loss", "spread" and (where there is one) "active";
            "triplet" with "asked" and "achieved" hardness; "segment_pictures" with "bank_recall".
    """

    embedder: Embedder
    num_steps: int
    num_pictures: int
    train_s: float
    embed_s: float
    mine_s: float
    cpu_s: float
    stopped: str
    plan: TripletPlan | None
    curves: Mapping[str, NDArray[np.float64]]


def strategy_config(
    strategy: Strategy, settings: Mapping[str, Any], budget: Budget, choice: Choice, *, num_classes: int, seed: int
) -> RunConfig:
    """Return the settings of a run of a strategy on a number of training classes.

    They are those of the comparison, then those of the strategy, then what tuning chose. A triplet shows two or three
    pictures: as many triplets a run and a step are taken as the budget has pictures for.
    """
    base = override_config(None, (), settings)
    tuned = {"training.learning_rate": base.training.learning_rate * choice.rate_factor}
    if strategy.online is None:
        tuned[strategy.parameter.name] = parameter_value(strategy, settings, choice)
    merged = {**settings, **strategy.settings, **tuned, "seed": seed}
    if strategy.online is not None:
        # The head of a library loop is that of a run with its optimiser.
        optimizer = "muon" if strategy.online_optimizer == "muon" else "adamw"
        alike = override_config(None, (), {**merged, "training.optimizer": optimizer})
        merged["model.hidden_dim"] = alike.network.hidden_dim
    shown = override_config(None, (), merged).loss.pictures_per_triplet
    merged["training.num_triplets"] = budget.num_pictures // shown
    merged["training.batch_triplets"] = budget.batch_pictures // shown
    config = override_config(None, (), merged)
    # Tuning trains on fewer classes; whether there is a bank and how far pictures change must not change with that.
    decided = config.for_classes(num_classes)
    fixed = {"memory.num_negatives": decided.num_bank_negatives, "training.augment": decided.training.augment}
    return override_config(None, (), {**merged, **fixed})


def parameter_value(strategy: Strategy, settings: Mapping[str, Any], choice: Choice) -> float:
    """Return the value of the strategy's parameter.

    Of a run of Mohs the first one is what the run would have untuned, by the comparison's settings; the others are the
    strategy's without it.
    """
    values = strategy.parameter.values
    if strategy.online is None:
        untuned = override_config(None, (), {**settings, **strategy.settings})
        own = float(flat_settings(untuned.model_dump())[strategy.parameter.name])
        values = (own, *(value for value in values if value != own))
    return values[choice.parameter]


def check_strategies(
    strategies: Sequence[Strategy], settings: Mapping[str, Any], budget: Budget, *, num_trials: int = 0
) -> None:
    """Raise `InputError` for settings that cannot be compared, or that some strategy cannot take, before any trains.

    All problems are told, each with the strategies that have it, unless all do that take the setting. A warm-up shows
    pictures that no other strategy would be given.
    """
    base = override_config(None, (), settings)
    if base.classification.num_pictures:
        raise InputError(
            f"classification.num_pictures: {base.classification.num_pictures} pictures would be shown beyond the "
            "budget, and not by every strategy; leave it out"
        )
    if base.training.stop_after is not None:
        raise InputError(
            f"training.stop_after: {base.training.stop_after}: strategies that are compared show the same number of "
            "pictures; leave it out"
        )
    if base.negatives.review_list is not None:
        read_review_rows(Path(base.negatives.review_list))
    named: dict[str, list[str]] = {}
    choices = [Choice(parameter=index) for index in range(3 if num_trials else 1)]
    for strategy in strategies:
        try:
            for choice in choices:
                # How many classes there are is not known yet; no rule that is checked here depends on it.
                config = strategy_config(strategy, settings, budget, choice, num_classes=2, seed=0)
                if strategy.online is None:
                    check_loss(config.loss, margin_is_mined=config.margin_is_mined)
                    check_negative_bank(config)
            check_finetuning(new_embedder(config), config)
        except InputError as error:
            for problem in error.problems:
                named.setdefault(problem, []).append(strategy.name)
    if named:

        def num_takers(problem: str) -> int:
            setting = problem.place if isinstance(problem, Problem) else None
            return sum(setting not in strategy.settings for strategy in strategies)

        raise InputError(
            *(
                problem if len(names) == num_takers(problem) else f"{problem} (strategies: {_some(names)})"
                for problem, names in named.items()
            )
        )


def _some(names: Sequence[str]) -> str:
    """Return names in a line: all of them, or of more than twelve the first ten and how many others there are."""
    if len(names) <= 12:
        return ", ".join(names)
    return f"{', '.join(names[:10])} and {len(names) - 10} others"


def made_by(config: RunConfig, pictures: str, *more: Any) -> str:
    """Return 16 hex digits of what decides a cell: settings, pictures, packages, and the kind of device.

    Files count by what is in them, not by where they lie.
    """
    values = config.model_dump(mode="json")
    for name in ("source", "catalog", "cache"):
        values["data"].pop(name)
    if values["model"]["weights"] is not None:
        values["model"]["weights"] = sha256_file(values["model"]["weights"])
    if values["negatives"]["review_list"] is not None:
        values["negatives"]["review_list"] = sha256_file(values["negatives"]["review_list"])
    device = choose_device(config.training.device).type
    text = json.dumps([values, pictures, versions(), device, *more], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def new_embedder(config: RunConfig) -> Embedder:
    """Return the network of the settings, untrained."""
    data = config.data
    return Embedder.create(config.network, data.policy, seed=config.seed)


def started_embedder(config: RunConfig, dataset: Dataset) -> Embedder:
    """Return the network as metric learning finds it: on its device, with the head that the settings ask for."""
    embedder = new_embedder(config)
    embedder.to(choose_device(config.training.device))
    if config.finetune.head != "random":
        start_head(embedder, dataset, Processes(), way=config.finetune.head, seed=config.seed)
    return embedder


def train_strategy(
    strategy: Strategy,
    dataset: Dataset,
    config: RunConfig,
    budget: Budget,
    choice: Choice,
    *,
    look: Callable[[Embedder], None] | None = None,
) -> Trained:
    """Train a new network and return it. Where training fails, the network is returned as it then was.

    `look` is called with the network after each segment of a run of Mohs; its time is not counted.
    """
    is_run = strategy.online is None and not strategy.random_negatives
    compile_kernels(config.hardness.scale)  # once after an installation; not the strategy's time
    began, began_cpu = time.perf_counter(), time.process_time()
    embedder = new_embedder(config) if is_run else started_embedder(config, dataset)
    record = _Record(embedder, look)
    plan, seconds, stopped = None, (0.0, 0.0), ""
    try:
        if is_run:
            result = fit(embedder, dataset, config, listeners=(record.event,))
            plan = _joined(result.plans)
            seconds = (result.embed_s, result.mine_s)
        else:
            # What a run of Mohs does before its first step and after its last is done here, too.
            start = {name: value.detach().to("cpu", copy=True) for name, value in embedder.state_dict().items()}
            if strategy.online is None:
                plan = random_plan(dataset, config)
                _train_on_plan(embedder, dataset, config, plan, record.event)
            else:
                value = strategy.parameter.values[choice.parameter]
                train_online(embedder, dataset, config, strategy, parameter=value, budget=budget, listen=record.online)
            blend_weights(embedder, start, config.finetune.trained_share)
            # The usual one belongs to a bank, which these have none of; what the comparison asks for is for all.
            if config.training.whiten:
                whiten_head(embedder, dataset, Processes(), seed=config.seed)
    except TrainingError as error:
        stopped = str(error)
    train_s = time.perf_counter() - began - record.looked_s
    cpu_s = time.process_time() - began_cpu - record.looked_cpu_s
    embedder.eval()
    return Trained(
        embedder, record.num_steps, record.pictures, train_s, *seconds, cpu_s, stopped, plan,
        record.curves(None if strategy.random_negatives else plan),
    )  # fmt: skip


def random_plan(dataset: Dataset, config: RunConfig) -> TripletPlan:
    """Return a run's triplets with anchors and positives as Mohs takes them and negatives drawn evenly by the seed."""
    labels, class_N = dataset.labels, dataset.labels_id
    anchor_T = anchor_sequence(labels, config.training.length, seed=config.seed)
    positive_T, origin_T = choose_positives(labels, anchor_T, seed=config.seed)
    # In the order of classes, the items of other classes are two stretches, and a draw skips the one between.
    order_N = np.argsort(class_N, kind="stable")
    size_C = np.bincount(class_N)
    start_T, own_T = (np.cumsum(size_C) - size_C)[class_N[anchor_T]], size_C[class_N[anchor_T]]
    place_T = generator(config.seed, "random negatives").integers(len(labels) - own_T)
    place_T = np.where(place_T < start_T, place_T, place_T + own_T)
    return TripletPlan.of(anchor_T, positive_T, order_N[place_T], positive_origin=origin_T)


def _train_on_plan(
    embedder: Embedder, dataset: Dataset, config: RunConfig, plan: TripletPlan, listen: Listener
) -> None:
    """Train in place on a plan that is there already, by the steps of a run of Mohs."""
    device = choose_device(config.training.device)
    loss = build_loss(
        config.loss,
        num_classes=int(dataset.labels_id.max()) + 1,
        embedding_dim=config.model.embedding_dim,
        seed=config.seed,
    )
    stepper = Stepper(embedder, dataset, config, loss, device, Processes())
    pieces = batch_slices(len(plan), config.training.batch_triplets)
    stepper.pace.num_steps, pictures = len(pieces), 0
    for piece in pieces:
        stepper.begin(piece.start / len(plan))
        stepped = stepper.train(plan.take(piece))
        pictures += stepped.num_pictures
        listen(stepper.event(stepped, triplets=piece.stop, pictures=pictures, hardness=0.0))
    stepper.check_weights()


def _joined(plans: tuple[TripletPlan, ...]) -> TripletPlan:
    names = ("anchor", "positive", "negative", "hardness", "achieved_hardness", "positive_origin")
    columns: dict[str, Any] = {name: np.concatenate([getattr(plan, name) for plan in plans]) for name in names}
    return TripletPlan.of(**columns)


@final
@dataclass(eq=False)
class _Record:
    """What a run told while it lasted."""

    embedder: Embedder
    look: Callable[[Embedder], None] | None
    num_steps: int = 0
    pictures: int = 0
    looked_s: float = 0.0
    looked_cpu_s: float = 0.0
    steps: list[tuple[float, float, float, float]] = field(default_factory=list)
    segments: list[tuple[float, float]] = field(default_factory=list)

    def online(self, step: OnlineStep) -> None:
        self.num_steps += 1
        self.pictures = step.pictures
        self.steps.append((step.pictures, step.loss, step.spread, step.active_fraction))

    def event(self, event: Event) -> None:
        match event:
            case StepEvent():
                self.num_steps, self.pictures = event.step, event.pictures
                self.steps.append((event.pictures, event.loss, event.spread, event.active_fraction))
            case SegmentEvent():
                self.segments.append((self.pictures, np.nan if event.recall is None else event.recall))
                if self.look is not None:
                    began, began_cpu = time.perf_counter(), time.process_time()
                    self.look(self.embedder)
                    self.looked_s += time.perf_counter() - began
                    self.looked_cpu_s += time.process_time() - began_cpu
            case _:
                pass

    def curves(self, plan: TripletPlan | None) -> dict[str, NDArray[np.float64]]:
        """Return the curves, of at most 300 points each."""
        found: dict[str, NDArray[np.float64]] = {}
        if self.steps:
            columns = np.array(self.steps)[_thinned(len(self.steps))].T
            names = ("pictures", "loss", "spread", "active")
            found |= {name: column for name, column in zip(names, columns, strict=True) if not np.isnan(column).all()}
        if self.segments:
            found["segment_pictures"], found["bank_recall"] = np.array(self.segments, dtype=np.float64).T
        if plan is not None:
            rows = _thinned(len(plan))
            found["triplet"] = rows.astype(np.float64)
            found["asked"], found["achieved"] = (
                plan.hardness[rows].astype(float),
                plan.achieved_hardness[rows].astype(float),
            )
        return found


def _thinned(count: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(_CURVE_POINTS, count)).astype(np.int64))
