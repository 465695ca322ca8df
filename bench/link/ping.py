#!/usr/bin/env python3
"""Round trips to an address by ICMP echo, which the other side's kernel answers. Needs root.

usage: ping.py ADDRESS COUNT

Prints the milliseconds of each echo, one a line; ends with 1 when one is not answered within a second.
"""
import os
import select
import socket
import struct
import sys
import time

ECHO_REQUEST, ECHO_REPLY = 8, 0
TIMEOUT_S = 1.0
INTERVAL_S = 0.02


def checksum(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def echo(ident, sequence):
    payload = b'kvswarm bench   '
    header = struct.pack('!BBHHH', ECHO_REQUEST, 0, 0, ident, sequence)
    return struct.pack('!BBHHH', ECHO_REQUEST, 0, checksum(header + payload), ident, sequence) + payload


def main():
    address, count = sys.argv[1], int(sys.argv[2])
    ident = os.getpid() & 0xFFFF
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    for sequence in range(count):
        start = time.perf_counter()
        sock.sendto(echo(ident, sequence), (address, 0))
        while True:
            left = start + TIMEOUT_S - time.perf_counter()
            if left <= 0 or not select.select([sock], [], [], left)[0]:
                sys.exit(1)
            packet = sock.recv(2048)
            offset = (packet[0] & 15) * 4
            kind, _, _, ident_got, sequence_got = struct.unpack('!BBHHH', packet[offset : offset + 8])
            if (kind, ident_got, sequence_got) == (ECHO_REPLY, ident, sequence):
                break
        print('%.3f' % ((time.perf_counter() - start) * 1000), flush=True)
        time.sleep(INTERVAL_S)


main()
