from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.prep.litdata import main
from tests.prep.shards.test_format import dataset


def test_the_index_of_a_data_set_is_written_later_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset(tmp_path / "d", [[1, 2, 3, 4, 5, 0]])
    assert main([str(tmp_path / "d")]) == 0
    assert (tmp_path / "d" / "litdata" / "train" / "index.json").exists()
    assert "litdata: written" in capsys.readouterr().out


def test_a_folder_that_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not prepared to the end"):
        main([str(tmp_path)])
