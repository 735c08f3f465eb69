"""The section ``prices`` of a site, for ``jobctl estimate``. No job reads it."""

from typing import Annotated

import msgspec
from msgspec import Meta

from jobctl.jobs.core.bounds import LARGEST


class PricesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Prices and rates of the site's machines."""

    gpu_hour: Annotated[
        float, Meta(ge=0, le=LARGEST, description="price of one GPU for an hour; 0: unknown")
    ] = 0.0
    kwh: Annotated[float, Meta(ge=0, le=LARGEST, description="price of a kilowatt-hour; 0: unknown")] = 0.0
    currency: Annotated[str, Meta(description="currency of the prices")] = "USD"
    pue: Annotated[
        float, Meta(ge=1, le=LARGEST, description="watts that the site uses for each watt of its machines")
    ] = 1.2
    disk_gb_s: Annotated[
        float, Meta(ge=0, le=LARGEST, description="rate at which a node writes checkpoints, GB/s; 0: unknown")
    ] = 0.0
