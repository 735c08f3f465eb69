"""Checks of a run's learning: its loss, gradients, learning rate and data. Pure."""

from __future__ import annotations

import math
import statistics

from jobctl.jobs.catalog.arithmetic import parameters
from jobctl.jobs.catalog.schema import ModelConfig
from jobctl.jobs.monitoring.checks.finding import Finding, RunCheck, RunFacts
from jobctl.jobs.monitoring.history import column, finite, number, whole

ENOUGH_STEPS = 100
"""A loss curve with fewer steps is not judged."""
PAGE = "docs/training.md#guards"
LOWEST_LOSS = 1.5
"""A loss in nats per token. No model reaches it on new text within ``EARLY_TOKENS``."""
EARLY_TOKENS = 5e9
SMALL_VOCABULARY = 1000
"""With a smaller vocabulary a token is a byte, and its loss is always low."""
RISE = 1.15
"""A later loss may be this many times the best loss."""
OVERFIT = 1.02
NORMS = (0.02, 20.0)
"""Bounds of gradient norms. They are far outside the range that the guide calls healthy, 0.5 to 2."""
RATE_FACTORS = (30.0, 8.0)
"""A usual learning rate is within these factors below and above the published rule."""
MANY_EPOCHS = 4.0
"""Repeated data is worth almost as much as new data up to about four epochs (Muennighoff et al. 2023)."""


def _losses(facts: RunFacts) -> list[float]:
    return finite(column(facts.history.steps, "loss"))


def _window(losses: list[float]) -> int:
    # One loss is noise, and a tenth of a short curve would be one or two of them.
    return max(5, len(losses) // 10)


def loss_not_a_number(facts: RunFacts) -> Finding | None:
    """Report losses or gradients that are not finite, and the steps that were skipped because of them."""
    bad = [
        step
        for step in facts.history.steps
        # Other tools also log steps without a loss, or without a norm.
        if step.loss is not None
        and not all(math.isfinite(number(n)) for n in (step.loss, step.grad_norm) if n is not None)
    ]
    if not bad:
        return None

    first = bad[0]
    return Finding(
        check="loss_not_a_number",
        cause="The loss or the gradient is not a number in some steps. The trainer skipped these steps.",
        evidence=f"{len(bad)} steps, the first is {first.iter}: loss {number(first.loss):.4f}, "
        f"gradient norm {number(first.grad_norm):.4f}",
        remedy="Lower the learning rate, or use --dtype=bfloat16 or float32. If the same step fails each "
        "time, check the samples that the log names for this step.",
        page=PAGE,
    )


def loss_not_falling(facts: RunFacts) -> Finding | None:
    """Report a loss that has not fallen since the beginning."""
    losses = _losses(facts)
    # A log that begins later does not show the first loss.
    if len(losses) < ENOUGH_STEPS or facts.history.steps[0].iter > 1:
        return None

    first = statistics.fmean(losses[:5])
    last = statistics.fmean(losses[-_window(losses) :])
    # A smaller fall can be the noise of a few batches.
    if last < 0.97 * first:
        return None

    rate = max(finite(column(facts.history.steps, "lr")), default=0.0)
    return Finding(
        check="loss_not_falling",
        cause="The loss does not fall.",
        evidence=f"{first:.3f} in the first steps, {last:.3f} in the last of {len(losses)}; "
        f"the learning rate reached {rate:.2e}",
        remedy="Check the settings. Usual are a learning rate of about 3e-4, a warm-up of about 2000 steps "
        "and grad_clip 1.0. A warm-up longer than the run keeps the rate near zero. Then check the data: "
        "python -m jobctl.prep.verify DIR.",
        page=PAGE,
    )


def loss_diverged(facts: RunFacts) -> Finding | None:
    """Report a loss that was much lower before."""
    losses = _losses(facts)
    if len(losses) < ENOUGH_STEPS:
        return None

    size = _window(losses)
    # An incomplete window would be noise, and `last` covers the end.
    means = [statistics.fmean(losses[i : i + size]) for i in range(0, len(losses) - size + 1, size)]
    best = min(means)
    last = statistics.fmean(losses[-size:])
    # A loss that never fell is another finding.
    never_fell = best >= 0.95 * losses[0]
    if last < RISE * best or never_fell:
        return None

    # The step is approximate, because `losses` lacks the values that are not finite.
    step = facts.history.steps[min(len(losses) - 1, means.index(best) * size)].iter
    return Finding(
        check="loss_diverged",
        cause="The loss rose again and stayed high: the training has diverged.",
        evidence=f"{best:.3f} around step {step}, {last:.3f} now",
        remedy="Resume from a checkpoint before the rise with a lower learning rate, or with skip_loss_spikes=6. "
        "Check that grad_clip is 1.0 and beta2 is 0.95.",
        page=PAGE,
    )


def loss_too_low(facts: RunFacts) -> Finding | None:
    """Report a loss too low for new text: the model sees the labels, or the data is broken."""
    losses = _losses(facts)
    vocabulary = whole(facts.setting("vocab_size"))
    if len(losses) < 20 or vocabulary < SMALL_VOCABULARY or facts.history.tokens > EARLY_TOKENS:
        return None

    last = statistics.fmean(losses[-_window(losses) :])
    # Without tokens it is unknown whether the run is at its beginning.
    if last >= LOWEST_LOSS or math.isclose(facts.history.tokens, 0.0):
        return None

    return Finding(
        check="loss_too_low",
        cause="The loss is too low too early: the model sees the tokens that it should predict, or the "
        "data is broken.",
        evidence=f"{last:.3f} nats a token after {facts.history.tokens:,.0f} tokens; text takes 2 to 3 much later",
        remedy="Check the data: python -m jobctl.prep.verify DIR. Ids of a large vocabulary do not fit into "
        "uint16. Overlapping windows repeat the same text. A model memorises a small data set.",
        page="docs/data.md",
    )


def loss_starts_wrong(facts: RunFacts) -> Finding | None:
    """Report a first loss far from ln of the vocabulary, the loss of a model that knows nothing."""
    steps = facts.history.steps
    vocabulary = whole(facts.setting("vocab_size"))
    # Weights of another run begin with a low loss.
    fresh = facts.setting("init_from") in (None, "", "auto", "scratch")
    if not steps or steps[0].iter != 1 or vocabulary < SMALL_VOCABULARY or not fresh:
        return None

    first = number(steps[0].loss)
    expected = math.log(vocabulary)
    # The bounds are wide, because random weights do not guess evenly.
    if not math.isfinite(first) or 0.75 * expected <= first <= 1.3 * expected:
        return None

    return Finding(
        check="loss_starts_wrong",
        cause="The first loss is not the loss of an untrained model.",
        evidence=f"{first:.3f} in step 1; ln({vocabulary:,}) is {expected:.3f}",
        remedy="If it is higher, the initial weights are too large (initializer_range). If it is lower, the "
        "weights are not new, or most tokens of the data are equal. Check that data set and model have the "
        "same tokenizer.",
        page="docs/data.md",
    )


def validation_rises(facts: RunFacts) -> Finding | None:
    """Report a validation loss that rises while the training loss falls."""
    # Losses of two sets would make no common curve.
    scored = [e for e in facts.history.evaluations if e.set == facts.history.evaluations[0].set]
    losses = finite(column(scored, "val_loss"))
    training = _losses(facts)
    if len(losses) < 4 or len(training) < ENOUGH_STEPS:
        return None

    # Single evaluations are noise, so neighbours are averaged.
    width = max(2, len(losses) // 8)
    means = [statistics.fmean(losses[i : i + width]) for i in range(len(losses) - width + 1)]
    # Only the second half is compared, because the early fall would hide a later standstill.
    size = _window(training)
    middle = training[len(training) // 2 :][:size]
    # If the training loss does not fall either, the model does not memorise its data.
    falls = statistics.fmean(training[-size:]) < 0.995 * statistics.fmean(middle)
    if means[-1] < OVERFIT * min(means) or not falls:
        return None

    return Finding(
        check="validation_rises",
        cause="The validation loss rises while the training loss falls: the model memorises the data.",
        evidence=f"validation {min(means):.3f} at best, {means[-1]:.3f} now; training {training[-1]:.3f}",
        remedy="Use more data, or stop at the best validation: checkpoints/BEST names its weights.",
    )


def gradients_out_of_range(facts: RunFacts) -> Finding | None:
    """Report gradient norms that are far from healthy ones in most steps, not only in single ones."""
    norms = finite(column(facts.history.steps, "grad_norm"))
    if len(norms) < ENOUGH_STEPS:
        return None

    # The median is used, because single spikes are usual.
    middle = statistics.median(norms[-_window(norms) * 2 :])
    if NORMS[0] <= middle <= NORMS[1]:
        return None

    large = middle > NORMS[1]
    return Finding(
        check="gradients_out_of_range",
        cause=f"The gradient norms are {'very large' if large else 'almost zero'}.",
        evidence=f"{middle:.3g} in the middle of the last steps; 0.5 to 2 is usual",
        remedy="Lower the learning rate, and check grad_clip (usual: 1.0) and initializer_range."
        if large
        else "The model does not learn any more: check the learning rate, the loss and the data.",
        page=PAGE,
    )


def learning_rate_unusual(facts: RunFacts) -> Finding | None:
    """Report a learning rate far from a published rule for models of this size.

    LR(N) = 0.003239 - 0.0001395 ln(N), N without embeddings (Kaplan et al. 2020, appendix D.6).
    """
    rate = number(facts.setting("learning_rate"))
    # A log without the count still gives the sizes of the model.
    size = whole(facts.history.startup.get("parameters")) or _parameters(facts)
    if not rate > 0 or size < 1_000_000:
        return None

    # At about 12B parameters the rule's rate reaches zero.
    usual = max(1e-4, 0.003239 - 0.0001395 * math.log(size))
    if usual / RATE_FACTORS[0] <= rate <= usual * RATE_FACTORS[1]:
        return None

    return Finding(
        check="learning_rate_unusual",
        cause=f"The learning rate is far {'above' if rate > usual else 'below'} the usual rate for this "
        "model size.",
        evidence=f"{rate:.2e} for {size / 1e6:,.0f}M parameters; about {usual:.1e} is usual (Kaplan et al. 2020)",
        remedy=f"--set learning_rate={usual:.1e}, unless you know better.",
        page=PAGE,
    )


def _parameters(facts: RunFacts) -> int:
    """Return the parameters of the configured model; 0 if the log does not give its sizes."""
    # A log holds all settings of a run, and the model takes only its own.
    known = {
        key: value for key, value in facts.history.config.items() if key in ModelConfig.__struct_fields__
    }
    try:
        return parameters(ModelConfig(**known))
    except Exception:  # a log of another tool, or of another version
        return 0


def warmup_too_long(facts: RunFacts) -> Finding | None:
    """Report a warm-up that is longer than the run. A short test of a long recipe is not reported."""
    warmup = whole(facts.setting("warmup_iters"))
    length = facts.history.max_iters
    if warmup < length or length < 2 * ENOUGH_STEPS:
        return None

    return Finding(
        check="warmup_too_long",
        cause="The warm-up is longer than the run, so the learning rate never reaches its value.",
        evidence=f"warmup_iters {warmup:,}, max_iters {length:,}",
        remedy=f"--set warmup_iters={max(1, length // 20)}, or train longer.",
        page=PAGE,
    )


def no_gradient_clipping(facts: RunFacts) -> Finding | None:
    """Report gradients that are not clipped."""
    clip = facts.setting("grad_clip")
    if clip is None or number(clip) > 0 or facts.history.max_iters < ENOUGH_STEPS:
        return None

    return Finding(
        check="no_gradient_clipping",
        cause="The run does not clip gradients, so one bad batch can damage the weights.",
        evidence=f"grad_clip {clip}",
        remedy="--set grad_clip=1.0",
        page=PAGE,
    )


def data_repeated(facts: RunFacts) -> Finding | None:
    """Report data that the run reads many times."""
    planned = facts.history.startup.get("epochs_planned")
    epochs = {name: number(times) for name, times in planned.items()} if isinstance(planned, dict) else {}
    many = {name: times for name, times in epochs.items() if times > MANY_EPOCHS}
    if not many:
        return None

    return Finding(
        check="data_repeated",
        cause="The run reads the data many times.",
        evidence=", ".join(f"{name}: {times:.1f} epochs" for name, times in many.items()),
        remedy=f"After {MANY_EPOCHS:.0f} epochs a model learns little: use a larger data set, or fewer steps.",
        page="docs/data.md",
    )


CHECKS: tuple[RunCheck, ...] = (
    loss_not_a_number,
    loss_not_falling,
    loss_diverged,
    loss_too_low,
    loss_starts_wrong,
    validation_rises,
    gradients_out_of_range,
    learning_rate_unusual,
    warmup_too_long,
    no_gradient_clipping,
    data_repeated,
)
