from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.runtime.cpu import available_cores


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("50000 100000\n", 1),
        ("1000 100000\n", 1),
        ("1600000 100000\n", 8),
        ("", 8),
        ("max", 8),
        ("200000", 8),
        ("lots 100000", 8),
        ("200000 0", 8),
    ],
)
def test_the_quota_of_cgroup_v2(tmp_path: Path, text: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert available_cores(tmp_path) == cores


@pytest.mark.parametrize(
    ("quota", "period", "cores"),
    [
        ("-1", "100000", 8),
        ("300000", "100000", 3),
        ("250000", "100000", 3),
        ("10000", "100000", 1),
        ("300000", "0", 8),
        ("much", "100000", 8),
        ("300000", "", 8),
    ],
)
def test_the_quota_of_cgroup_v1(tmp_path: Path, quota: str, period: str, cores: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota + "\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text(period + "\n")
    assert available_cores(tmp_path) == cores


def test_without_a_cgroup_the_affinity_decides(tmp_path: Path) -> None:
    assert available_cores(tmp_path / "nowhere") == 8


def test_without_affinity_the_machine_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert available_cores(tmp_path) == 3
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores(tmp_path) == 1


def test_here_there_is_at_least_one() -> None:
    assert available_cores() >= 1
