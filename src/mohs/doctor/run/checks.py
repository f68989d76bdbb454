"""All that is looked for in a run."""

from dataclasses import replace
from functools import cache, partial

from mohs.doctor.embeddings.causes import find_failed_pictures, find_swapped_embeddings
from mohs.doctor.embeddings.checks import checks_of_one_set, sound_rows
from mohs.doctor.embeddings.labels import find_dominating_class, find_few_positives
from mohs.doctor.embeddings.two_sets import find_batch_norm, find_harm, find_shared_classes
from mohs.doctor.findings import Check, Diagnosis, combined, examine, unavailable
from mohs.doctor.log.losses import find_collapsed, find_not_finite, find_stalled
from mohs.doctor.log.signals import find_nothing_active
from mohs.doctor.run import causes
from mohs.doctor.run.evidence import RunEvidence

__all__ = ["diagnose_run"]


def diagnose_run(run: RunEvidence) -> Diagnosis:
    """Look for every cause that a run can show: in its log and plans, its pictures, and its embeddings."""
    return combined([examine(_of_log(run)), examine(_of_pictures(run)), examine(_of_embeddings(run))])


def _of_log(run: RunEvidence) -> list[Check]:
    log, curve = run.log, run.held_out_curve
    few = "fewer than 2 steps" if log is None else ""
    no_plans = "" if run.plans else "no plans"
    no_curve = run.chosen_weights if len(curve) > 3 else "no held-out curve of 10 classes and 3 segments"
    if log is None:
        of_steps = unavailable(few, "not-finite", "collapsed", "stalled", "nothing-active", "margin-too-large")
    else:
        of_steps = [
            Check("not-finite", partial(find_not_finite, log)),
            Check("collapsed", partial(find_collapsed, log, run.loss)),
            Check("stalled", partial(find_stalled, log, run.loss)),
            Check("nothing-active", partial(find_nothing_active, log, run.loss)),
            Check("margin-too-large", partial(causes.find_run_margin, run), no_plans),
        ]
    return [
        Check("unfinished", partial(causes.find_unfinished, run)),
        *of_steps,
        Check("overfitting", partial(causes.find_fall, curve), no_curve),
        Check("train-longer", partial(causes.find_rise, curve), no_curve),
        Check("hardest-negatives", partial(causes.find_hard_triplets, run), few or no_plans),
        Check("learning-rate-too-high", partial(causes.find_early_collapse, run), few),
        Check("learning-rate-too-high", partial(causes.find_damage, run)),
        Check("dead-positives", partial(causes.find_dead_run_positives, run), no_plans),
    ]


def _of_pictures(run: RunEvidence) -> list[Check]:
    missing, data = run.why_no("data"), run.data
    if missing or data is None:
        names = ("train-test-leak", "near-duplicates", "mixed-classes", "one-class-dominates", "too-few-positives")
        return unavailable(missing, *names)
    labels = data.dataset.labels
    train, test = labels[data.train_N], labels[data.test_N]
    checks = [
        Check("train-test-leak", partial(causes.find_equal_pictures, data.dataset, data.train_N, data.test_N)),
        Check("near-duplicates", partial(causes.find_near_copies, data, seed=run.seed)),
        Check("mixed-classes", partial(find_shared_classes, train, test)),
        Check("one-class-dominates", partial(find_dominating_class, train)),
        Check("one-class-dominates", partial(causes.find_dominating_negatives, run), "" if run.plans else "no plans"),
        Check("too-few-positives", partial(find_few_positives, train)),
    ]
    if data.unseen_classes:
        checks.append(Check("too-few-positives", partial(find_few_positives, test, of="test")))
    return checks


def _of_embeddings(run: RunEvidence) -> list[Check]:
    missing, seed = run.why_no("embedder") or run.why_no("data"), run.seed
    if missing or run.data is None:
        return unavailable(
            missing,
            *("failed-pictures", "collapsed", "domain-gap", "at-chance", "swapped", "worse-than-untrained"),
            *("batch-norm-statistics", "false-negatives", "forgetting"),
        )
    of_test = {check.cause: check for check in checks_of_one_set(sound_rows(run.test), seed=seed)}
    # One point has no neighbours to compare.
    collapsed = of_test["collapsed"].find() is not None or causes.collapse_began(run) is not None
    alone = "the embeddings have collapsed" if collapsed else ""
    no_plans = alone or ("" if run.plans else "no plans")
    no_batch_norm = alone or ("" if run.has_batch_norm else "no batch norm")
    no_start = run.why_no("start") if run.data.unseen_classes else "the test is on classes that were trained on"
    start = "the untrained network" if run.config.model.beginning is None else "the pretrained network"
    harm = cache(lambda: find_harm(run.test, run.test_at_start, start=start, seed=seed))
    short = None if no_start or harm() is None else causes.find_short_run(run)
    return [
        Check("failed-pictures", partial(find_failed_pictures, run.test)),
        of_test["collapsed"],
        replace(of_test["domain-gap"], missing=alone),
        replace(of_test["at-chance"], missing=alone),
        Check("swapped", partial(find_swapped_embeddings, run.train, seed=seed), alone),
        Check("worse-than-untrained", harm, no_start),
        *([] if short is None else [Check("train-longer", lambda: short)]),
        Check(
            "batch-norm-statistics", lambda: find_batch_norm(run.train, run.train_by_batch, seed=seed), no_batch_norm
        ),
        Check("false-negatives", partial(causes.find_run_false_negatives, run), no_plans),
        Check("forgetting", partial(causes.find_run_forgetting, run), no_plans),
    ]
