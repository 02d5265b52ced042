"""delay.py PORT SECONDS: holds each packet of a lab's switch for so long, both ways between PORT and the bridge; for kernels without netem. In
the switch's namespace, until it is killed; says "ready". What a network card would do (checksums, segments) goes along undone, as it came.
"""
import collections
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import time

TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
TAP, NO_PI, VNET_HDR = 0x2, 0x1000, 0x4000
CSUM_TSO4_TSO6 = 7
ALL = socket.htons(3)  # ETH_P_ALL
SOL_PACKET, PACKET_VNET_HDR, OUTGOING = 263, 15, 4
LARGEST = 1 << 17


def main(port, seconds):
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", b"delayed", TAP | NO_PI | VNET_HDR))
    fcntl.ioctl(tap, TUNSETOFFLOAD, CSUM_TSO4_TSO6)
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, ALL)
    wire.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    wire.bind((port, 0))
    subprocess.run(["ip", "-batch", "-"], input=f"link set {port} nomaster\nlink set delayed master switch up\n", text=True, check=True)
    print("ready", flush=True)
    held = collections.deque()  # (due, what passes it on, packet)
    while True:
        timeout = max(0, held[0][0] - time.monotonic()) if held else None
        ready, _, _ = select.select([tap, wire], [], [], timeout)
        due = time.monotonic() + seconds
        if tap in ready:
            held.append((due, wire.send, os.read(tap, LARGEST)))
        if wire in ready:
            packet, source = wire.recvfrom(LARGEST)
            if source[2] != OUTGOING:  # its own come by again
                held.append((due, lambda packet: os.write(tap, packet), packet))
        while held and held[0][0] <= time.monotonic():
            _, pass_on, packet = held.popleft()
            try:
                pass_on(packet)
            except OSError:
                pass  # lost, as on a network


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
