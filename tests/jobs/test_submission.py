"""A submission happens whole or not at all."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import store as runs
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.submission import check_inputs, prepared, resume, submit
from tests.jobs.targets.test_local import ended

Job = Callable[..., JobSpec]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users, which root alone may")


def write_meta(root: Path, **facts: object) -> None:
    folder = layout.dataset_dir(root, "sotu", "gpt2")
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps({"vocab_size": 50257} | facts))


def test_a_data_set_that_is_absent_is_named_with_the_command_that_makes_it(root: Path, job: Job) -> None:
    with pytest.raises(UserError, match=r"no data set in .*sotu-gpt2\n.*jobctl submit prep --dataset sotu"):
        check_inputs(job("true"))
    assert not root.exists()


def test_ids_beyond_the_models_vocabulary_are_refused(root: Path, job: Job) -> None:
    write_meta(root, vocab_size=151_936)
    with pytest.raises(UserError, match="ids up to 151935, but qwen3_smoke has 50304 rows"):
        check_inputs(job("true"))


def test_a_job_that_waits_for_another_may_lack_its_data(root: Path, job: Job) -> None:
    check_inputs(job("true", after=("prep",), target="slurm"))
    write_meta(root)
    check_inputs(job("true"))


def test_prep_of_a_data_set_that_is_there_is_nothing_to_do(root: Path, job: Job) -> None:
    spec = job("true", kind="prep", model="", named={"dataset": "sotu", "tokenizer": "gpt2"})
    assert prepared(spec) is None
    write_meta(root)
    assert prepared(spec) == layout.dataset_dir(root, "sotu", "gpt2")
    assert prepared(job("true")) is None


def test_prep_of_text_that_is_nowhere_is_refused_before_it_starts(root: Path, job: Job) -> None:
    prep = {"kind": "prep", "model": "", "named": {"dataset": "sotv", "tokenizer": "gpt2"}}
    with pytest.raises(
        UserError, match=r"no data set 'sotv'.*sources/sotv does not exist\n.*mean 'sotu'.*--source="
    ):
        check_inputs(job("true", **prep))
    check_inputs(job("true", **prep, trainer_flags=("--source=/texts",)))
    check_inputs(job("true", **prep, after=("mirror",), target="slurm"))
    check_inputs(job("true", **prep, target="k8s", sets=("namespace=n",)))
    layout.source_dir(root, "sotv").mkdir(parents=True)
    check_inputs(job("true", **prep))


def test_a_refused_submission_leaves_nothing_behind(root: Path, job: Job) -> None:
    spec = job("true", sets=("modules=[no-such-module]",))
    with pytest.raises(UserError, match="the job did not start"):
        submit(spec)
    assert list(layout.runs(root).iterdir()) == []


def test_of_many_submissions_of_one_name_one_wins(root: Path, job: Job) -> None:
    spec = job("sleep 0.2")

    def attempt(_: int) -> bool:
        try:
            submit(spec)
        except UserError as error:
            return "exists" not in str(error)
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(attempt, range(8))) == 1
    assert ended(root, "r").state == "finished"


def test_resume_goes_on_with_what_stopped_and_with_nothing_else(root: Path, job: Job) -> None:
    submit(job('[ "$ATTEMPT" -ge 2 ] || exit 200'))
    assert ended(root, "r").state == "stopped"
    resume(root, "r")
    status = ended(root, "r")
    assert (status.state, status.attempt) == ("finished", 2)
    with pytest.raises(UserError, match="has finished"):
        resume(root, "r")


def test_resume_does_not_execute_the_script_that_lies_in_the_run(
    root: Path, job: Job, tmp_path: Path
) -> None:
    submit(job('[ "$ATTEMPT" -ge 2 ] || exit 200'))
    assert ended(root, "r").state == "stopped"
    rendered = (root / "runs/r/script").read_text()
    (root / "runs/r/script").write_text(f"touch {tmp_path}/executed\n")
    resume(root, "r")
    assert ended(root, "r").state == "finished"
    assert not (tmp_path / "executed").exists()
    assert (root / "runs/r/script").read_text() == rendered


def test_a_run_of_an_older_version_is_resumed_under_the_hash_that_its_record_has(
    root: Path, job: Job
) -> None:
    submit(job('[ "$ATTEMPT" -ge 2 ] || exit 200'))
    assert ended(root, "r").state == "stopped"
    record = json.loads((root / "runs/r/run.json").read_text())
    del record["spec"]["site"]["preflight"]
    (root / "runs/r/run.json").write_text(json.dumps(record | {"spec_hash": "0123456789abcdef"}))
    resume(root, "r")
    assert ended(root, "r").state == "finished"
    assert runs.read(root, "r").record.spec_hash == "0123456789abcdef"


def test_a_record_that_cannot_be_read_any_more_is_said_in_words(root: Path, job: Job) -> None:
    submit(job("exit 3"))
    assert ended(root, "r").state == "failed"
    record = json.loads((root / "runs/r/run.json").read_text())
    record["spec"]["model"] = 7
    (root / "runs/r/run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="this version cannot read the run's record"):
        resume(root, "r")


@needs_root
@pytest.mark.parametrize("part", ["", "run.json", "code", "logs"])
def test_a_run_that_someone_else_made_is_not_resumed_unless_the_user_trusts_them(
    root: Path, job: Job, part: str
) -> None:
    submit(job('[ "$ATTEMPT" -ge 2 ] || exit 200'))
    assert ended(root, "r").state == "stopped"
    (root / "runs/r/code").mkdir()
    os.chown(root / "runs/r" / part, 1, 1)
    with pytest.raises(UserError, match=r"belongs to daemon.*\n.*--trust-owner daemon"):
        resume(root, "r")
    assert len(runs.read(root, "r").attempts) == 1
    resume(root, "r", trusted=("daemon",))
    assert ended(root, "r").state == "finished"


@needs_root
def test_an_evaluation_is_not_put_into_a_run_that_someone_else_made(root: Path, job: Job) -> None:
    submit(job("true"))
    ended(root, "r")
    os.chown(root / "runs/r", 1, 1)
    with pytest.raises(UserError, match="belongs to daemon"):
        submit(job("true", stage="eval"))
    assert not (root / "runs/r/script.eval").exists()
    submit(msgspec.structs.replace(job("true", stage="eval"), trusted=("daemon",)))
    assert ended(root, "r:eval").state == "finished"


def test_a_step_is_resumed_by_its_own_record(root: Path, job: Job) -> None:
    submit(job("true"))
    ended(root, "r")
    submit(job('[ "$ATTEMPT" -ge 3 ] || exit 3', stage="eval"))
    assert ended(root, "r:eval").state == "failed"
    layout.script_file(root / "runs/r", "eval").write_text("exit 9")
    assert runs.read(root, "r:eval").record.spec.step == "eval"
    resume(root, "r:eval")
    assert ended(root, "r:eval").state == "finished"
    assert runs.read(root, "r").record.spec.step == "train"


def test_a_step_without_a_record_is_not_resumed(root: Path, job: Job) -> None:
    submit(job("true"))
    ended(root, "r")
    submit(job("exit 3", stage="eval"))
    assert ended(root, "r:eval").state == "failed"
    layout.record_file(root / "runs/r", "eval").unlink()
    with pytest.raises(UserError, match="r:eval has no record to resume from"):
        resume(root, "r:eval")


def test_a_run_that_is_alive_is_not_resumed(root: Path, job: Job) -> None:
    submit(job("sleep 30"))
    with pytest.raises(UserError, match="is running"):
        resume(root, "r")
    from jobctl.jobs.targets.registry import load_target

    load_target("local").cancel(runs.read(root, "r"))
    assert ended(root, "r").state == "cancelled"


def test_an_evaluation_needs_the_run_whose_checkpoint_it_reads(root: Path, job: Job) -> None:
    with pytest.raises(UserError, match="no run 'r'"):
        submit(job("true", stage="eval"))
    submit(job("true"))
    ended(root, "r")
    assert submit(job("true", stage="eval"))[0].name == "r:eval"
    assert ended(root, "r:eval").attempt == 2
    assert (root / "runs/r/script.eval").is_file()


def test_an_evaluation_beside_a_live_training_leaves_it_and_its_stop_alone(root: Path, job: Job) -> None:
    """Once it made ``status`` say finished and ``cancel`` refuse, and took away the STOP meant for the training."""
    from jobctl.jobs.targets.registry import load_target

    submit(job('until [ -e "$RUN_DIR/go" ]; do sleep 0.02; done; [ ! -e "$RUN_DIR/STOP" ] || exit 200'))
    submit(job('[ -e "$RUN_DIR/failed" ] || { touch "$RUN_DIR/failed"; exit 3; }', stage="eval"))
    assert ended(root, "r:eval").state == "failed"
    (alive,) = load_target("local").statuses([runs.read(root, "r")])
    assert (alive.state, alive.attempt) == ("running", 1)
    runs.request_stop(root / "runs/r", "cancel")
    resume(root, "r:eval")
    assert ended(root, "r:eval").state == "finished"
    assert (root / "runs/r/STOP").exists()
    (root / "runs/r/go").touch()
    status = ended(root, "r")
    assert (status.state, status.attempt, status.exit_code) == ("cancelled", 1, 200)


@pytest.mark.parametrize("first", ["r", "r:eval"])
def test_training_and_evaluation_are_cancelled_each_by_itself(root: Path, job: Job, first: str) -> None:
    from jobctl.jobs.targets.registry import load_target

    submit(job("trap 'exit 200' TERM; while :; do sleep 0.05; done"))
    submit(job("while :; do sleep 0.05; done", stage="eval"))
    second = "r:eval" if first == "r" else "r"
    load_target("local").cancel(runs.read(root, first))
    assert ended(root, first).state == "cancelled"
    (other,) = load_target("local").statuses([runs.read(root, second)])
    assert other.state == "running"
    load_target("local").cancel(runs.read(root, second))
    assert ended(root, second).state == "cancelled"


def test_a_refused_evaluation_leaves_no_job_behind(root: Path, job: Job) -> None:
    submit(job("true"))
    ended(root, "r")
    (root / "runs/r/logs").rename(root / "runs/r/moved")
    (root / "runs/r/logs").touch()
    with pytest.raises(OSError, match="Not a directory"):
        submit(job("true", stage="eval"))
    assert [run.name for run in runs.read_all(root)] == ["r"]
