"""The data of `lma`: users whose next event, and whose click, have a known distribution.

Items are 0 … V-1. Item i has category i mod C and rank i // C; ranks of `BAND` items each form a
band, which the brand feature shows. Every user has a favourite band of `BANDS`. The category of
an event is that of the one before plus one of `STEPS` offsets, its rank is drawn from the
favourite band with probability `keen`, from another band else; with probability `stray` the item
is any of the V. A candidate of the favourite band is clicked with probability `click`, another
with 1 - `click`. Exact posteriors of the band give the least loss anybody can reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BANDS, BAND, STEPS = 4, 8, 4


@dataclass(frozen=True)
class Planted:
    """Numbers of the data: `items` V, a multiple of `categories` C > STEPS with V / C >= BANDS ·
    BAND ranks; `length`: the most events of a user; `idle`: share of users without any."""

    items: int
    categories: int
    shops: int
    length: int
    stray: float = 0.1
    keen: float = 0.9
    click: float = 0.85
    idle: float = 0.01
    skew: float = 1.05


@dataclass(frozen=True)
class Users:
    """Some users: items [n] end to end by `offsets` [users + 1], candidates, labels [users], and
    what is known of them: favourite band, Bayes probability of a click [users], Bayes
    -ln P(item | events before) [n], 0 for a user's first event."""

    items: np.ndarray
    offsets: np.ndarray
    candidate: np.ndarray
    label: np.ndarray
    band: np.ndarray
    click: np.ndarray
    surprise: np.ndarray


def popularity(planted: Planted) -> np.ndarray:
    """P(rank within its band) [BAND]."""
    weight = np.arange(1, BAND + 1.0) ** -planted.skew
    return weight / weight.sum()


def offsets_of_steps(planted: Planted) -> np.ndarray:
    """The STEPS offsets between categories, distinct and not 0."""
    return np.random.default_rng(planted.categories).permutation(planted.categories - 1)[:STEPS] + 1


def lengths(planted: Planted, rng: np.random.Generator, users: int) -> np.ndarray:
    """Skewed: 1.25 · length · u^1.5, cut at `length` (about one in seven), some users without."""
    drawn = np.minimum(1.25 * planted.length * rng.random(users) ** 1.5 + 1, planted.length)
    return np.where(rng.random(users) < planted.idle, 0, drawn.astype(np.int64))


def draw_users(planted: Planted, rng: np.random.Generator, users: int) -> Users:
    """A chunk of users, drawn from `rng` alone."""
    length = lengths(planted, rng, users)
    offsets = np.concatenate([[0], np.cumsum(length)])
    n = int(offsets[-1])
    band = rng.integers(0, BANDS, users)
    stray = rng.random(n) < planted.stray
    steps = offsets_of_steps(planted)
    step = np.where(stray, rng.integers(0, planted.categories, n), steps[rng.integers(0, STEPS, n)])
    user = np.repeat(np.arange(users), length)
    category = _running(step, offsets, user) % planted.categories
    other = (band[user] + rng.integers(1, BANDS, n)) % BANDS
    own = np.where(rng.random(n) < planted.keen, band[user], other)
    rank = own * BAND + rng.choice(BAND, n, p=popularity(planted))
    rank = np.where(stray, rng.integers(0, planted.items // planted.categories, n), rank)
    items = category + planted.categories * rank
    surprise, after = bayes(planted, items, offsets, user)
    seen = np.where(rng.random(users) < 0.5, band, (band + rng.integers(1, BANDS, users)) % BANDS)
    candidate = rng.integers(0, planted.categories, users) + planted.categories * (
        seen * BAND + rng.choice(BAND, users, p=popularity(planted))
    )
    clicked = np.where(seen == band, planted.click, 1 - planted.click)
    label = (rng.random(users) < clicked).astype(np.float32)
    return Users(items, offsets, candidate, label, band, click_of(planted, after, seen), surprise)


def _running(step: np.ndarray, offsets: np.ndarray, user: np.ndarray) -> np.ndarray:
    """Sums of `step` up to each element within its user."""
    total = np.concatenate([[0], np.cumsum(step)])
    return total[1:] - total[offsets[:-1]][user]


def click_of(planted: Planted, after: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """P(click | history, candidate) from the band's posterior `after` [users, BANDS]: showing a
    candidate of band `seen` says something of the favourite too."""
    same = np.arange(BANDS) == seen[:, None]
    weight = after * np.where(same, 0.5, 0.5 / (BANDS - 1))
    weight /= weight.sum(1, keepdims=True)
    return (weight * np.where(same, planted.click, 1 - planted.click)).sum(1)


def bayes(
    planted: Planted, items: np.ndarray, offsets: np.ndarray, user: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(-ln P(item | events before) [n], 0 for first events; the band's posterior at the end)."""
    users, n = len(offsets) - 1, len(items)
    first = np.zeros(n, bool)
    first[offsets[:-1][np.diff(offsets) > 0]] = True
    odds = np.zeros((users, BANDS))
    surprise = np.zeros(n)
    likely = likelihood(planted, items, first)
    # ln P(events up to here | band), within each user.
    running = np.concatenate([np.zeros((1, BANDS)), np.cumsum(np.log(likely), 0)])
    before = running[:-1] - running[offsets[:-1]][user]
    prior = np.exp(before - before.max(1, keepdims=True))
    prior /= prior.sum(1, keepdims=True)
    surprise = np.where(first, 0.0, -np.log((prior * likely).sum(1)))
    odds = running[offsets[1:]] - running[offsets[:-1]]
    after = np.exp(odds - odds.max(1, keepdims=True))
    return surprise, after / after.sum(1, keepdims=True)


def likelihood(planted: Planted, items: np.ndarray, first: np.ndarray) -> np.ndarray:
    """P(item | item before, favourite band) [n, BANDS]; of a first event, whose category is that
    of its step from 0, the same with 0 before it."""
    category, rank = items % planted.categories, items // planted.categories
    before = np.where(first, 0, np.concatenate([[0], category[:-1]]))
    reached = np.isin((category - before) % planted.categories, offsets_of_steps(planted))
    band = rank // BAND
    headed = reached & (band < BANDS)
    within = popularity(planted)[rank % BAND] * headed * (1 - planted.stray) / STEPS
    own = np.where(
        np.arange(BANDS) == band[:, None], planted.keen, (1 - planted.keen) / (BANDS - 1)
    )
    return within[:, None] * own + planted.stray / planted.items


def entropy(planted: Planted) -> float:
    """Nats of an event once the favourite band is certain: -Σ P ln P, exact."""
    shares = np.full(BANDS, (1 - planted.keen) / (BANDS - 1))
    shares[0] = planted.keen
    floor = planted.stray / planted.items
    heads = (1 - planted.stray) / STEPS * np.outer(shares, popularity(planted)).ravel() + floor
    rest = planted.items - STEPS * len(heads)
    return float(-STEPS * (heads * np.log(heads)).sum() - rest * floor * np.log(floor))
