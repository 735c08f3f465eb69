"""A secret in any layer is refused, with the way that it should go, and without being repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.layers import Layer
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.jobs.spec.secrets import looks_secret

VALUE = "hunter2"


def refusal(**choices: object) -> str:
    layer = choices.pop("project", None)
    options = {"model": "qwen3_smoke", **choices}
    with pytest.raises(UserError) as caught:
        resolve(Choices(**options), version="0", root="/shared", project=layer)  # type: ignore[arg-type]
    assert VALUE not in str(caught.value)
    return str(caught.value)


def accepted(setting: str) -> bool:
    options = Choices(model="qwen3_smoke", sets=(setting,))
    return bool(resolve(options, version="0", root="/shared"))


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN", "WANDB_API_KEY", "wandb_apikey", "SSH_PASSPHRASE", "DB_PASSWORD", "db_passwd", "DB_PASS",
        "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "MY_SECRET", "MYSECRETS_SECRETS", "GOOGLE_CREDENTIALS", "KEY",
        "API_KEYS", "DB_PASSWORDS", "PGPASS", "AUTHORIZATION", "SESSION_COOKIE",
    ],
)  # fmt: skip
def test_a_variable_that_is_called_like_a_secret_is_refused(name: str) -> None:
    assert looks_secret(name)
    said = refusal(sets=(f"env.{name}={VALUE}",))
    assert f"--set: env.{name}: it looks like a secret" in said
    assert "pass_env" in said
    assert "secrets_file" in said


@pytest.mark.parametrize(
    "name",
    [
        "TOKENIZERS_PARALLELISM",
        "NCCL_DEBUG",
        "HF_TOKEN_PATH",
        "SSH_KEY_FILE",
        "KEYBOARD",
        "MAX_TOKENS",
        "COMPASS",
        "SSH_AUTH_SOCK",
    ],
)
def test_an_ordinary_variable_is_not(name: str) -> None:
    assert not looks_secret(name)
    assert accepted(f"env.{name}=x")


@pytest.mark.parametrize(
    "setting",
    [
        f"env.https_proxy=http://me:{VALUE}@proxy:3128",
        f"env.http_proxy=me:{VALUE}@proxy:3128",
        f"env.http_proxy=//me:{VALUE}@proxy:3128",
        f"env.MLFLOW_TRACKING_URI=https://logs/?access_token={VALUE}",
        f"image=https://me:{VALUE}@registry/jobctl:1",
        f"container.mounts=['//me:{VALUE}@nas/x:/x', 'smb://me:{VALUE}@nas/x:/x']",
        f"slurm.comment=see https://:{VALUE}@wiki/",
    ],
)
def test_a_url_with_a_password_is_refused_in_any_value(setting: str) -> None:
    said = refusal(sets=(setting,))
    assert "it holds a password" in said
    assert f"--set: {setting.partition('=')[0]}: " in said


@pytest.mark.parametrize(
    "value",
    [
        f"hf_{VALUE:A<34}", f"ghp_{VALUE:A<36}", f"https://ghp_{VALUE:A<36}@github.com/a/b", f"Bearer {VALUE:A<24}",
        "AKIA" + VALUE.upper().ljust(16, "A"), f"-----BEGIN OPENSSH PRIVATE KEY-----{VALUE}",
    ],
)  # fmt: skip
def test_a_token_is_known_by_its_form_under_any_name(value: str) -> None:
    assert "env.ADDRESS: it holds a password" in refusal(sets=(f"env.ADDRESS={value}",))


@pytest.mark.parametrize(
    "setting",
    [
        "env.https_proxy=http://proxy:3128",
        "env.https_proxy=http://me@proxy:3128",
        "image=registry:5000/jobctl@sha256:0",
        "env.TIME=12:30",
        "env.MAIL=a:b@c",
    ],
)
def test_a_url_without_one_is_not(setting: str) -> None:
    assert accepted(setting)


def test_each_layer_is_looked_at_and_named_with_its_line(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(f"summary: mine\nsettings:\n  env:\n    A: b\n    HF_TOKEN: {VALUE}\n")
    said = refusal(site=str(site), sets=("env.HF_TOKEN=",))
    assert f"{site}:5: env.HF_TOKEN: it looks like a secret" in said

    project = Layer("project file jobctl.yaml", {"env": {"http_proxy": f"http://a:{VALUE}@b"}})
    assert "project file jobctl.yaml: env.http_proxy: it holds a password" in refusal(project=project)

    model = tmp_path / "mine.yaml"
    text = Path("jobs/catalog/models/qwen3_smoke.yaml")
    model.write_text((Path(__file__).parents[3] / text).read_text() + f"  image: http://a:{VALUE}@b\n")
    assert "image: it holds a password" in refusal(model=str(model))


def test_the_arguments_of_a_job_are_looked_at() -> None:
    source = f"--source=https://me:{VALUE}@texts/x.zst"
    said = refusal(kind="prep", model="", trainer_flags=(source,))
    assert "argument --source: it holds a password" in said


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ((f"--source=https://me:{VALUE}@texts/x.zst?a=b",), "argument --source"),
        ((f"--source=https://texts/x.zst?token={VALUE}",), "argument --source"),
        (("--source", f"https://texts/x.zst?token={VALUE}"), "argument after --"),
    ],
)
def test_an_equals_sign_in_an_address_hides_no_secret(arguments: tuple[str, ...], place: str) -> None:
    said = refusal(kind="prep", model="", trainer_flags=arguments)
    assert f"{place}: it holds a password" in said
    assert VALUE not in said
