"""Reads a safetensors file by the public format alone and prints what is in it, one tensor a line."""
import json
import struct
import sys

LETTERS = {"F64": "d", "F32": "f", "I64": "q", "I32": "i", "I16": "h", "I8": "b", "U8": "B", "BOOL": "?"}

data = open(sys.argv[1], "rb").read()
(length,) = struct.unpack("<Q", data[:8])
header = json.loads(data[8:8 + length])
tensors = data[8 + length:]
assert (8 + length) % 8 == 0
for key, value in sorted(header.pop("__metadata__", {}).items()):
    print(f"# {key} = {value}")
used = 0
for name, info in header.items():
    begin, end = info["data_offsets"]
    assert begin == used, name
    used = end
    letter = LETTERS[info["dtype"]]
    values = struct.unpack(f"<{(end - begin) // struct.calcsize(letter)}{letter}", tensors[begin:end])
    print(name, info["dtype"], info["shape"], list(values))
assert used == len(tensors)
