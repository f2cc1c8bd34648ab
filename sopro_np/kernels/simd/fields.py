"""A kernel's argument block as a type: `args.rows` is one load, at the offset that ops/abi.py says."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core.datamodel.models import PrimitiveModel
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, lower_getattr_generic, register_model

from sopro_np.kernels.simd.vector import I64, pointer
from sopro_np.ops.abi import FIELDS


class Fields(types.Type):
    """The address of one block of int64."""

    def __init__(self, block: str) -> None:
        self.offsets = {name: 8 * i for i, name in enumerate(FIELDS[block].split())}
        super().__init__(name=f"fields<{block}>")


@register_model(Fields)
class _FieldsModel(PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, I64)


@infer_getattr
class _FieldsAttributes(AttributeTemplate):
    key = Fields

    def generic_resolve(self, fields: Any, name: str) -> Any:
        return types.int64 if name in fields.offsets else None


@lower_getattr_generic(Fields)
def _load_field(context: Any, b: Any, fields: Any, address: Any, name: str) -> Any:
    return b.load(pointer(b, b.add(address, I64(fields.offsets[name])), I64), align=8)
