"""Kernels -> machine code of one target. Runs in a process of its own: `python -m sopro_np.kernels.compile OUT.o`.

Numba types a kernel and writes LLVM IR; the IR gets the target's triple and data layout, is optimised for it and
becomes an object file. Nothing of Numba's run time is left in it.
"""

from __future__ import annotations

import os
import sys

os.environ["NUMBA_OPT"] = "0"  # IR for any machine: the passes of this machine's CPU must not touch it
os.environ["NUMBA_LOOP_VECTORIZE"] = os.environ["NUMBA_SLP_VECTORIZE"] = "0"

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from numba import cfunc, types
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen

from sopro_np.kernels import attention, conv, embed, gemm, pack, quantise, rows, run, sampling
from sopro_np.kernels.simd.fields import Fields
from sopro_np.kernels.simd.tile import TARGET
from sopro_np.ops.abi import KERNELS

# Numba would also compile everything for the machine that it runs on, which may lack the target's instructions.
HOST_CODE: dict[Any, dict[str, Callable[..., Any]]] = {
    JITCodeLibrary: {
        "_optimize_functions": lambda self, module: None,
        "_optimize_final_module": lambda self: None,
        "_finalize_final_module": lambda self: setattr(self, "_finalized", True),
        "get_pointer_to_function": lambda self, name: self._ensure_finalized() or 0,
    },
    JITCPUCodegen: {"set_env": lambda self, name, env: None},
}
for owner, replaced in HOST_CODE.items():
    for name, instead in replaced.items():
        getattr(owner, name)  # a Numba that works in another way shall fail here
        setattr(owner, name, instead)

PLACES = (attention, conv, embed, pack, quantise, rows, sampling)  # each kernel has its name in one of them


def kernels() -> Iterator[tuple[str, Any, Callable[..., Any]]]:
    """(symbol, signature, Python function) of everything in a pack."""
    for name, block in KERNELS.items():
        if name.startswith("gemm_"):
            function = gemm.make_gemm(name.removeprefix("gemm_"))
        else:
            (function,) = {getattr(place, name) for place in PLACES if hasattr(place, name)}
        yield name, types.void(Fields(block), types.int64), function
    yield "run", types.void(types.int64, types.int64, types.int64), run.run
    yield "worker", types.void(types.int64, types.int64, types.int64), run.worker


def module_of(symbol: str, signature: Any, function: Callable[..., Any], machine: Any) -> Any:
    """One kernel as an LLVM module in which only `symbol` is visible."""
    compiled = cfunc(signature, error_model="numpy")(function)
    text = compiled._library.get_llvm_str()
    lines = [line for line in text.splitlines() if not line.startswith(("target triple", "target datalayout"))]
    module = llvm.parse_assembly("\n".join(lines))
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    for value in module.functions:
        if value.is_declaration:
            continue
        if value.name == compiled._wrapper_name:
            value.name = symbol
        else:
            value.linkage = "internal"
    for value in module.global_variables:
        if not value.is_declaration:
            value.linkage = "internal"
    return module


def compile_all() -> bytes:
    """All kernels in one object file."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(TARGET.triple).create_target_machine(
        cpu=TARGET.cpu, features=TARGET.features, opt=3, reloc="pic", codemodel="small"
    )
    whole = None
    for symbol, signature, function in kernels():
        module = module_of(symbol, signature, function, machine)
        passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
        passes.getModulePassManager().run(module, passes)
        if whole is None:
            whole = module
        else:
            whole.link_in(module)
    return machine.emit_object(whole)


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(compile_all())
