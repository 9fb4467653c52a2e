"""Names in PyTorch's pickles: storage types, dtypes, and all that checkpoints of plain weights refer to.

The list of allowed names is the one that PyTorch itself loads with weights_only=True, where it has a meaning without
running code. Source: torch/_weights_only_unpickler.py (_get_allowed_globals).
"""

from __future__ import annotations

from typing import Final

from samebits.cas.formats.pickle_reader import Global

# torch's storage type -> (ours, or None where we compute with no such type; bytes an element)
STORAGES: Final[dict[str, tuple[str | None, int]]] = {
    "BoolStorage": ("bool", 1),
    "CharStorage": ("i8", 1),
    "ShortStorage": ("i16", 2),
    "IntStorage": ("i32", 4),
    "LongStorage": ("i64", 8),
    "ByteStorage": ("u8", 1),
    "HalfStorage": ("f16", 2),
    "BFloat16Storage": ("bf16", 2),
    "FloatStorage": ("f32", 4),
    "DoubleStorage": ("f64", 8),
    "ComplexFloatStorage": (None, 8),
    "ComplexDoubleStorage": (None, 16),
    "QInt8Storage": (None, 1),
    "QUInt8Storage": (None, 1),
    "QUInt4x2Storage": (None, 1),
    "QUInt2x4Storage": (None, 1),
    "QInt32Storage": (None, 4),
}
# torch's dtype -> ours; every other dtype has no name here
DTYPES: Final[dict[str, str]] = {
    "bool": "bool",
    "int8": "i8",
    "int16": "i16",
    "int32": "i32",
    "int64": "i64",
    "uint8": "u8",
    "uint16": "u16",
    "uint32": "u32",
    "uint64": "u64",
    "float16": "f16",
    "bfloat16": "bf16",
    "float32": "f32",
    "float64": "f64",
}
_OTHER_DTYPES: Final = (
    *("complex32", "complex64", "complex128", "qint8", "qint32", "quint8", "quint2x4", "quint4x2", "float4_e2m1fn_x2"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
    *("bits8", "bits16", "bits1x8", "bits2x4", "bits4x2"),
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in range(1, 8)),
)
_QUANTIZERS: Final = (
    *("per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric"),
    "per_channel_affine_float_qparams",
)
_ELEMENT_TYPES: Final = ("BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short")
_REBUILD: Final = (
    *("tensor", "tensor_v2", "tensor_v3", "parameter", "parameter_with_state", "qtensor", "sparse_tensor"),
    *("nested_tensor", "meta_tensor_no_storage", "wrapper_subclass"),
    *("device_tensor_from_numpy", "device_tensor_from_cpu_tensor"),
)
ORDERED_DICT: Final = Global("collections", "OrderedDict")
COUNTER: Final = Global("collections", "Counter")
TENSOR: Final = Global("torch", "Tensor")
PARAMETER: Final = Global("torch.nn.parameter", "Parameter")
REBUILD_FROM_TYPE: Final = Global("torch._tensor", "_rebuild_from_type_v2")
SIZE: Final = Global("torch", "Size")
UNTYPED_STORAGE: Final = Global("torch.storage", "UntypedStorage")
ALLOWED: Final = frozenset(
    [
        *(ORDERED_DICT, COUNTER, TENSOR, PARAMETER, REBUILD_FROM_TYPE, SIZE, UNTYPED_STORAGE),
        Global("_codecs", "encode"),
        *(Global("builtins", name) for name in ("bytearray", "complex", "set")),
        Global("torch", "device"),
        Global("torch.serialization", "_get_layout"),
        Global("torch.storage", "TypedStorage"),
        *(Global("torch._utils", f"_rebuild_{name}") for name in _REBUILD),
        *(Global("torch", name) for name in (*STORAGES, *DTYPES, *_OTHER_DTYPES, *_QUANTIZERS)),
        *(Global("torch.cuda", name) for name in STORAGES if not name.startswith("Q")),
        *(Global(module, f"{name}Tensor") for module in ("torch", "torch.cuda") for name in _ELEMENT_TYPES),
        *(
            Global(module, f"{name}Tensor")
            for module in ("torch.sparse", "torch.cuda.sparse")
            for name in _ELEMENT_TYPES
            if name != "Bool"
        ),
    ]
)
