"""The batch invariants again, on kernels that this processor would not choose by itself.

PyTorch picks its kernels by the processor; `ATEN_CPU_CAPABILITY` and `ONEDNN_MAX_CPU_ISA` force older ones. A processor
without native bfloat16 products cannot be made to have them, so that one runs all kernels only where it has them.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parents[1]
CAPABILITIES = ("DEFAULT", "AVX2", "AVX512")
RUN = """
import sys, pytest, torch
assert torch.backends.cpu.get_cpu_capability() == sys.argv[1], torch.backends.cpu.get_cpu_capability()
sys.exit(pytest.main(["-p", "no:cacheprovider", *sys.argv[2:]]))
"""


def run_on(capability, instructions, chosen):
    """Runs the batch invariants in a process of its own; `chosen`: pytest's -k."""
    if CAPABILITIES.index(torch.backends.cpu.get_cpu_capability()) < CAPABILITIES.index(capability):
        pytest.skip(f"this processor has no {capability}")
    forced = {"ATEN_CPU_CAPABILITY": capability.lower(), "ONEDNN_MAX_CPU_ISA": instructions, "OMP_NUM_THREADS": "1"}
    files = [TESTS / "invariants" / "test_inv_batches.py", TESTS / "posteriors" / "test_tail.py"]
    command = [sys.executable, "-c", RUN, capability, "-k", chosen, *map(str, files)]
    found = subprocess.run(
        command,
        cwd=TESTS.parent,
        env={**os.environ, **forced},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-1000:]
    assert "passed" in found.stdout


def test_bfloat16_scores_do_not_depend_on_the_batch_on_older_kernels():
    run_on("AVX2", "AVX2", "bfloat16 and not chunks")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("capability", "instructions"),
    [("DEFAULT", "SSE41"), ("AVX2", "AVX2_VNNI_2"), ("AVX512", "AVX512_CORE"), ("AVX512", "AVX512_CORE_BF16")],
)
def test_the_batch_invariants_hold_on_every_kernel(capability, instructions):
    run_on(capability, instructions, "test")
