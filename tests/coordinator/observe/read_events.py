#!/usr/bin/env python3
"""Reads a TensorBoard event file by the public formats alone and prints it as JSON; exit 1 and a line if it is not one.

TFRecord: length (u64), masked CRC-32C of the length, data, masked CRC-32C of the data; little-endian. The data are
tensorflow.Event messages: wall_time=1, step=2, file_version=3, summary=5 {value=1 {tag=1, simple_value=2}}.
"""
import json
import struct
import sys


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(crc):
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(data):
    at = 0
    while at < len(data):
        length, length_crc = struct.unpack_from('<QI', data, at)
        if masked(crc32c(data[at:at + 8])) != length_crc:
            raise ValueError(f'byte {at}: CRC of a length is wrong')
        content = data[at + 12:at + 12 + length]
        (content_crc,) = struct.unpack_from('<I', data, at + 12 + length)
        if masked(crc32c(content)) != content_crc:
            raise ValueError(f'byte {at}: CRC of a record is wrong')
        yield content
        at += 16 + length


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(data):
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 1:
            value, at = struct.unpack_from('<d', data, at)[0], at + 8
        elif kind == 2:
            size, at = varint(data, at)
            value, at = data[at:at + size], at + size
        elif kind == 5:
            value, at = struct.unpack_from('<f', data, at)[0], at + 4
        else:
            raise ValueError(f'wire type {kind}')
        yield number, value


def event(data):
    result = {'values': []}
    for number, value in fields(data):
        if number == 1:
            result['wall_time'] = value
        elif number == 2:
            result['step'] = value
        elif number == 3:
            result['file_version'] = value.decode()
        elif number == 5:
            for _, one in fields(value):
                scalar = dict(fields(one))
                result['values'].append([scalar[1].decode(), str(scalar[2])])
        else:
            raise ValueError(f'field {number} of Event')
    return result


def main():
    with open(sys.argv[1], 'rb') as file:
        data = file.read()
    try:
        print(json.dumps([event(record) for record in records(data)]))
    except (ValueError, struct.error, IndexError) as error:
        sys.exit(f'{sys.argv[1]}: {error}')


if __name__ == '__main__':
    main()
