"""The picture of the valley."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from jobctl.jobs.scaling.architectures import architectures, template
from jobctl.jobs.scaling.law import load_law
from jobctl.jobs.scaling.picture import HEIGHT, WIDTH, Frame, valley_svg
from jobctl.jobs.scaling.search import Wish, search

SVG = "{http://www.w3.org/2000/svg}"


def test_the_picture_has_three_valleys_their_bottoms_and_the_shapes() -> None:
    law = load_law("besiroglu_2024")
    shapes = search(architectures(template("llama3"), widths=range(2048, 3073, 512)), law, Wish(flops=1e21))[
        :4
    ]
    root = ElementTree.fromstring(valley_svg(law, 1e21, shapes))
    lines = [path for path in root.iter(f"{SVG}path") if path.get("stroke-width") == "2"]
    assert len(lines) == 3
    assert len(list(root.iter(f"{SVG}circle"))) == 3
    assert len([path for path in root.iter(f"{SVG}path") if path.get("stroke") == "#c30"]) == 4


def test_points_lie_inside_the_frame_and_low_losses_below() -> None:
    frame = Frame([(1e8, 2.0), (1e10, 4.0)])
    low = frame.at(1e9, 2.0)
    high = frame.at(1e9, 4.0)
    assert 0 < high[1] < low[1] < HEIGHT
    assert 0 < frame.at(1e8, 3.0)[0] < frame.at(1e10, 3.0)[0] < WIDTH
