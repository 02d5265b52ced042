"""Measurements in alternating rounds, and what is said of them: medians, and ratios with the interval that holds them with 95%."""
import math
import statistics

# The environment in which glibc's malloc keeps what is freed instead of giving it back to the kernel: for a peer whose large tensors come
# and go, so that page faults are not what is compared.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "8589934592", "MALLOC_TOP_PAD_": "268435456"}

# Student's t, two-sided 95%, by degrees of freedom from 1.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093,
        2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042)


def student_t95(degrees):
    """Beyond the table by the first terms of Cornish and Fisher's expansion, right to three digits there."""
    return _T95[degrees - 1] if degrees <= len(_T95) else 1.95996 + 2.3722 / degrees + 2.8225 / degrees ** 2


class Ratio:
    """The geometric mean of pairs' ratios, with Student's t on their logarithms."""

    def __init__(self, numerators, denominators):
        logs = [math.log(a / b) for a, b in zip(numerators, denominators)]
        if len(logs) < 2:
            raise ValueError("a spread needs at least 2 rounds")
        mean = statistics.mean(logs)
        half = student_t95(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
        self.mean, self.low, self.high = math.exp(mean), math.exp(mean - half), math.exp(mean + half)

    def __str__(self):
        return f"{self.mean:.3f} ({self.low:.3f} … {self.high:.3f})"

    def json(self):
        return {"mean": self.mean, "low": self.low, "high": self.high}


def _signed_ranks95(count):
    """The largest k for which the ranks of those above 0, of `count` values that are as often below it, add up to less than k with 2.5% at
    most (Wilcoxon): by counting the ways up to 50 values, beyond by the normal distribution."""
    if count > 50:
        return int(count * (count + 1) / 4 - 1.95996 * math.sqrt(count * (count + 1) * (2 * count + 1) / 24))
    ways = [1] + [0] * (count * (count + 1) // 2)  # by sum
    for rank in range(1, count + 1):
        for total in range(len(ways) - 1, rank - 1, -1):
            ways[total] += ways[total - rank]
    k, below = 0, ways[0]
    while below <= 0.025 * 2 ** count:
        k += 1
        below += ways[k]
    return k


class RobustRatio(Ratio):
    """The pseudo-median of pairs' ratios (Hodges and Lehmann 1963: the median of all means of two of their logarithms), between those means
    that hold it with 95% by Wilcoxon's signed ranks: for many pairs of which some fall into a moment at which the machine's speed changes, as
    often to the one side's cost as to the other's. As little as a median do a few of them move it, and it needs two thirds of the pairs."""
    FEWEST = 6

    def __init__(self, numerators, denominators):
        logs = [math.log(a / b) for a, b in zip(numerators, denominators)]
        if len(logs) < self.FEWEST:
            raise ValueError(f"an interval needs at least {self.FEWEST} pairs")
        means = sorted((one + other) / 2 for k, one in enumerate(logs) for other in logs[:k + 1])
        k = _signed_ranks95(len(logs))
        self.mean, self.low, self.high = math.exp(statistics.median(means)), math.exp(means[k - 1]), math.exp(means[-k])


def alternate(rounds, sides, heard=lambda text: None):
    """Calls each of `sides`, name to function, once a round; every other round backwards, so that what drifts hits all alike.
    Returns each one's results, round by round."""
    results = {name: [] for name in sides}
    for k in range(rounds):
        for name in sides if k % 2 == 0 else reversed(sides):
            heard(f"round {k + 1} of {rounds}: {name}")
            results[name].append(sides[name]())
    return results


def table(head, rows, markdown=False):
    """Columns under a head, the first to the left, the others to the right; or for a README."""
    if markdown:
        return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [head, ["---"] * len(head), *rows])
    widths = [max(len(str(row[k])) for row in [head, *rows]) for k in range(len(head))]
    return "\n".join("  ".join(str(cell).ljust(width) if k == 0 else str(cell).rjust(width)
                               for k, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in [head, *rows])
