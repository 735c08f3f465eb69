"""The prices of a site: read by the estimate, and by nothing that a run is."""

from __future__ import annotations

import pytest

from jobctl.jobs.catalog.schema import PricesSection
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.resolution import Choices, resolve


def test_a_price_is_no_part_of_what_a_run_is() -> None:
    free = resolve(Choices(model="qwen3_smoke"), version="t").spec
    paid = resolve(Choices(model="qwen3_smoke", sets=("prices.gpu_hour=2.5",)), version="t").spec
    assert paid.site.prices == PricesSection(gpu_hour=2.5)
    assert paid.fingerprint() == free.fingerprint()
    assert b"prices" not in free.json()


def test_a_price_below_zero_is_refused() -> None:
    with pytest.raises(UserError, match=r"prices\.kwh"):
        resolve(Choices(model="qwen3_smoke", sets=("prices.kwh=-1",)), version="t")
