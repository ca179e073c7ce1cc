"""A benchmark for each op, made from its declaration: nothing is registered by hand."""

from __future__ import annotations

from roofline.asv.suite import benchmark, suites

globals().update({suite.op: benchmark(suite) for suite in suites()})
