"""Which precision a job computes in, on processors with and without units for bfloat16."""

import logging
import os
import subprocess
import sys

import pytest

from pipeline_lib.runtime import device
from pipeline_lib.runtime.device import choose_precision, processor_flags, slowdown


@pytest.fixture
def a_processor(monkeypatch):
    """Pretend to have, or not to have, units for bfloat16."""
    return lambda native: monkeypatch.setattr(device, "multiplies_bfloat16", lambda: native)


@pytest.mark.parametrize(("native", "chosen"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_bfloat16_where_the_processor_multiplies_it(a_processor, native, chosen, caplog):
    a_processor(native)
    with caplog.at_level(logging.INFO):
        assert choose_precision("auto") == chosen
    assert f"precision: {chosen}" in caplog.text


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("asked", ["float32", "bfloat16"])
def test_a_precision_by_name_is_obeyed(a_processor, native, asked):
    a_processor(native)
    assert choose_precision(asked) == asked


def test_emulation_is_warned_of_with_what_it_was_measured_to_cost(a_processor, monkeypatch, caplog):
    a_processor(native=False)
    monkeypatch.setattr(device, "slowdown", lambda: 24.4)
    choose_precision("bfloat16")
    assert "a matrix product takes 24 times as long as in float32" in caplog.text
    caplog.clear()
    choose_precision("float32")
    assert not caplog.records


def test_what_is_chosen_is_at_most_a_little_slower_than_float32():
    """On the processor at hand, whichever it is: an emulated bfloat16 takes ten times as long or more."""
    assert choose_precision("auto") == "float32" or slowdown() < 2
    assert slowdown() > 0


@pytest.mark.parametrize(
    ("cpuinfo", "flags"),
    [
        ("processor\t: 0\nflags\t\t: avx2 avx512_bf16\nflags\t\t: other\n", {"avx2", "avx512_bf16"}),
        ("Features\t: fp asimd bf16\n", {"fp", "asimd", "bf16"}),
        ("model name\t: no flags\n", set()),
    ],
)
def test_flags_are_those_of_linux(tmp_path, cpuinfo, flags):
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert processor_flags(tmp_path / "cpuinfo") == flags
    assert processor_flags(tmp_path / "none") == set()


def test_a_processor_that_is_told_to_be_small_has_no_units_for_bfloat16():
    code = "from pipeline_lib.runtime.device import multiplies_bfloat16; print(multiplies_bfloat16())"
    small = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    shown = subprocess.run([sys.executable, "-c", code], env=small, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"
