"""All cases, by area."""

from __future__ import annotations

from dataclasses import replace

from tests.integration.compare import (
    cases_access,
    cases_attestations,
    cases_caches,
    cases_contexts,
    cases_errors,
    cases_exporters,
    cases_frontends,
    cases_graphs,
    cases_reports,
)
from tests.integration.compare.case import Case

_MODULES = (
    cases_exporters,
    cases_frontends,
    cases_contexts,
    cases_caches,
    cases_attestations,
    cases_access,
    cases_graphs,
    cases_reports,
    cases_errors,
)


def _complete(case: Case, area: str) -> Case:
    """Name the area, and the release that a flag needs which most cases have: it makes files comparable."""
    needs = case.needs or ("0.13" if "rewrite-timestamp=true" in case.flags else "")
    return replace(case, area=case.area or area, needs=needs)


CASES = [_complete(case, module.AREA) for module in _MODULES for case in module.CASES]
