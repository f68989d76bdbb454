"""The service of a run: its triplets, to be walked through and marked."""

import asyncio
import contextlib
import io
import math
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, final

from fastapi import FastAPI, HTTPException, Query, Response
from fastapi import Path as InPath
from PIL import Image
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from mohs.plan import POSITIVE_ORIGINS
from mohs.serve.feedback import ReviewList, ReviewPicture, Verdict
from mohs.serve.messages import Failure, Told
from mohs.serve.metrics import Metrics
from mohs.serve.pictures import large_png
from mohs.serve.run_plans import Order, RunPlans, read_run_plans
from mohs.serve.settings import ServeSettings
from mohs.serve.shell import make_shell

__all__ = ["create_run_app"]

T = TypeVar("T")

_LARGEST: Final = 2**31 - 1
_NO_TRIPLET: Final[dict[int | str, dict[str, Any]]] = {404: {"model": Failure}}


@final
class AboutRun(BaseModel):
    """What the run is."""

    name: str
    loss: str
    meaning: str = Field(description="of the loss")
    in_batch: bool = Field(description="whether negatives are all other pictures of a batch, and not the plan's")
    distances_tell_active: bool = Field(description="whether triplets say if they were active when mined")
    scale: str = Field(description="of hardness")
    num_triplets: int
    num_items: int = Field(description="that it was trained on")
    num_classes: int
    note: str = Field(description="what has changed since the run")


@final
class TripletPicture(BaseModel):
    """A picture of a triplet."""

    model_config = ConfigDict(populate_by_name=True)

    item: int = Field(description="its number among the training items")
    file: str
    label: str = Field(serialization_alias="class")


@final
class ShownTriplet(BaseModel):
    """A triplet, and why it is one."""

    triplet: int = Field(description="its place in the run, from 0")
    segment: int = Field(description="the plan that it is of, from 0")
    anchor: TripletPicture
    positive: TripletPicture
    negative: TripletPicture
    positive_origin: str = Field(description="an augmentation is of the anchor itself")
    anchor_positive_distance: float = Field(description="Euclidean, when it was mined; 0 for an augmentation")
    anchor_negative_distance: float = Field(description="Euclidean, when it was mined")
    asked_hardness: float = Field(description="0 is easiest, 1 hardest")
    achieved_hardness: float
    active_when_mined: bool | None = Field(description="a loss above 0; null where distances do not say")
    batch_active_fraction: float | None = Field(description="active share of the batch that it was trained in")
    verdict: Verdict | None = Field(description="what the review list has of anchor and negative")


@final
class Triplets(BaseModel):
    """Some of the triplets, in the order asked for."""

    num_triplets: int = Field(description="in all, of the class asked for")
    start: int
    triplets: list[ShownTriplet]


@final
class RunHealth(BaseModel):
    """Whether the service answers."""

    status: Literal["ok"]
    num_triplets: int


def _number(value: Any) -> Any:
    # As JSON Schema has it: 7.0 is whole, and neither true nor "7" is a number.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("give a number")
    return value


@final
class Mark(BaseModel):
    """What somebody says of the negative of a triplet: the same as its anchor, or different after all."""

    model_config = ConfigDict(extra="forbid")

    triplet: Annotated[int, BeforeValidator(_number)] = Field(ge=0, le=_LARGEST)
    verdict: Verdict


def create_run_app(
    folder: str | Path,
    settings: ServeSettings | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> FastAPI:
    """Return the service for the run in a folder, as an ASGI application.

    What is marked goes to `settings.review_list`, by default `feedback.csv` in the run's folder. The run's own
    `review.csv` holds what mining suspects; what a person said is kept apart from that. Raises `InputError` as
    `read_run_plans` does, and for a review list of another form.
    """
    settings = settings or ServeSettings()
    review = ReviewList(Path(settings.review_list or Path(folder) / "feedback.csv"), settings.max_review_bytes)
    plans = read_run_plans(folder, progress=progress)
    metrics = Metrics()
    pool = ThreadPoolExecutor(2, thread_name_prefix="triplets")

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    async def in_thread(work: Callable[..., T], *given: object) -> T:
        async with asyncio.timeout(settings.inference_s):
            return await asyncio.get_running_loop().run_in_executor(pool, work, *given)

    app = make_shell(settings, metrics, life, page="triplets.html", summary="The triplets of a run.")
    _add_state(app, plans)
    _add_triplets(app, plans, review, in_thread)
    _add_marks(app, plans, review, metrics, in_thread)
    return app


def _add_state(app: FastAPI, plans: RunPlans) -> None:
    told, record = _about(plans), RunHealth(status="ok", num_triplets=len(plans))

    @app.get("/about", tags=["state"])
    async def tell_about() -> AboutRun:
        """Say what the run is."""
        return told

    @app.get("/health", tags=["state"])
    async def health() -> RunHealth:
        """Say that the service answers."""
        return record


def _add_triplets(app: FastAPI, plans: RunPlans, review: ReviewList, in_thread: Callable[..., Any]) -> None:
    @app.get("/triplets", tags=["triplets"])
    async def walk(
        order: Annotated[Order, Query(description="by time, achieved hardness or distance of the negative")] = "time",
        label: Annotated[
            str | None, Query(alias="class", max_length=1000, description="of the anchor or the negative")
        ] = None,
        start: Annotated[int, Query(ge=0, le=_LARGEST, description="how many of them come before")] = 0,
        num: Annotated[int, Query(ge=1, le=100)] = 12,
    ) -> Triplets:
        """Return some triplets, in an order, with their distances and hardness."""
        found: Triplets = await in_thread(_some, plans, review, order, label or None, start, num)
        return found

    @app.get("/classes", tags=["triplets"])
    async def classes(contains: Annotated[str, Query(max_length=1000)] = "") -> list[str]:
        """Return the first 20 classes whose names contain a text."""
        found: list[str] = await in_thread(plans.classes_with, contains)
        return found

    @app.get(
        "/pictures/{item}",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}, **_NO_TRIPLET},
        tags=["triplets"],
    )
    async def picture(
        item: Annotated[int, InPath(ge=0, le=_LARGEST)],
        large: Annotated[bool, Query(description="up to 512 pixels, if the file is still where it was")] = False,
    ) -> Response:
        """Return a training picture as PNG: as the network saw it, or larger."""
        if item >= len(plans.item_M):
            raise HTTPException(404, "item: no training item of this number; see those of the triplets")
        png = await in_thread(_png, plans, item, large)
        return Response(png, media_type="image/png", headers={"cache-control": "private, max-age=300"})


def _add_marks(
    app: FastAPI, plans: RunPlans, review: ReviewList, metrics: Metrics, in_thread: Callable[..., Any]
) -> None:
    @app.post("/feedback", status_code=201, responses=_NO_TRIPLET, tags=["feedback"])
    async def mark(said: Mark) -> Told:
        """Keep in the review list that a negative shows the same thing as its anchor, or a different one after all."""
        if said.triplet >= len(plans):
            raise HTTPException(404, "triplet: no triplet of this number; see those of the run")
        anchor, negative = (int(column[said.triplet]) for column in (plans.plan.anchor, plans.plan.negative))
        one, other = (ReviewPicture(plans.file(item), plans.label(item)) for item in (anchor, negative))
        distance = float(plans.plan.anchor_negative_distance[said.triplet])
        num = await in_thread(review.add, one, other, said.verdict, distance)
        metrics.feedback.labels(said.verdict).inc()
        return Told(num_rows=num)


def _about(plans: RunPlans) -> AboutRun:
    record = plans.config.loss.record
    return AboutRun(
        name=plans.name,
        loss=record.name,
        meaning=record.meaning,
        in_batch=record.in_batch,
        distances_tell_active=plans.distances_tell_active,
        scale=plans.config.asked_hardness.scale,
        num_triplets=len(plans),
        num_items=len(plans.item_M),
        num_classes=len(set(plans.dataset.labels[plans.item_M].tolist())),
        note=plans.note,
    )


def _some(plans: RunPlans, review: ReviewList, order: Order, label: str | None, start: int, num: int) -> Triplets:
    rows = plans.in_order(order, label)
    verdicts = review.last_verdicts()
    shown = [_shown(plans, int(row), verdicts) for row in rows[start : start + num]]
    return Triplets(num_triplets=len(rows), start=start, triplets=shown)


def _shown(plans: RunPlans, row: int, verdicts: dict[frozenset[str], Verdict]) -> ShownTriplet:
    plan = plans.plan

    def told(item: int) -> TripletPicture:
        return TripletPicture(item=item, file=plans.file(item), label=plans.label(item))

    anchor, positive, negative = (told(int(part[row])) for part in (plan.anchor, plan.positive, plan.negative))
    share = float(plans.batch_active_fraction_T[row])
    return ShownTriplet(
        triplet=row,
        segment=int(plans.segment_T[row]),
        anchor=anchor,
        positive=positive,
        negative=negative,
        positive_origin=POSITIVE_ORIGINS[int(plan.positive_origin[row])],
        anchor_positive_distance=float(plan.anchor_positive_distance[row]),
        anchor_negative_distance=float(plan.anchor_negative_distance[row]),
        asked_hardness=float(plan.hardness[row]),
        achieved_hardness=float(plan.achieved_hardness[row]),
        active_when_mined=plans.was_active(row),
        batch_active_fraction=share if math.isfinite(share) else None,
        verdict=verdicts.get(frozenset((anchor.file, negative.file))),
    )


def _png(plans: RunPlans, item: int, large: bool) -> bytes:
    png = large_png(plans.path(item)) if large else None
    if png is not None:
        return png
    buffer = io.BytesIO()
    Image.fromarray(plans.picture(item).squeeze()).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
