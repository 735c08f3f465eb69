"""Every setting has one name, and the names before the sections still lead to it."""

from __future__ import annotations

import pytest

from jobctl.jobs.catalog.schema import KEYS, SITE_SECTIONS, Site, TrainConfig
from jobctl.jobs.catalog.schema.keys import OLD_NAMES, flat, hash_name, nearest_key, split_key


def test_each_key_names_the_struct_that_declares_it() -> None:
    assert KEYS["batch_size"] is TrainConfig
    assert KEYS["root"] is Site
    assert KEYS["slurm.partition"] is SITE_SECTIONS["slurm"]
    assert "slurm" not in KEYS


def test_an_old_name_leads_to_a_key_and_is_none_itself() -> None:
    assert set(OLD_NAMES.values()) <= set(KEYS)
    assert not set(OLD_NAMES) & set(KEYS)
    assert len(set(OLD_NAMES.values())) == len(OLD_NAMES)


@pytest.mark.parametrize(
    ("spelled", "key", "entry"),
    [
        ("batch_size", "batch_size", ""),
        ("env.A", "env", "A"),
        ("env.A.B", "env", "A.B"),
        ("partition", "slurm.partition", ""),
        ("container_runtime", "container.runtime", ""),
        ("slurm.partition", "slurm.partition", ""),
        ("slurm", "slurm", ""),
        ("node_selector.nvidia.com/gpu", "kubernetes.node_selector", "nvidia.com/gpu"),
        ("kubernetes.node_selector.nvidia.com/gpu", "kubernetes.node_selector", "nvidia.com/gpu"),
        ("nonsense", "nonsense", ""),
    ],
)
def test_a_spelling_is_split_into_a_key_and_an_entry(spelled: str, key: str, entry: str) -> None:
    assert split_key(spelled) == (key, entry)


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("bath_size", "batch_size"),
        ("namespce", "kubernetes.namespace"),
        ("slurm.partiton", "slurm.partition"),
        ("kubernetes.que", "kubernetes.queue"),
        ("slrum.partition", "slurm.partition"),
        ("container_mounts", "container.mounts"),
    ],
)
def test_a_wrong_word_gets_the_nearest_key(word: str, key: str) -> None:
    assert nearest_key(word) == f"did you mean '{key}'?"


def test_a_word_like_no_other_gets_the_keys_of_its_section_alone() -> None:
    said = nearest_key("container.zzzzzz")
    assert said == "known: container.modules, container.mounts, container.runtime, container.share_image"


def test_a_word_that_is_near_nothing_does_not_print_every_key() -> None:
    """One wrong word once printed sixty names."""
    said = nearest_key("xyzzy")
    assert said.startswith(f"the nearest of {len(KEYS)} names: ")
    assert said.count(",") == 2


def test_a_site_is_flat_by_its_keys() -> None:
    values = flat(Site(root="/r"))
    assert set(values) == {key for key, kind in KEYS.items() if kind in (Site, *SITE_SECTIONS.values())}
    assert values["root"] == "/r"
    assert values["kubernetes.namespace"] == "jobctl"


def test_a_hash_knows_a_key_by_its_oldest_name() -> None:
    assert hash_name("slurm.partition") == "partition"
    assert hash_name("container.runtime") == "container_runtime"
    assert hash_name("root") == "root"
    assert hash_name("slurm.a_later_key") == "slurm.a_later_key"
