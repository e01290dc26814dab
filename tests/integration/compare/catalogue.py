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

CASES = [replace(case, area=case.area or module.AREA) for module in _MODULES for case in module.CASES]
